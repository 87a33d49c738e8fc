"""Kill tasks again and again until they are done, and compare what they made.

    python tests/kills.py FOLDER train=NUMBER train_two=NUMBER prepare=… translate=… export=…

Half of the kills come at random moments, half inside a write. Children are forked, so that a kill
costs no start of Python. Prints the kills of each task.
"""

import ctypes
import importlib
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import psutil
import torch
from killed_in_write.sitecustomize import die_in_write
from PIL import Image
from torch import nn

from aggan.data import PairDataset
from aggan.data.pairs import PairRecord, Stored
from aggan.data.prepare import prepare
from aggan.data.store import verify_store
from aggan.experiments import translate_folder
from aggan.methods import Method, create_method
from aggan.methods.registry import backward_and_step
from aggan.reproduction import command_line
from aggan.reproduction.notebooks import reproduce
from aggan.runtime.checkpoints import read_checkpoint
from aggan.runtime.distributed import rank, start_processes
from aggan.runtime.files import delete_temporary
from aggan.runtime.run_folder import RunFolder
from aggan.training import network_tensors, save_checkpoint, train


class Noise(PairDataset):
    """Eight pairs of noise."""

    def __init__(self):
        super().__init__([PairRecord(str(n), str(n)) for n in range(8)], 16)

    def load(self, index):
        generator = torch.Generator().manual_seed(index)
        return Stored(*(torch.rand(3, 16, 16, generator=generator) for _ in range(2)))


class Linear(Method):
    """A linear colour map with dropout."""

    trainable = ("line",)
    image_size = 16

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.line = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Dropout(0.2))

    def translate(self, thermal):
        return self.line(thermal)

    def training_step(self, batch, optimizers, backward=torch.Tensor.backward):
        loss = (self.translate(batch.thermal) - batch.visible).square().mean()
        backward_and_step(optimizers["line"], loss, backward)
        return {"squared": loss.detach()}


def run_train(sources, output, steps=60, devices=1):
    """Train, with a state at every row."""
    if rank() == 0:
        output.mkdir(exist_ok=True)
        delete_temporary(output)
    sizes = dict(batch_size=2, image_size=16, load_size=18)
    often = dict(steps=steps, checkpoint_every=6, log_every=2, resume_seconds=0.0)
    train(Linear(), Noise(), output, devices=devices, **sizes, **often)


def made_train(output):
    """Weights, optimiser state and metrics."""
    run = RunFolder(output)
    rows = [{name: row[name] for name in row if name != "seconds"} for row in run.metrics()]
    state, header = read_checkpoint(run.resume_file)
    weights = {str(step): read_checkpoint(path)[0] for step, path in run.checkpoints.items()}
    parts = {"state": state} | weights
    numbers = {
        f"{part} {name}": tensor.tolist()
        for part, tensors in parts.items()
        for name, tensor in tensors.items()
    }
    return rows, header["step"], numbers


def run_train_two(sources, output):
    """Train with two processes, the second of which is another start of this program."""
    sys.argv = [__file__, "join", str(output)]
    run_train(sources, output, steps=24, devices=2)


def join(output):
    """Be the second of two processes."""
    start_processes(2, 1, 2)
    run_train_two(None, output)


made_train_two = made_train


def write_pictures(folder, number, sides):
    generator = np.random.default_rng(0)
    for side in sides:
        (folder / side).mkdir(parents=True)
        for n in range(number):
            pixels = generator.integers(0, 255, (40, 40), np.uint8)
            Image.fromarray(pixels).save(folder / side / f"s{n % 8}_{n}.png")


def run_prepare(sources, output):
    prepare(sources, output, size=32, workers=0)


def made_prepare(output):
    assert sum(verify_store(output).values()) == 150
    return {path.name: path.read_bytes() for path in output.glob("*.pixels")}, json.loads(
        (output / "store.json").read_text()
    )


def run_translate(sources, output):
    translate_folder(sources / "a.safetensors", sources / "thermal", output, batch_size=4)


def made_translate(output):
    return {path.name: path.read_bytes() for path in output.glob("*.png")}


COMMAND = ("--onnx", "a.onnx", "--folder", "model")


def run_export(sources, output):
    """Write a model as ONNX and as a folder; one that is there is refused."""
    output.mkdir(exist_ok=True)
    os.chdir(output)
    for option, place in zip(COMMAND[::2], COMMAND[1::2]):
        if not Path(place).exists():
            arguments = ("export", sources / "a.safetensors", option, place)
            assert command_line.main(list(map(str, arguments))) == 0


def made_export(output):
    """The bytes of the files, and the tensors of the weights, whose header has no fixed order."""
    files = [output / "a.onnx", output / "model" / "config.json", output / "model" / "README.md"]
    tensors, header = read_checkpoint(output / "model" / "model.safetensors")
    numbers = {name: tensor.tolist() for name, tensor in tensors.items()}
    return [path.read_bytes() for path in files], numbers, header


