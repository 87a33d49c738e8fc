"""What the first ten minutes on a GPU should tell, the most valuable first: whether recorded steps,
every method, every precision and the fall-back work, and where the time and the memory go.

A row a check: OK, FAIL with the first cause, or SKIP where the time left does not suffice or there
is no GPU. On a CPU the others run through at a smaller size, which only shows that they run.
"""

import argparse
import gc
import itertools
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from unittest import mock

import torch
from gpu import Noise
from torch import Tensor, nn
from torch.nn import functional as F

from aggan.data import AugmentedPairs, PairRecord, ResidentPairs, collate
from aggan.data.batches import ResumableBatchSampler, augmented, step_inputs
from aggan.experiments import PROFILES, Experiment, fast_translator, run_experiment
from aggan.methods import create_method, list_methods
from aggan.runtime.cuda_graphs import GraphedStep, first_cause
from aggan.runtime.devices import BFLOAT16_CAPABILITY, default_device, describe_device, free_memory
from aggan.runtime.distributed import start_processes
from aggan.training import make_step, set_learning_rates, set_up

DEVICE = default_device()
GPU = DEVICE.type == "cuda"
OLD = GPU and torch.cuda.get_device_capability() < BFLOAT16_CAPABILITY  # e.g. a T4: float32 alone
PRECISIONS = ("32-true",) if OLD else ("bf16-mixed", "tf32", "32-true")
FASTEST = PRECISIONS[0]
SIZE, BATCH = (128, 8) if GPU else (32, 2)  # those of the profile gpu
CHECKS: dict[str, tuple[int, Callable[[], str]]] = {}  # seconds that each needs, and the function


class Skipped(Exception):
    """A check that has nothing to say here."""


def needs_gpu() -> None:
    """Skip the check on a CPU."""
    if not GPU:
        raise Skipped("there is no GPU")


def check(seconds: int) -> Callable:
    """Decorator: register a check that takes about so many seconds on a GPU."""

    def register(function: Callable[[], str]) -> Callable[[], str]:
        CHECKS[function.__name__] = seconds, function
        return function

    return register


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=540.0, help="for all checks")
    parser.add_argument("--checks", nargs="*", choices=list(CHECKS), help="which (default: all)")


def noise(count: int, size: int) -> Noise:
    return Noise([PairRecord(f"{n}_a", str(n)) for n in range(count)], size)


def step_of(
    name: str = "ag-gan",
    precision: str = FASTEST,
    cuda_graph: bool = True,
    layout: torch.memory_format = torch.preserve_format,
    batch_size: int = BATCH,
) -> Callable[[int], dict[str, Tensor]]:
    """A numbered step of a method at the size of the profile gpu, on noise."""
    torch.manual_seed(0)
    kwargs = PROFILES["gpu" if GPU else "smoke"].method_kwargs[name]
    method = create_method(name, image_size=SIZE, **kwargs).to(memory_format=layout)
    fabric = start_processes(1, 1, batch_size, precision)
    optimizers = set_up(fabric, method)
    order = ResumableBatchSampler(64, batch_size, 0, 0, 10**6)
    images = augmented(noise(64, SIZE), SIZE, SIZE * 9 // 8, method.paired)
    inputs, make_batch = step_inputs(images, order, fabric.device)
    step = make_step(method, optimizers, fabric, make_batch, cuda_graph)

    def take(number: int) -> dict[str, Tensor]:
        torch.manual_seed(number)
        return step(*next(inputs))

    return take


def milliseconds(step: Callable[[int], object], count: int = 20, warm_up: int = 6) -> float:
    """Of one step, after a few that are not timed."""
    for number in range(warm_up if GPU else 1):
        step(number)
    if GPU:
        torch.cuda.synchronize()
    count, start = count if GPU else 1, time.perf_counter()
    for number in range(count):
        step(number)
    if GPU:
        torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - start) / count


@check(1)
def machine() -> str:
    versions = f"torch {torch.__version__}, CUDA {torch.version.cuda}"
    return f"{describe_device()}, {versions}, cuDNN {torch.backends.cudnn.version()}"


@check(60)
def recorded_steps_equal_steps() -> str:
    """tests/test_capture.py on the GPU."""
    needs_gpu()
    tests = Path(__file__).parents[1] / "tests" / "test_capture.py"
    command = [sys.executable, "-m", "pytest", tests, "-k", "gpu", "-p", "no:xdist", "--tb=line"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150)
    said = [line for line in done.stdout.splitlines() if "passed" in line or "Error" in line]
    if done.returncode:
        raise RuntimeError(" | ".join(said[-6:]))
    return said[-1]


