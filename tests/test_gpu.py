"""What a GPU does differently, on a stand-in that refuses what a GPU refuses, and on the CPU."""

import fcntl
import itertools
import logging
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from unittest import mock

import pytest
import torch
from simulated_gpu import GpuTensor, Host, SimulatedGraph, simulated_gpu
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms.v2.functional import to_pil_image

from aggan.data import AugmentedPairs, Batch, PairDataset, PairRecord, Stored
from aggan.data.batches import ResumableBatchSampler, step_inputs
from aggan.experiments import PROFILES, Experiment, run_experiment, run_training, translate_folder
from aggan.experiments.inference import default_device, fast_translator, load_method
from aggan.methods import create_method, inference_kwargs, list_methods
from aggan.methods.blocks import BatchNorm
from aggan.runtime import cuda_graphs, devices, distributed
from aggan.runtime.cuda_graphs import GraphedStep
from aggan.runtime.files import atomic_write
from aggan.runtime.run_folder import RunFolder
from aggan.training import make_step, set_learning_rates, set_up, train

SIZE = 32


def fresh(name, losses=True):
    """A small method, if asked for without the pretrained networks of its losses."""
    torch.manual_seed(0)
    options = PROFILES["smoke"].method_kwargs[name] | ({} if losses else inference_kwargs(name))
    return create_method(name, image_size=SIZE, **options)


def noise(count, device="cpu"):
    images = torch.rand(2, count, 3, SIZE, SIZE) * 2 - 1
    return Batch(*images.to(device), [], [])


