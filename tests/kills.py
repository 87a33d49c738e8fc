"""Kill a task again and again at random moments until it is done, and compare what it made.

    python tests/kills.py train|prepare|translate NUMBER FOLDER

Children are forked, so that a kill costs no start of Python. Prints the number of kills.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from aggan.data import PairDataset
from aggan.data.pairs import PairRecord, Stored
from aggan.data.prepare import prepare
from aggan.data.store import verify_store
from aggan.experiments import translate_folder
from aggan.methods import Method, create_method
from aggan.methods.registry import backward_and_step
from aggan.runtime.checkpoints import read_checkpoint
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


def run_train(sources, output):
    """Train, with a state at every row."""
    output.mkdir(exist_ok=True)
    delete_temporary(output)
    sizes = dict(batch_size=2, image_size=16, load_size=18)
    often = dict(steps=60, checkpoint_every=6, log_every=2, resume_seconds=0.0)
    train(Linear(), Noise(), output, **sizes, **often)


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


def make_sources(task, folder):
    if task == "prepare":
        write_pictures(folder, 150, ("thermal", "visible"))
    if task == "translate":
        write_pictures(folder, 60, ("thermal",))
        options = {"image_size": 32, "width": 4, "discriminator_width": 4}
        tensors = network_tensors(create_method("pix2pix", **options))
        header = {"method": "pix2pix", "method_kwargs": options}
        save_checkpoint(folder / "a.safetensors", tensors, header)


def start(run, sources, output):
    """The number of a forked process that runs a task in silence."""
    if child := os.fork():
        return child
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    try:
        run(sources, output)
    except BaseException as error:
        (output.parent / "error").write_text(repr(error))
        os._exit(1)
    os._exit(0)


def main(task, number, folder):
    run, made = globals()[f"run_{task}"], globals()[f"made_{task}"]
    sources, output = folder / "sources", folder / "killed"
    make_sources(task, sources)
    began = time.monotonic()
    assert os.waitpid(start(run, sources, folder / "whole"), 0)[1] == 0, "the task fails"
    seconds, expected, kills = time.monotonic() - began, made(folder / "whole"), 0
    while True:
        child = start(run, sources, output)
        last = kills >= number
        if not last:
            time.sleep(random.uniform(0, 0.8 * seconds))
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        kills += status == signal.SIGKILL
        assert status in (0, signal.SIGKILL), (folder / "error").read_text()
        if status == 0:
            assert made(output) == expected
            assert not list(output.rglob(".*.tmp"))
            if last:
                break
            shutil.rmtree(output)
    print(kills)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
