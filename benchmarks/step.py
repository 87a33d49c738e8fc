"""A training step of AG-GAN beside the same step written plainly (plain.py), and of the other
methods beside themselves with plain layers.

Each contestant is a process of its own, with or without the allocator that `aggan train` gives
itself (`aggan.runtime.allocator`). They take a step in turn, so that a busy machine slows all of
them, and a ratio is the median over the rounds. FLOP are those of direct convolutions, forward and
backward; the ceiling is what 3x3 convolutions of 256 channels attain on this machine. What frozen
networks judge (identity, perceptual, parsing terms) is left out on both sides.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from harness import seconds
from lightning_fabric import Fabric
from peers import peer_step, steps_of
from plain import PlainAGGAN, plain_optimizers, with_plain_layers
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from aggan.data import Batch
from aggan.methods import Method, create_method, list_methods
from aggan.runtime.allocator import allocator_environment
from aggan.training import set_up

LAYERS = {
    64: (5, 6),
    128: (5, 7),
    256: (5, 7),
}  # of AG-GAN's discriminators: seven are too many for 64 pixels
ALONE = {
    "lg-gan": {"lambda_perceptual": 0.0, "identity": "none"},
    "sg-gan": {"lambda_perceptual": 0.0, "identity": "none", "parser": "none"},
    "axial-gan": {"lambda_perceptual": 0.0},
    "ag-gan": {"identity": "none"},
    "ag-gan+": {"identity": "none"},
}  # without frozen networks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sizes", type=int, nargs="*", default=[64, 128, 256], help="pixels of a side, for AG-GAN"
    )
    parser.add_argument(
        "--methods",
        nargs="*",
        default=[],
        help='other methods, each beside itself with plain layers; "all": every one',
    )
    parser.add_argument(
        "--methods-size", type=int, default=128, help="pixels of a side, for the other methods"
    )
    parser.add_argument(
        "--rounds", type=int, default=9, help="steps of each contestant, after two to warm up"
    )
    parser.add_argument("--width", type=int, default=64, help="channels of the first layers")
    parser.add_argument(
        "--peer",
        default="",
        help="folder of a checkout of UGATIT-pytorch (for AG-GAN), or of "
        "pytorch-CycleGAN-and-pix2pix (for --methods cyclegan pix2pix), "
        "whose networks are the reference",
    )


def random_batch(size: int, batch_size: int = 1) -> Batch:
    """Thermal and visible images of noise in [-1, 1]."""
    generator = torch.Generator().manual_seed(1)
    return Batch(
        *(torch.rand(batch_size, 3, size, size, generator=generator) * 2 - 1 for _ in range(2)),
        None,
        None,
    )


def new_method(name: str, size: int, width: int) -> Method:
    """A method at that size, without the terms of frozen networks."""
    layers = (
        {"discriminator_layers": LAYERS.get(size, (3, 4))}
        if name in ("ag-gan", "ag-gan+", "u-gat-it")
        else {}
    )
    widths = {"width": width, "discriminator_width": width}
    if name == "flow-matching":  # has no discriminator
        del widths["discriminator_width"]
    return create_method(name, image_size=size, **widths, **ALONE.get(name, {}) | layers).train()


def contestant(
    who: str, size: int, width: int, precision: str = "float32", peer: str = "", batch_size: int = 1
) -> Callable[[], dict]:
    """A step that can be taken again and again: of "plain", a method's name, or "plain:" or
    "peer:" and a method's name.
    """
    torch.manual_seed(0)
    batch = random_batch(size, batch_size)
    layers = LAYERS.get(size, (3, 4))
    if who == "plain" or who.startswith("peer:"):
        taken = (
            PlainAGGAN(width, layers=layers).step
            if who == "plain"
            else peer_step(peer, who.removeprefix("peer:"), size, width, layers)
        )
        return lambda: taken(batch.thermal, batch.visible)
    name = who.removeprefix("plain:")
    method = new_method(name, size, width)
    if who != name:
        optimizers = plain_optimizers(with_plain_layers(method))
    elif precision == "bf16":  # as `aggan train --precision bf16-mixed`
        fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
        optimizers = set_up(fabric, method)
        return lambda: method.training_step(batch, optimizers, fabric.backward)
    else:
        optimizers = method.optimizers()
    return lambda: method.training_step(batch, optimizers)


class OneIteration(PlainAGGAN):
    """Judges the fake pairs of the discriminators' update without a power iteration: one for
    both halves, as where they are one batch.
    """

    judged = 0

    def judge(self, thermal: torch.Tensor, visible: torch.Tensor) -> list[torch.Tensor]:
        self.judged += 1
        self.discriminators.train(self.judged % 3 != 2)
        return super().judge(thermal, visible)


def copy_weights(plain: PlainAGGAN, method: Method) -> None:
    """Give the method the weights of the plain networks; both list their layers in the same
    order.
    """

    def layers(network):
        return [
            layer
            for layer in network.modules()
            if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear))
        ]

    with torch.no_grad():
        for source, target in zip(
            plain.generator.parameters(), method.generator.parameters(), strict=True
        ):
            target.copy_(source.view_as(target))
        for source, target in zip(
            layers(plain.discriminators), layers(method.discriminator), strict=True
        ):
            spectral = getattr(source, "parametrizations", None)
            target.weight.copy_(spectral.weight.original if spectral else source.weight)
            if source.bias is not None:
                target.bias.copy_(source.bias)
            if "u" in target._buffers:
                target.u.copy_(spectral.weight[0]._u), target.v.copy_(spectral.weight[0]._v)


def losses_side_by_side(
    size: int, width: int, steps: int, dtype: torch.dtype = torch.float32
) -> tuple[list[dict], list[dict]]:
    """Losses of the plain step and of ours, from the same weights on the same images."""
    torch.manual_seed(0)
    plain, method = (
        OneIteration(width, layers=LAYERS.get(size, (3, 4))),
        new_method("ag-gan", size, width).to(dtype),
    )
    plain.generator.to(dtype), plain.discriminators.to(dtype)
    copy_weights(plain, method)
    thermal, visible = (image.to(dtype) for image in random_batch(size)[:2])
    optimizers, batch = method.optimizers(), Batch(thermal, visible, None, None)
    return tuple(
        [{name: float(loss) for name, loss in step().items()} for _ in range(steps)]
        for step in (
            lambda: plain.step(thermal, visible),
            lambda: method.training_step(batch, optimizers),
        )
    )


def gigaflop(step: Callable) -> float:
    """10^9 operations of a step, a multiplication and an addition counted as two."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / 1e9


