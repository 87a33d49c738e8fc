"""A training step on a GPU: launched operation by operation as the peers do it (plain.py), and
as `aggan train` takes it, recorded once and replayed, with crops cut where the images lie.

Both take turns in one process, a round of steps each; milliseconds are per step, the host's work
included. Memory is what PyTorch holds of the GPU beyond what was held before. FLOP are counted on
the plain way's and our own forward and backward passes; the ceiling is what 3x3 convolutions of
256 channels attain in bfloat16 on this GPU. The plain step leaves PyTorch's settings as they are,
which lets a GPU round float32 convolutions to TF32.
"""

import argparse
import contextlib
import itertools
import statistics
from collections.abc import Callable

import torch
from harness import seconds
from plain import PlainAGGAN, plain_optimizers, with_plain_layers
from step import LAYERS, gigaflop, new_method, random_batch
from torch import Tensor
from torch.nn import functional as F

from aggan.data import Batch, PairDataset, PairRecord, Stored
from aggan.data.batches import ResumableBatchSampler, augmented, step_inputs
from aggan.runtime.distributed import start_processes
from aggan.training import make_step, set_up

PRECISIONS = {"float32": "32-true", "tf32": "tf32", "bf16": "bf16-mixed"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--methods", nargs="*", default=["ag-gan"], help="as `aggan methods` lists them"
    )
    parser.add_argument("--sizes", type=int, nargs="*", default=[256], help="pixels of a side")
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 16], help="pairs a step")
    parser.add_argument(
        "--precisions",
        nargs="*",
        default=list(PRECISIONS),
        choices=list(PRECISIONS),
        help="of our step",
    )
    parser.add_argument("--width", type=int, default=64, help="channels of the first layers")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each")
    parser.add_argument("--steps", type=int, default=20, help="steps of a round")
    parser.add_argument(
        "--steady", type=int, default=1000, help="steps over which our memory is watched"
    )
    parser.add_argument("--device", default="cuda", help="where; a CPU only shows that this runs")


class Noise(PairDataset):
    """Pairs of random bytes, a little larger than the crops."""

    def load(self, index: int) -> Stored:
        side, generator = self.image_size * 9 // 8, torch.Generator().manual_seed(index)
        return Stored(
            *torch.randint(256, (2, 3, side, side), generator=generator, dtype=torch.uint8)
        )


def plain_step(
    name: str, size: int, width: int, batch_size: int, device: torch.device
) -> Callable[[], dict[str, Tensor]]:
    """The reference on a batch that lies on the device."""
    batch = Batch(*(image.to(device) for image in random_batch(size, batch_size)[:2]), [], [])
    if name == "ag-gan":
        with device:
            plain = PlainAGGAN(width, layers=LAYERS.get(size, (3, 4)))
        return lambda: plain.step(batch.thermal, batch.visible)
    method = with_plain_layers(new_method(name, size, width).to(device))
    optimizers = plain_optimizers(method)
    return lambda: method.training_step(batch, optimizers)


def our_step(
    name: str, size: int, width: int, batch_size: int, precision: str
) -> Callable[[], dict[str, Tensor]]:
    """What the training loop repeats, the making of the batch included."""
    method, fabric = (
        new_method(name, size, width),
        start_processes(1, 1, batch_size, PRECISIONS[precision]),
    )
    optimizers = set_up(fabric, method)
    pairs = Noise([PairRecord(str(n), str(n)) for n in range(64)], size)
    order = ResumableBatchSampler(len(pairs), batch_size, seed=0, start=0, steps=10**9)
    inputs, make_batch = step_inputs(
        augmented(pairs, size, size * 9 // 8, method.paired), order, fabric.device
    )
    step = make_step(method, optimizers, fabric, make_batch)
    return lambda: step(*next(inputs))


@contextlib.contextmanager
def default_settings():
    """PyTorch's own choice of algorithms and precision, for the reference."""
    places = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    kept, benchmark = [place.fp32_precision for place in places], torch.backends.cudnn.benchmark
    places[0].fp32_precision, places[1].fp32_precision, torch.backends.cudnn.benchmark = (
        "tf32",
        "ieee",
        False,
    )
    yield
    torch.backends.cudnn.benchmark = benchmark
    for place, precision in zip(places, kept):
        place.fp32_precision = precision


def held(device: torch.device) -> float:
    """GiB of the GPU that PyTorch holds at the most since it was last asked."""
    if device.type != "cuda":
        return 0.0
    most = torch.cuda.max_memory_reserved() / 2**30
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return most


def made(
    make: Callable[[], Callable], device: torch.device, warm_up: int = 6
) -> tuple[Callable, float]:
    """A step that has been taken a few times, and the GiB that this took."""
    before = held(device) and torch.cuda.memory_reserved() / 2**30
    step = make()
    for _ in range(warm_up):
        step()
    return step, held(device) - before


def ceiling(device: torch.device) -> float:
    """10^9 operations a second of 3x3 convolutions of 256 channels in bfloat16: the best of
    several.
    """
    narrow = dict(dtype=torch.bfloat16, device=device)
    count = 64 if device.type == "cuda" else 1
    x, weight = (
        torch.randn(shape, **narrow).to(memory_format=torch.channels_last)
        for shape in ((count, 256, 66, 66), (256, 256, 3, 3))
    )
    with torch.inference_mode():
        return (
            2
            * 9
            * 256
            * 256
            * 64
            * 64
            * count
            / 1e9
            / min(seconds(lambda: F.conv2d(x, weight)) for _ in range(20))
        )


def repeated(step: Callable, count: int) -> float:
    """Seconds of a step, of so many in a row."""
    return seconds(lambda: [step() for _ in range(count)]) / count


def growth(step: Callable, steps: int, device: torch.device) -> float:
    """MiB by which the GPU memory held grows from a tenth of the steps to the last."""
    if device.type != "cuda":
        return 0.0
    repeated(step, steps // 10)
    before = torch.cuda.memory_reserved()
    repeated(step, steps - steps // 10)
    return (torch.cuda.memory_reserved() - before) / 2**20


def measure_one(
    name: str, size: int, batch_size: int, precision: str, limit: float, given: argparse.Namespace
) -> dict:
    """A row: one method, size, batch and precision."""
    device, work = torch.device(given.device), (name, size, given.width, batch_size)
    with default_settings():
        plain, plain_gib = made(lambda: plain_step(*work, device), device)
    ours, our_gib = made(lambda: our_step(*work, precision), device)
    times = []
    for _ in range(given.rounds):
        with default_settings():
            reference = repeated(plain, given.steps)
        times.append((reference, repeated(ours, given.steps)))
    took = statistics.median(own for _, own in times)
    operations = gigaflop(our_step(*work, precision))
    return {
        "method": name,
        "size": size,
        "batch": batch_size,
        "precision": precision,
        "reference_ms": 1e3 * statistics.median(reference for reference, _ in times),
        "ours_ms": 1e3 * took,
        "ratio": statistics.median(reference / own for reference, own in times),
        "ours_gflop": operations,
        "of_bf16_ceiling": operations / took / limit,
        "bf16_ceiling_gflops": limit,
        "reference_gib": plain_gib,
        "ours_gib": our_gib,
        "grown_mib": growth(ours, given.steady, device),
    }


def measure(given: argparse.Namespace) -> list[dict]:
    if given.device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(
            "there is no GPU here: run this where there is one "
            "(`aggan bench step` times the step on a CPU)"
        )
    limit = ceiling(torch.device(given.device))
    return [
        measure_one(*case, limit, given)
        for case in itertools.product(given.methods, given.sizes, given.batches, given.precisions)
    ]
