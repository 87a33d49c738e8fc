"""Train every method for a few steps in processes that share each batch.

Usage: python several_processes.py DEVICES FOLDER"""

import sys
from pathlib import Path

import torch

from aggan.data import open_pairs
from aggan.experiments import PROFILES
from aggan.methods import create_method, list_methods
from aggan.methods.blocks import ImagePool, TwoWay
from aggan.runtime.distributed import rank, rank_zero_first, start_processes
from aggan.training import train

STEPS, BATCH, SIZE = 3, 4, 32


def fresh(name):
    """A small method whose image pools are full after a few steps."""
    torch.manual_seed(0)
    method = create_method(name, image_size=SIZE, **PROFILES["smoke"].method_kwargs[name])
    if hasattr(method, "pools"):
        method.pools = TwoWay(
            ImagePool((3, SIZE, SIZE), size=3), ImagePool((3, SIZE, SIZE), size=3)
        )
    return method


def settings(devices):
    return dict(
        steps=STEPS,
        batch_size=BATCH,
        image_size=SIZE,
        load_size=36,
        log_every=1,
        checkpoint_every=2,
        devices=devices,
    )


def train_double(method, pairs, folder, devices):
    """Train in double precision, where rounding stays below 1e-9."""
    torch.set_default_dtype(torch.float64)
    try:
        train(method.double(), pairs, folder, precision="64-true", **settings(devices))
    finally:
        torch.set_default_dtype(torch.float32)


def faces(folder):
    """Sixteen rendered pairs, cached in a folder."""
    return open_pairs(
        "synthetic-arl",
        image_size=SIZE,
        render_size=36,
        subjects={"train": 4},
        images_per_subject=4,
        cache=Path(folder) / "faces",
    )


def stops(step, kind):
    """A subclass of `kind` whose step number `step` is interrupted."""

    class Stopped(kind):
        def training_step(self, *arguments):
            self.calls = getattr(self, "calls", 0) + 1
            if self.calls == step:
                raise KeyboardInterrupt
            return super().training_step(*arguments)

    return Stopped


def explodes(kind):
    """A subclass of `kind` whose loss is infinite in every process but rank 0."""

    class Exploding(kind):
        def training_step(self, *arguments):
            losses = super().training_step(*arguments)
            return {name: loss / (rank() == 0) for name, loss in losses.items()}

    return Exploding


def main(devices, folder):
    start_processes(devices, 1, BATCH)
    folder = Path(folder) / f"process{rank()}"  # shows which ranks write files
    pairs = faces(folder.parent)
    with rank_zero_first():
        pairs.prepare_data()
    for name in list_methods():
        train_double(fresh(name), pairs, folder / "double" / name, devices)
    if devices > 1:
        method = fresh("cyclegan")
        method.__class__ = stops(STEPS, type(method))
        try:
            train_double(method, pairs, folder / "stopped", devices)
        except KeyboardInterrupt:
            pass
    for name in ("ag-gan", "cut"):
        train(fresh(name), pairs, folder / "single" / name, **settings(devices))
    if devices > 1:
        explode(pairs, folder, devices)


def explode(pairs, folder, devices):
    """Write the error message of each process when one process has an infinite loss."""
    method = fresh("pix2pix")
    method.__class__ = explodes(type(method))
    try:
        train(method, pairs, folder / "exploded", **settings(devices))
    except FloatingPointError as error:
        (folder.parent / f"exploded{rank()}").write_text(str(error))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