@contextmanager
def interrupted_at(step: int) -> Iterator[None]:
    """A block in which a training is interrupted before a step."""
    steps = itertools.count(1)

    def set_rates(*arguments):
        if next(steps) == step:
            raise KeyboardInterrupt
        return set_learning_rates(*arguments)

    with mock.patch("aggan.training.set_learning_rates", set_rates):
        yield


@check(120)
def every_method() -> str:
    """Train in the fastest precision, validate twice, replay after it, resume and judge, at the
    size smoke."""
    said = []
    overrides = {"precision": FASTEST, "steps": 12, "checkpoints": 3}
    # the last experiment still maps its faces, which Windows does not delete
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        where = {"runs": f"{place}/runs", "cache": f"{place}/faces"}
        for name in list_methods():
            experiment = Experiment(name, profile="smoke", overrides=overrides, **where)
            with warnings.catch_warnings():
                warnings.filterwarnings("error", "The training step cannot be recorded")
                with suppress(KeyboardInterrupt), interrupted_at(11):
                    run_experiment(experiment)
                report = run_experiment(experiment)
            said.append(f"{name} {report['psnr']:.1f} dB")
    return ", ".join(said)


@check(60)
def recorded_losses() -> str:
    """Replayed and plain steps from the same weights: random positions, dropout."""
    said = []
    for name in ("ag-gan", "cut", "pix2pix"):
        rows = []
        for cuda_graph in (False, True):
            step = step_of(name, "32-true", cuda_graph, batch_size=2)
            count = 8 if GPU else 2
            rows.append([[float(v) for v in step(n).values()] for n in range(count)])
        pairs = zip(itertools.chain(*rows[0]), itertools.chain(*rows[1]))
        worst = max(abs(one - other) / max(1e-6, abs(one)) for one, other in pairs)
        if worst > 1e-2:  # atomics stay below; frozen randomness does not
            raise RuntimeError(f"{name}: relative difference {worst:.1e}")
        said.append(f"{name} {worst:.1e}")
    return "largest relative difference: " + ", ".join(said)


@check(20)
def tf32_starts() -> str:
    from lightning_fabric.accelerators.cuda import _check_cuda_matmul_precision

    _check_cuda_matmul_precision.cache_clear()  # an earlier run would hide a failure
    for precision in ("32-true", "tf32", "32-true"):
        start_processes(1, 1, 1, precision)
    step_of("pix2pix", "tf32")(0)
    return "yes"


@check(20)
def unrecordable_step() -> str:
    """A step that asks the host is taken without recording, and later recordings work."""
    needs_gpu()

    def asks(x: Tensor) -> dict[str, Tensor]:
        return {"sum": (x * torch.rand_like(x)).sum() * float(x.max())}

    graphed = GraphedStep(asks, DEVICE, [])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        taken = {float(graphed(torch.ones(8))["sum"]) for _ in range(7)}
    if torch.cuda.current_stream() != torch.cuda.default_stream():
        raise RuntimeError("the stream of the recording is still the current one")
    images, kernel = torch.rand(1, 3, 9, 9, device=DEVICE), torch.rand(4, 3, 3, 3, device=DEVICE)
    F.conv2d(images, kernel).sum().item()
    later = GraphedStep(lambda x: {"sum": (x * torch.rand_like(x)).sum()}, DEVICE, [])
    replayed = {float(later(torch.ones(8))["sum"]) for _ in range(7)}
    said = " | ".join(str(warning.message)[:160] for warning in caught)
    if len(caught) != 1 or len(taken) != 7 or len(replayed) != 7:
        raise RuntimeError(f"{len(taken)} and {len(replayed)} of 7 values differ; said: {said}")
    return said


@check(150)
def milliseconds_of_a_step() -> str:
    """AG-GAN in both memory layouts."""
    said = []
    for precision in PRECISIONS:
        for layout in (torch.preserve_format, torch.channels_last):
            taken = milliseconds(step_of("ag-gan", precision, layout=layout))
            said.append(f"{precision} {str(layout).removeprefix('torch.')} {taken:.1f}")
            free_memory()
    said.append(f"{FASTEST} not recorded {milliseconds(step_of(cuda_graph=False), 10):.1f}")
    return ", ".join(said)