def peak_gib() -> float:
    """Most memory that this process has had, GiB. (`getrusage` would count its parent's too.)"""
    line = next(
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    return int(line.split()[1]) / 2**20


def serve(who: str, size: int, width: int, precision: str, peer: str, batch_size: int) -> None:
    """A contestant's process: a step for every line on standard input, its seconds and the
    process's peak memory on standard output.
    """
    step = contestant(who, size, width, precision, peer, batch_size)
    for _ in sys.stdin:
        taken = seconds(step)
        print(json.dumps({"seconds": taken, "gib": peak_gib()}), flush=True)


class Contestant:
    """The other end of `serve`."""

    def __init__(
        self,
        who: str,
        size: int,
        width: int,
        precision: str = "float32",
        keep: bool = True,
        peer: str = "",
        batch_size: int = 1,
    ):
        program = (
            "import sys; sys.path.insert(0, sys.argv[1]); import step; "
            "step.serve(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), *sys.argv[5:7], "
            "int(sys.argv[7]))"
        )
        bare = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("MALLOC_") and name != "GLIBC_TUNABLES"
        }
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                program,
                str(Path(__file__).parent),
                who,
                str(size),
                str(width),
                precision,
                peer,
                str(batch_size),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=allocator_environment(bare) if keep else bare,
        )
        self.seconds, self.gib = [], 0.0

    def step(self) -> None:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(
                "a process of the benchmark died, most likely for want of memory: "
                "leave out the largest size"
            )
        self.seconds.append(json.loads(answer)["seconds"])
        self.gib = json.loads(answer)["gib"]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def compete(contestants: dict[str, Contestant], rounds: int) -> dict[str, Contestant]:
    """Steps in turn; the two to warm up are forgotten."""
    try:
        for _ in range(rounds + 2):
            for one in contestants.values():
                one.step()
    finally:
        for one in contestants.values():
            one.close()
    for one in contestants.values():
        del one.seconds[:2]
    return contestants


def ratio(reference: Contestant, ours: Contestant) -> dict[str, float]:
    """How many times as long the reference takes: the median over the rounds and the quartiles."""
    quartiles = np.quantile(np.divide(reference.seconds, ours.seconds), [0.5, 0.25, 0.75])
    return dict(zip(("ratio", "lower_quartile", "upper_quartile"), map(float, quartiles)))