class Noise(PairDataset):
    """Pairs of random bytes; every third thermal image is grey where `mixed`."""

    mixed = False

    def __init__(self, count=8):
        super().__init__([PairRecord(f"{n // 4}_{n}", str(n // 4)) for n in range(count)], SIZE)

    def load(self, index):
        generator = torch.Generator().manual_seed(index)
        pair = torch.randint(256, (2, 3, 36, 36), generator=generator, dtype=torch.uint8)
        return Stored(pair[0][: 1 if self.mixed and index % 3 == 2 else 3], pair[1])


class Mixed(Noise):
    mixed = True


# device and precision


def test_every_precision_starts_after_every_other():
    with simulated_gpu():
        for precision in ("32-true", "tf32", "32-true", "bf16-mixed", "tf32"):
            fabric = distributed.start_processes(1, 1, 1, precision)
            assert fabric.device.type == "cuda"
            products = "ieee" if precision == "32-true" else "tf32"
            # of the frozen networks of losses, which Fabric does not wrap
            assert torch.backends.cudnn.conv.fp32_precision == products
            assert torch.backends.cudnn.allow_tf32 == (products == "tf32")
            assert torch.backends.cuda.matmul.fp32_precision == products


def test_training_takes_the_device_that_everything_else_takes():
    """On Apple silicon, where Fabric's "auto" would take another."""
    with (
        mock.patch("lightning_fabric.accelerators.mps.MPSAccelerator.is_available", lambda: True),
        mock.patch("lightning_fabric.accelerators.mps.MPSAccelerator.auto_device_count", lambda: 1),
    ):
        assert distributed.start_processes(1, 1, 1).device == default_device()


def test_a_card_without_bfloat16_is_refused_before_work(tmp_path):
    experiment = Experiment(
        "pix2pix", profile="smoke", overrides={"precision": "bf16-mixed"}, runs=tmp_path
    )
    with simulated_gpu(capability=(7, 5)):
        for start in (
            lambda: run_training(experiment),
            lambda: fast_translator(fresh("pix2pix"), "bf16-mixed"),
            lambda: translate_folder("none", tmp_path, tmp_path / "out", precision="bf16-mixed"),
        ):
            with pytest.raises(ValueError, match="Simulated GPU has compute .* 7.5.*32-true"):
                start()
        distributed.start_processes(1, 1, 1, "32-true")
    assert not list(tmp_path.iterdir())


def test_device_and_memory_are_said_before_the_work(caplog):
    caplog.set_level(logging.INFO, logger="aggan")
    with simulated_gpu():
        devices.announce_device("training")
    assert caplog.messages == ["training on Simulated GPU (79.0 of 80.0 GiB free)"]


def test_a_card_that_pytorch_cannot_use_is_named(tmp_path, monkeypatch, caplog):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'Tesla P100-PCIE-16GB, 450.80.02'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    devices.announce_device("training")
    assert "Tesla P100-PCIE-16GB, 450.80.02" in caplog.text and "on the CPU" in caplog.text
    caplog.clear()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    devices.announce_device("training")
    assert not caplog.text


def test_algorithms_are_measured_in_training_steps_alone():
    seen = []

    def watching(kind):
        class Watching(kind):
            def training_step(self, *arguments):
                seen.append(torch.backends.cudnn.benchmark)
                return super().training_step(*arguments)

        return Watching

    take, _ = recorded_step(fresh("pix2pix", losses=False), watching)
    take(0)
    assert seen == [True] and not torch.backends.cudnn.benchmark


class Convolutions(TorchDispatchMode):
    """Collects the types in which convolutions compute, forwards and backwards."""

    def __init__(self):
        super().__init__()
        self.types = []

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        if "convolution" in str(function):
            self.types.append(arguments[0].dtype)
        return function(*arguments, **(keywords or {}))


def step_in(name, precision, batch):
    """The losses of a first step, and the types of its convolutions."""
    method = fresh(name, losses=False)
    fabric = distributed.start_processes(1, 1, len(batch.thermal), precision)
    optimizers = set_up(fabric, method)
    torch.manual_seed(1)
    with Convolutions() as convolutions:
        losses = method.training_step(batch, optimizers, fabric.backward)
    return {name: float(loss) for name, loss in losses.items()}, convolutions.types


@pytest.mark.parametrize("name", list_methods())
def test_every_convolution_of_a_mixed_step_is_in_bfloat16(name):
    batch = noise(2)
    exact, types = step_in(name, "32-true", batch)
    assert set(types) == {torch.float32}
    mixed, types_mixed = step_in(name, "bf16-mixed", batch)
    assert set(types_mixed) == {torch.bfloat16} and len(types_mixed) == len(types)
    assert mixed == pytest.approx(exact, rel=0.05, abs=0.01)


ARGUMENTS = {  # of the functions beside forward, from a network and images
    "attend": lambda network, images: (images,),
    "features": lambda network, images: (images,),
    "from_features": lambda network, images: (network.features(images),),
    "decode": lambda network, images: (*network(images, "thermal"), "visible"),
}


@pytest.mark.parametrize("name", [name for name in list_methods() if fresh(name).forward_methods])
def test_functions_beside_forward_are_exact_in_float32(name):
    method, images = fresh(name, losses=False), noise(2).thermal
    set_up(distributed.start_processes(1, 1, 2, "32-true"), method)
    for network, functions in method.forward_methods.items():
        wrapped = getattr(method, network)
        for function in functions:
            arguments = ARGUMENTS[function](wrapped.module, images)
            own, other = (getattr(part, function) for part in (wrapped.module, wrapped))
            assert own != other
            torch.testing.assert_close(other(*arguments), own(*arguments), rtol=0, atol=0)


def test_atomic_writes_synchronise_a_file_that_is_open_for_writing(tmp_path, monkeypatch):
    """Windows refuses others."""

    def fsync(descriptor):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic_write(tmp_path / "a.txt") as part:
        part.write_text("whole")
    assert (tmp_path / "a.txt").read_text() == "whole"


# images on the GPU


def inputs_of(pairs, device):
    images = AugmentedPairs(pairs, SIZE, 36)
    order = ResumableBatchSampler(len(pairs), 4, 0, 0, 2)
    inputs, make_batch = step_inputs(images, order, torch.device(device))
    return [make_batch(*tensors) for tensors in inputs], make_batch


def test_grey_and_colour_images_train_on_a_gpu_too():
    expected, _ = inputs_of(Mixed(), "cpu")
    with simulated_gpu(), pytest.warns(UserWarning, match="each step loads its images.*channels"):
        loaded, _ = inputs_of(Mixed(), "cuda")
        assert all(isinstance(batch.thermal, GpuTensor) for batch in loaded)
        pairs = [(one.thermal, other.thermal.cpu()) for one, other in zip(expected, loaded)]
    assert all(torch.equal(one, other) for one, other in pairs)


# recording


def recorded_step(method, change=None, cuda_graph=True):
    """A function that takes a numbered step of a method on the stand-in, and `make_step`'s."""
    fabric = distributed.start_processes(1, 1, 2)
    optimizers = set_up(fabric, method)
    if change:
        method.__class__ = change(type(method))

    def make_batch(*images):
        return Batch(*(image.to(fabric.device) for image in images), [], [])

    made = make_step(method, optimizers, fabric, make_batch, cuda_graph)

    def take(number):
        torch.manual_seed(number)
        losses = made(*noise(2)[:2])
        return [float(loss) for loss in losses.values()]

    return take, made


def asks_the_host(kind):
    """A step with a branch on a value, which cannot be recorded."""

    class Asking(kind):
        def training_step(self, batch, *arguments):
            if batch.thermal.mean() > 10:
                raise AssertionError
            return super().training_step(batch, *arguments)

    return Asking


def test_a_step_that_asks_the_host_is_taken_without_recording():
    with simulated_gpu():
        take, _ = recorded_step(fresh("pix2pix"))
        expected = [take(number) for number in range(7)]
        take, step = recorded_step(fresh("pix2pix"), asks_the_host)
        with pytest.warns(UserWarning, match="cannot be recorded .*reads a GPU tensor") as caught:
            assert [take(number) for number in range(7)] == expected
    assert len(caught) == 1
    assert not step.recordable and step.graph is not None  # its memory is still in use


def test_gradients_of_a_broken_recording_are_dropped():
    weight = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.1)

    class Broken(SimulatedGraph):
        def record(self, call):
            weight.grad = torch.full((2,), float("nan"))
            raise RuntimeError("broken")

    seen = []

    def step(x):
        seen.append(weight.grad)
        return {"sum": x.sum()}

    graphed = GraphedStep(step, torch.device("cpu"), [optimizer], Broken, warm_up=0)
    with pytest.warns(UserWarning, match="broken"):
        graphed(torch.ones(2)), graphed(torch.ones(2))
    assert seen == [None, None]


def test_a_broken_recording_leaves_stream_and_generator_as_they_were(monkeypatch):
    current, clones = [mock.Mock(device_index=0)], []
    before = current[0]

    class Recording:
        def __init__(self, *arguments, **keywords):
            current[0] = "the stream of the recording"

        def __enter__(self):
            pass

        def __exit__(self, *error):
            raise RuntimeError("operation failed due to a previous error during capture")

    generator = mock.Mock(clone_state=lambda: "a copy", graphsafe_set_state=clones.append)
    for name, value in {
        "CUDAGraph": mock.Mock,
        "Stream": mock.Mock,
        "graph": Recording,
        "current_stream": lambda: current[0],
        "set_stream": lambda stream: current.__setitem__(0, stream),
        "default_generators": [generator],
    }.items():
        monkeypatch.setattr(torch.cuda, name, value, raising=False)

    def call():
        raise RuntimeError("the first cause")

    with pytest.raises(RuntimeError, match="previous error") as caught:
        cuda_graphs.CudaGraph().record(call)
    assert str(cuda_graphs.first_cause(caught.value)) == "the first cause"
    assert current == [before] and clones == ["a copy"]


@pytest.mark.parametrize("declined", ["environment", "argument", "method", "nothing"])
def test_recording_can_be_switched_off(declined, monkeypatch):
    method = fresh("pix2pix")
    if declined == "environment":
        monkeypatch.setenv("AGGAN_CUDA_GRAPH", "off")
    if declined == "method":
        method.cuda_graph = False
    with simulated_gpu():
        take, step = recorded_step(method, cuda_graph=declined != "argument")
        for number in range(5):
            take(number)
    assert isinstance(step, GraphedStep) == (declined == "nothing")
    assert SimulatedGraph.replays == (2 if declined == "nothing" else 0)


def test_learning_rates_are_read_on_the_host_once():
    with simulated_gpu():
        optimizer = torch.optim.Adam([nn.Parameter(torch.ones(2, device="cuda"))], lr=0.2)
        cuda_graphs.make_capturable(optimizer)
        set_learning_rates({"line": optimizer}, 1.0)
        before = Host.transfers
        for factor in (0.5, 0.25):
            set_learning_rates({"line": optimizer}, factor)
        assert Host.transfers == before
        assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(0.05)


def test_another_value_of_the_switch_is_refused(monkeypatch):
    monkeypatch.setenv("AGGAN_CUDA_GRAPH", "0")
    with pytest.raises(ValueError, match="AGGAN_CUDA_GRAPH '0'; there are 'on', 'off'"):
        cuda_graphs.graphs_on()


@pytest.mark.parametrize("at", [1, 4], ids=["in a step", "in the recording"])
def test_too_little_memory_is_a_sentence(tmp_path, at):
    method = fresh("pix2pix")

    class Hungry(type(method)):
        calls = 0

        def training_step(self, *arguments):
            Hungry.calls += 1
            if Hungry.calls == at:
                raise torch.OutOfMemoryError("Tried to allocate 2.00 GiB")
            return super().training_step(*arguments)

    method.__class__ = Hungry
    settings = dict(batch_size=4, image_size=SIZE, load_size=36, steps=6)
    with simulated_gpu(), pytest.raises(RuntimeError) as caught:
        train(method, Noise(), tmp_path, **settings)
    message = str(caught.value)
    assert "batch_size of 4" in message and "--no-cuda-graph" in message
    assert "Tried to allocate 2.00 GiB" in message


# several processes


def test_a_notebook_is_told_to_train_in_one_process(monkeypatch):
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.delenv("SLURM_NTASKS", raising=False)
    with pytest.raises(ValueError, match="A notebook trains in one process, not in 2"):
        distributed.start_processes(2, 1, 2)


def test_a_long_validation_does_not_end_a_run():
    assert distributed.gradient_averaging()._timeout.total_seconds() == 24 * 3600


RANKS = """
import os, sys, time
from pathlib import Path
from aggan.runtime.distributed import rank, start_processes
start_processes(2, 1, 2)
Path(sys.argv[1], str(rank())).write_text(str(os.getpid()))
time.sleep(600)  # as one that waits for a collective of NCCL, which does not notice
"""


def ended(process: int) -> bool:
    """Whether a process is gone, or has ended and is not collected."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("dies", [0, 1])
def test_a_process_that_dies_takes_the_others_with_it(tmp_path, dies):
    program = tmp_path / "ranks.py"
    program.write_text(RANKS)
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    started = subprocess.Popen([sys.executable, program, tmp_path], env=environment)
    files = [tmp_path / "0", tmp_path / "1"]
    try:
        while not all(file.exists() and file.read_text() for file in files):
            assert started.poll() is None
            time.sleep(0.1)
        numbers = [int(file.read_text()) for file in files]
        os.kill(numbers[dies], 9)
        until = time.monotonic() + 60
        while not all(map(ended, numbers)) and time.monotonic() < until:
            time.sleep(0.5)
        assert all(map(ended, numbers))
    finally:
        started.kill()
        started.wait()


# evaluation and gradients


@pytest.mark.parametrize("name", ["axial-gan", "pix2pix", "sg-gan"])
def test_translating_after_batches_of_one_asks_the_host_nothing(name):
    method = fresh(name, losses=False)
    set_up(distributed.start_processes(1, 1, 1), method)
    with torch.no_grad():
        method.generator(
            method.generator_input(noise(1).thermal) if name == "axial-gan" else noise(1).thermal
        )
    state = method.generator.state_dict()
    loaded = fresh(name, losses=False)
    loaded.generator.load_state_dict(state)
    assert all(norm.single for norm in loaded.generator.modules() if isinstance(norm, BatchNorm))
    images = noise(2).thermal
    expected = loaded.translate(images)
    with simulated_gpu():
        on_gpu, images = loaded.to("cuda"), images.to("cuda")
        before = Host.transfers
        translated = on_gpu.translate(images)
        assert Host.transfers == before
        assert torch.equal(translated.cpu(), expected)


@pytest.mark.parametrize("name", list_methods())
def test_translating_compiles_into_one_graph(name):
    torch._dynamo.reset()
    method = fresh(name, losses=False).eval()
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explained = torch._dynamo.explain(method.translate)(noise(2).thermal)
    assert explained.graph_break_count == 0, explained.break_reasons


class NormGradients:
    """Collects the gradients that reach the instance normalisations of a network."""

    def __init__(self, network):
        self.layouts = []
        for module in network.modules():
            if isinstance(module, nn.InstanceNorm2d):
                module.register_forward_hook(self.watch)

    def watch(self, module, inputs, output):
        if output.requires_grad and len(output) == 1:
            output.register_hook(lambda gradient: self.layouts.append(channels_last(gradient)))


def channels_last(gradient):
    dense = gradient.is_contiguous()
    return not dense and gradient.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("name", list_methods())
def test_no_instance_norm_gets_a_channels_last_gradient_of_one_image(name, precision):
    """For one image PyTorch 2.15 computes a wrong gradient from it on a CPU."""
    method = fresh(name, losses=False)
    watched = NormGradients(method)
    fabric = distributed.start_processes(1, 1, 1, precision)
    method.training_step(noise(1), set_up(fabric, method), fabric.backward)
    assert not any(watched.layouts)
    uses = any(isinstance(module, nn.InstanceNorm2d) for module in method.modules())
    assert bool(watched.layouts) == uses


# all of it


def interrupted_at(step):
    """A replacement that interrupts a training before a step."""
    steps = itertools.count(1)

    def set_rates(*arguments):
        if next(steps) == step:
            raise KeyboardInterrupt
        return set_learning_rates(*arguments)

    return mock.patch("aggan.training.set_learning_rates", set_rates)


def whole_run(name, precision, place):
    """Train, validate, interrupt, resume, judge, explain and translate on the stand-in."""
    overrides = {"precision": precision, "steps": 8, "checkpoints": 2, "resamples": 20}
    experiment = Experiment(
        name, profile="smoke", overrides=overrides, runs=place / "runs", cache=place / "faces"
    )
    folder = place / "thermal"
    folder.mkdir(exist_ok=True)
    for number, image in enumerate(noise(3).thermal):
        to_pil_image(image[:1] / 2 + 0.5).save(folder / f"{number}.png")
    with simulated_gpu(), warnings.catch_warnings():
        warnings.filterwarnings("error", "The training step cannot be recorded")
        with pytest.raises(KeyboardInterrupt), interrupted_at(6):
            run_experiment(experiment)
        assert SimulatedGraph.replays == 2 and RunFolder(experiment.folder).steps_done == 4
        report = run_experiment(experiment)
        assert SimulatedGraph.replays == 3
        maps = load_method(experiment.folder).explain(noise(2).thermal.to("cuda"))
        assert all(isinstance(value, GpuTensor) for value in maps.values())
        done = translate_folder(experiment.folder, folder, place / "faces of the folder")
    assert done.translated == 3
    return report, RunFolder(experiment.folder)


@pytest.mark.parametrize(
    "name, precision",
    [
        pytest.param(
            name, precision, marks=[] if (name, precision) == ("ag-gan", "bf16-mixed") else slow
        )
        for slow in [pytest.mark.soak]
        for name in list_methods()
        for precision in ("bf16-mixed", "32-true")
    ],
)
def test_a_whole_run_on_the_stand_in(name, precision, tmp_path):
    report, run = whole_run(name, precision, tmp_path)
    assert 0 <= report["eer"] <= 1 and [row["step"] for row in run.metrics()] == [4, 8]
    assert "cuda" in report["machine"]
