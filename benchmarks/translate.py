"""How fast thermal images become visible ones: AG-GAN's forward pass beside the same network as
its peers write it, and a whole folder beside the pass alone.

The reference is the generator of `plain.py`, eager and without gradients, with the same weights;
memory is kept or given back alike for both. GFLOP are those of an image.
The folder row reads and writes PNG as `aggan
translate` does; what it is compared with is our own pass alone, on as many images in memory: its
ratio is the share of the time in which the device is kept busy.
"""

import argparse
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path

import plain
import torch
from harness import alternate
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from aggan.data import open_thermal
from aggan.experiments import default_device, fast_translator, translate_images
from aggan.layers import LIN
from aggan.methods import Method, create_method
from aggan.synthetic.rendering import FaceKey, render


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--size", type=int, nargs="+", default=[256], help="pixels of a side, one or several"
    )
    parser.add_argument(
        "--width", type=int, default=64, help="channels of the generator's first layer"
    )
    parser.add_argument("--batch", type=int, default=8, help="images at a time")
    parser.add_argument(
        "--images",
        type=int,
        default=64,
        help="images in the folder; 10000 where a GPU is to be had",
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each is timed")
    parser.add_argument(
        "--precision",
        nargs="+",
        default=["32-true"],
        help='of ours: "32-true", "bf16-mixed" or both',
    )


def plain_generator(generator: nn.Module, width: int) -> nn.Module:
    """The plain network with the same weights: both list them in the same order."""
    made = plain.Generator(width)
    with torch.no_grad():
        for theirs, own in zip(made.parameters(), generator.parameters(), strict=True):
            theirs.copy_(own.view_as(theirs))
    return made.eval().to(default_device())


def trained_looking(method: Method) -> Method:
    """A method whose learned shares and shifts are no longer at their starting values, so that
    none of them is left untested.
    """
    torch.manual_seed(0)
    for module in method.generator.modules():
        if hasattr(module, "rho"):
            nn.init.uniform_(module.rho)
        if isinstance(module, LIN):
            nn.init.normal_(module.beta, std=0.1)
    return method.eval().to(default_device())


def write_thermal(folder: Path, count: int, size: int) -> None:
    """Thermal PNGs of rendered faces, sixteen of them in turn."""
    faces = render([FaceKey(n) for n in range(16)], size=size).thermal.mul(255).byte()[:, 0].numpy()
    folder.mkdir()
    for n in range(count):
        Image.fromarray(faces[n % 16]).save(folder / f"{n:06d}.png")


def gflop(call: Callable) -> float:
    """GFLOP of a call: of convolutions, and of matrix products."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 1e9


def measure(given: argparse.Namespace) -> list[dict]:
    rows = []
    for size in given.size:
        method = trained_looking(
            create_method(
                "ag-gan", width=given.width, image_size=size, identity="none", discriminator_width=8
            )
        )
        faces = (
            render([FaceKey(n) for n in range(given.batch)], size=size).thermal.expand(
                -1, 3, -1, -1
            )
            * 2
            - 1
        )
        faces = faces.contiguous().to(default_device())
        for precision in given.precision:
            ours, row = (
                fast_translator(method, precision),
                {"size": size, "batch": given.batch, "precision": precision},
            )
            rows += [
                row | forward_row(method, faces, ours, given),
                row | folder_row(method, faces, ours, given, size, precision),
            ]
    return rows


def forward_row(method: Method, faces: Tensor, ours: Callable, given: argparse.Namespace) -> dict:
    """The generator's forward pass beside the reference's."""
    network = plain_generator(method.generator, given.width)

    @torch.no_grad()
    def reference(faces: Tensor = faces) -> Tensor:
        return network(faces)[0]

    times = alternate(reference, lambda: ours(faces), given.rounds)
    row = {
        "what": "forward",
        "reference images/s": given.batch / times["reference_s"],
        "ours images/s": given.batch / times["ours_s"],
        "ratio": times["ratio"],
        "difference": float((ours(faces) - reference()).abs().max()),
        "reference GFLOP": gflop(lambda: reference(faces[:1])),
        "ours GFLOP": gflop(lambda: ours(faces[:1])),
    }
    return row | {"ours GFLOP/s": row["ours GFLOP"] * row["ours images/s"]}


def folder_row(
    method: Method,
    faces: Tensor,
    ours: Callable,
    given: argparse.Namespace,
    size: int,
    precision: str,
) -> dict:
    """A folder translated, in turn with as many forward passes."""
    passes = -(-given.images // given.batch)
    with tempfile.TemporaryDirectory() as place:
        write_thermal(Path(place) / "thermal", given.images, size)
        images = open_thermal(Path(place) / "thermal", image_size=size)
        outputs = (Path(place) / str(n) for n in itertools.count())
        times = alternate(
            lambda: [ours(faces) for _ in range(passes)],
            lambda: translate_images(
                method, images, next(outputs), given.batch, precision=precision
            ),
            given.rounds,
            warm_up=0,
        )
    return {
        "what": f"folder of {given.images}, of the pass alone",
        "reference images/s": passes * given.batch / times["reference_s"],
        "ours images/s": given.images / times["ours_s"],
        "ratio": times["ratio"] * given.images / (passes * given.batch),
    }