def ceiling(dtype: torch.dtype) -> float:
    """10^9 operations a second of 3x3 convolutions of 256 channels, forward: the best of
    several.
    """
    x, weight = torch.randn(1, 256, 34, 34, dtype=dtype), torch.randn(256, 256, 3, 3, dtype=dtype)
    gigaflop = 2 * 9 * 256 * 256 * 32 * 32 / 1e9
    with torch.inference_mode():
        return gigaflop / min(seconds(lambda: F.conv2d(x, weight)) for _ in range(3))


def row(
    what: str,
    reference: Contestant,
    ours: Contestant,
    work: float,
    reference_work: float,
    limit: float,
) -> dict:
    """One line of the table."""
    took, reference_took = statistics.median(ours.seconds), statistics.median(reference.seconds)
    return {
        "what": what,
        "reference_s": reference_took,
        "ours_s": took,
        **ratio(reference, ours),
        "reference_gflop": reference_work,
        "ours_gflop": work,
        "of_ceiling": work / took / limit,
        "reference_gib": reference.gib,
        "ours_gib": ours.gib,
        "memory_ratio": ours.gib / reference.gib,
    }


def measure_aggan(size: int, given: argparse.Namespace, limits: dict[str, float]) -> list[dict]:
    """AG-GAN at one size: the same allocator on both sides, and as a user runs both."""

    def made(who, **settings):
        return Contestant(who, size, given.width, **settings)

    ran = compete(
        {
            "plain": made("plain"),
            "ours": made("ag-gan"),
            "as users run it": made("plain", keep=False),
            "ours, bf16": made("ag-gan", precision="bf16"),
        },
        given.rounds,
    )
    work = [gigaflop(contestant(who, size, given.width)) for who in ("ag-gan", "plain")]
    return [
        row(
            f"AG-GAN {size}², {how}, {precision}",
            ran[reference],
            ran[ours],
            *work,
            limits[precision],
        )
        for how, reference in (
            ("same allocator", "plain"),
            ("as users run both", "as users run it"),
        )
        for precision, ours in (("float32", "ours"), ("bf16", "ours, bf16"))
    ]


def measure_method(name: str, given: argparse.Namespace, limits: dict[str, float]) -> dict:
    """Another method beside itself with plain layers, as users run both."""
    size = given.methods_size
    ran = compete(
        {
            "plain": Contestant(f"plain:{name}", size, given.width, keep=False),
            "ours": Contestant(name, size, given.width),
        },
        given.rounds,
    )
    work = gigaflop(contestant(f"plain:{name}", size, given.width))
    return row(
        f"{name} {size}², as users run both, float32",
        ran["plain"],
        ran["ours"],
        work,
        work,
        limits["float32"],
    )


def measure_peer(
    name: str, size: int, given: argparse.Namespace, limits: dict[str, float]
) -> list[dict]:
    """A method beside its step with a peer's networks: the same allocator on both sides, and as
    a user runs both.
    """
    with FakeTensorMode():  # counts without computing
        work, peers_work = (
            gigaflop(contestant(who, size, given.width, peer=given.peer))
            for who in (name, f"peer:{name}")
        )

    def made(who, **settings):
        return Contestant(who, size, given.width, peer=given.peer, **settings)

    ran = compete(
        {
            "same allocator": made(f"peer:{name}"),
            "as users run both": made(f"peer:{name}", keep=False),
            "ours": made(name),
        },
        given.rounds,
    )
    return [
        row(
            f"{name} {size}², a peer's networks, {how}, float32",
            ran[how],
            ran["ours"],
            work,
            peers_work,
            limits["float32"],
        )
        for how in ("same allocator", "as users run both")
    ]


def measure(given: argparse.Namespace) -> list[dict]:
    peers = (
        steps_of(given.peer)[1] if given.peer else ()
    )  # a wrong folder is refused before anything is measured
    limits = {"float32": ceiling(torch.float32), "bf16": ceiling(torch.bfloat16)}
    names = (
        [name for name in list_methods() if not name.startswith("ag-gan")]
        if given.methods == ["all"]
        else given.methods
    )
    if peers:
        cases = [
            (name, size)
            for name in peers
            for size in (
                given.sizes if name == "ag-gan" else [given.methods_size] * (name in names)
            )
        ]
        rows = [row for name, size in cases for row in measure_peer(name, size, given, limits)]
    else:
        rows = [row for size in given.sizes for row in measure_aggan(size, given, limits)] + [
            measure_method(name, given, limits) for name in names
        ]
    return [
        row | {"ceiling_gflops": limits["bf16" if row["what"].endswith("bf16") else "float32"]}
        for row in rows
    ]