SMALL = {"width": 8, "discriminator_width": 8, "identity": "none", "blocks": 1}
SHORT = {"steps": 4, "checkpoints": 2, "resamples": 20, "images_per_subject": 2}


def run_reproduce(sources, output):
    """Train AG-GAN in a notebook and write Figure 7 of its maps by another."""
    settings = {"profile": "smoke", "overrides": SHORT, "method_kwargs": {"ag-gan": SMALL}}
    output.mkdir(exist_ok=True)
    os.chdir(output)  # paths in the outputs are the same
    reproduce(["figure7"], runs="runs", cache=str(sources / "faces"), **settings)


def made_reproduce(output):
    """The table, the figure's pixels, weights, metrics and scores."""
    (run,) = map(RunFolder, (output / "runs").glob("synthetic-arl/ag-gan/*"))
    for path in (run.path / "train.ipynb", output / "runs" / "figure7" / "figure7.ipynb"):
        nbformat.read(path, 4)
    made = output / "runs" / "figure7"
    texts = {name: (made / name).read_text() for name in ("table.csv", "table.md")}
    texts["explanation"] = (run.path / "explanation.json").read_text()
    report = run.report | {"seconds": None}
    with Image.open(made / "epochs.png") as figure:
        return made_train(run.path), texts, report, figure.tobytes()


def make_sources(task, folder):
    if task == "prepare":
        write_pictures(folder, 150, ("thermal", "visible"))
    if task == "translate":
        write_pictures(folder, 60, ("thermal",))
    if task in ("translate", "export"):
        folder.mkdir(exist_ok=True)
        options = {"image_size": 32, "width": 4, "discriminator_width": 4}
        tensors = network_tensors(create_method("pix2pix", **options))
        header = {"method": "pix2pix", "method_kwargs": options}
        save_checkpoint(folder / "a.safetensors", tensors, header)


def import_before(task):
    """Import once what each forked process of a task would import anew."""
    if task == "export":
        for name in ("onnx", "onnxruntime", "onnxscript", "aggan.experiments.export"):
            importlib.import_module(name)


def start(run, sources, output, write=None):
    """The number of a forked process that runs a task in silence, and dies in a write."""
    if child := os.fork():
        return child
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    if write is not None:
        os.environ |= {"KILLED_IN_WRITE": str(write), "KILLED_PROGRAM": str(os.getpid())}
        die_in_write(write, os.getpid())
    try:
        run(sources, output)
    except BaseException as error:
        (output.parent / "error").write_text(repr(error))
        os._exit(1)
    os._exit(0)


def adopt_orphans():
    """Let this process be the parent of what its killed children have started."""
    PR_SET_CHILD_SUBREAPER = 36
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1) == 0


def assert_nothing_runs(seconds=5):
    """A child that is killed while Python starts ends as soon as that is done: so many seconds, and
    as many times more as there are more programs than cores."""
    end = time.monotonic() + seconds * max(1, os.getloadavg()[0] / os.cpu_count())
    while (left := psutil.Process().children(recursive=True)) and time.monotonic() < end:
        time.sleep(0.05)
        for process in left:
            if process.is_running() and process.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(process.pid, os.WNOHANG)
    assert not left, [process.cmdline() for process in left]


def killed_once(run, sources, output, seconds, writes):
    """Whether a task was killed: at a random moment, or in one of its writes."""
    write = random.randrange(writes) if random.random() < 0.5 else None
    child = start(run, sources, output, write)
    if write is None:
        time.sleep(random.uniform(0, 0.8 * seconds))
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), (output.parent / "error").read_text()
    assert_nothing_runs()
    return status == signal.SIGKILL


def complete(run, made, sources, output):
    """What a task makes that is not killed; nothing temporary is left beside it."""
    status = os.waitpid(start(run, sources, output), 0)[1]
    assert status == 0, (output.parent / "error").read_text()
    assert not list(output.rglob(".*.tmp"))
    return made(output)


def kill_task(task, number, folder):
    """Kill a task so often; whenever it was not killed, and at the end, compare what it made."""
    run, made = globals()[f"run_{task}"], globals()[f"made_{task}"]
    sources, output = folder / "sources", folder / "killed"
    make_sources(task, sources)
    began = time.monotonic()
    expected = complete(run, made, sources, folder / "whole")
    seconds, kills = time.monotonic() - began, 0
    writes = 2 * sum(path.is_file() for path in (folder / "whole").rglob("*"))
    while kills < number:
        was_killed = killed_once(run, sources, output, seconds, writes)
        kills += was_killed
        if not was_killed or kills == number:
            assert complete(run, made, sources, output) == expected, f"{task} differs"
            shutil.rmtree(output)


def main(folder, *tasks):
    adopt_orphans()
    for task, number in (part.split("=") for part in tasks):
        (folder / task).mkdir()
        import_before(task)
        kill_task(task, int(number), folder / task)
        print(task, number, flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "join":
        join(Path(sys.argv[2]))
    else:
        main(Path(sys.argv[1]), *sys.argv[2:])