@check(40)
def kernels() -> str:
    """Shares of the time of a step; the longest kernels."""
    from torch.profiler import ProfilerActivity, profile

    step = step_of()
    milliseconds(step, 3)
    activity = ProfilerActivity.CUDA if GPU else ProfilerActivity.CPU
    with profile(activities=[activity]) as profiled:
        milliseconds(step, 5, 0)

    def took(row) -> float:
        return row.self_device_time_total if GPU else row.self_cpu_time_total

    rows = sorted(profiled.key_averages(), key=took, reverse=True)
    total = sum(map(took, rows)) or 1
    groups = {
        "float32 products": ("f32f32", "sgemm", "fp32", "ffma"),
        "layout copies": ("nchw", "nhwc", "copy"),
        "reflection": ("reflection",),
        "norm": ("norm",),
    }
    shares = {
        group: sum(took(row) for row in rows if any(word in row.key.lower() for word in words))
        for group, words in groups.items()
    }
    said = [f"{group} {100 * share / total:.1f} %" for group, share in shares.items()]
    longest = [f"{row.key[:50]} {100 * took(row) / total:.1f} %" for row in rows[:6]]
    return ", ".join(said) + "; " + ", ".join(longest)


@check(20)
def resident_crops() -> str:
    """Batches cut on the device are the loader's."""
    images = AugmentedPairs(noise(16, SIZE), SIZE, SIZE * 9 // 8)
    items = [(n, 77 + n) for n in range(8)]
    ours = ResidentPairs(images, DEVICE)(torch.tensor([images.crops(item) for item in items]))
    theirs = collate([images[item] for item in items])
    apart = float((ours.visible.cpu() - theirs.visible).abs().max())
    if apart > 1e-6:  # a GPU multiplies by 1/255
        raise RuntimeError(f"they differ by {apart:.1e}")
    return f"largest difference {apart:.1e}"


@check(60)
def translation() -> str:
    """Images a second, on a GPU at 256²; compiled and not."""
    side, width = (256, {}) if GPU else (SIZE, {"width": 8, "blocks": 1})
    layers = {"discriminator_layers": (3, 4)}  # none of them translates
    method = create_method("ag-gan", image_size=side, identity="none", **width, **layers)
    images = torch.rand(2 * BATCH, 3, side, side, device=DEVICE) * 2 - 1
    ways = list(dict.fromkeys([("32-true", False), (FASTEST, False)])) + [(FASTEST, True)] * GPU
    said, exact = [], None
    for precision, compiled in ways:
        translate = fast_translator(method, precision, compiled)
        faces = translate(images)
        exact = faces if exact is None else exact
        rate = 1e3 * len(images) / milliseconds(lambda _, run=translate: run(images), 10, 2)
        off = float((faces - exact).abs().max())
        said.append(f"{precision}{' compiled' * compiled} {rate:.0f}/s, off by {off:.3f}")
    return "; ".join(said)


@check(30)
def memory() -> str:
    """What a step holds, and what 300 replays and a validation batch add."""
    step = step_of()
    milliseconds(step, 5)
    held = torch.cuda.memory_reserved() if GPU else 0
    milliseconds(step, 300, 0)
    layers = {"discriminator_layers": (3, 4)}
    method = create_method("ag-gan", image_size=SIZE, identity="none", **layers)
    fast_translator(method)(torch.rand(4 * BATCH, 3, SIZE, SIZE, device=DEVICE))
    more = (torch.cuda.memory_reserved() - held) / 2**20 if GPU else 0
    return f"{held / 2**30:.2f} GiB held, {more:.0f} MiB more afterwards"


@check(5)
def instance_norm_gradient() -> str:
    """PyTorch's gradient of one image from a channels-last gradient; aggan never asks for it."""
    torch.manual_seed(0)
    norm, apart = nn.InstanceNorm2d(8), []
    image, gradient = torch.randn(2, 1, 8, 6, 6, device=DEVICE)
    for layout in (torch.contiguous_format, torch.channels_last):
        x = image.clone().requires_grad_()
        norm(x).backward(gradient.contiguous(memory_format=layout))
        apart.append(x.grad)
    return f"differs by {float((apart[0] - apart[1]).abs().max()):.1e} between layouts"


def judged(name: str, left: float) -> dict[str, str | float]:
    """The row of a check."""
    needs, function = CHECKS[name]
    gc.collect()
    free_memory()
    start, result, found = time.perf_counter(), "SKIP", f"{left:.0f} s left"
    if left >= needs:
        try:
            with redirect_stdout(sys.stderr):  # the table alone is printed
                result, found = "OK", function()
        except Skipped as reason:
            found = str(reason)
        except Exception as error:
            traceback.print_exc(limit=-4)
            cause = first_cause(error)
            result, found = "FAIL", f"{type(cause).__name__}: {str(cause)[:400]}"
    seconds = time.perf_counter() - start
    print(f"{result:4} {name}: {found} [{seconds:.0f} s]", file=sys.stderr, flush=True)
    return {"check": name, "result": result, "found": found, "seconds": seconds}


def measure(given: argparse.Namespace) -> list[dict]:
    end = time.perf_counter() + given.seconds
    return [judged(name, end - time.perf_counter()) for name in given.checks or CHECKS]
