"""Every method trained for a few steps by the processes that share its batches: `python
several_processes.py DEVICES FOLDER`.
"""

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
    """A small method, with pools that are soon full."""
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
    """In double precision, in which nothing but a mistake is larger than 1e-9."""
    torch.set_default_dtype(torch.float64)
    try:
        train(method.double(), pairs, folder, precision="64-true", **settings(devices))
    finally:
        torch.set_default_dtype(torch.float32)


def faces(folder):
    """Sixteen rendered pairs, kept in a folder."""
    return open_pairs(
        "synthetic-arl",
        image_size=SIZE,
        render_size=36,
        subjects={"train": 4},
        images_per_subject=4,
        cache=Path(folder) / "faces",
    )


def stops(step, kind):
    """A kind of method that is interrupted in its step of that number."""

    class Stopped(kind):
        def training_step(self, *arguments):
            self.calls = getattr(self, "calls", 0) + 1
            if self.calls == step:
                raise KeyboardInterrupt
            return super().training_step(*arguments)

    return Stopped


def explodes(kind):
    """A kind of method whose loss is no number in the last process."""

    class Exploding(kind):
        def training_step(self, *arguments):
            losses = super().training_step(*arguments)
            return {name: loss / (rank() == 0) for name, loss in losses.items()}

    return Exploding


def main(devices, folder):
    start_processes(devices, 1, BATCH)
    folder = Path(folder) / f"process{rank()}"  # files of any process but the first would show
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
    """What each process says when the last one's loss is no number."""
    method = fresh("pix2pix")
    method.__class__ = explodes(type(method))
    try:
        train(method, pairs, folder / "exploded", **settings(devices))
    except FloatingPointError as error:
        (folder.parent / f"exploded{rank()}").write_text(str(error))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
