"""Whether training waits for its data, and how fast faces are rendered: batches from a store
and from rendered faces, a training step with them beside one with tensors in memory.

`step with loader / in memory` alternates between the two, each step with the same network, and is
the median over the rounds: a busy machine, whose steps vary by more than loading takes, needs
many. The loader's own milliseconds for a batch are measured without steps: with the worker
processes of the profile, and in the training's own process. Had each step to wait for the latter,
it would take `loading / step` longer.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from harness import alternate
from torch import Tensor

from aggan.data import Batch, PairDataset, open_pairs
from aggan.data.batches import training_batches
from aggan.data.store import StoreWriter
from aggan.experiments import PROFILES, default_device
from aggan.methods import create_method
from aggan.synthetic.rendering import FaceKey, render

STEPS_AHEAD = 10**6  # more than any benchmark takes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--profile", default="paper", help="whose sizes, batch and worker processes count"
    )
    parser.add_argument("--method", default="ag-gan", help="whose step counts")
    parser.add_argument(
        "--rounds", type=int, default=5, help="how often the steps, and the rendering, are timed"
    )
    parser.add_argument("--batches", type=int, default=100, help="of the loader alone")
    parser.add_argument("--faces", type=int, default=64, help="faces to render at 128 x 128")


def stored_pairs(folder: Path, synthetic: PairDataset) -> PairDataset:
    """The same pairs as a store keeps them."""
    writer = StoreWriter(folder, 4, synthetic.render_size, {})
    for n, record in enumerate(synthetic.records):
        writer.add(
            record.__class__(
                record.name,
                record.subject,
                "train",
                landmarks=tuple(synthetic.landmarks[n].flatten().tolist()),
            ),
            synthetic.faces[n, :4],
            source_hash=str(n),
        )
    writer.finish(thermal_planes=1)
    writer.close()
    return open_pairs("store", folder, image_size=synthetic.image_size)


def on_device(batch: Batch) -> Batch:
    """A batch where the network is."""
    return batch._replace(
        thermal=batch.thermal.to(default_device()), visible=batch.visible.to(default_device())
    )


def milliseconds(batches: Iterator[Batch], count: int) -> float:
    """Of one batch, from the loader alone."""
    next(batches)
    start = time.perf_counter()
    for _ in range(count):
        next(batches)
    return 1e3 * (time.perf_counter() - start) / count


def pairs_per_second(count: int, rounds: int) -> float:
    """Faces rendered on one thread, the median of some rounds after one in which memory is
    touched for the first time.
    """
    keys = [FaceKey(n // 2, session=n % 2, pose=1 + n % 9, frame=n % 5) for n in range(count)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    render(keys)
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        render(keys)
        seconds.append(time.perf_counter() - start)
    torch.set_num_threads(threads)
    return count / statistics.median(seconds)


def measure(given: argparse.Namespace) -> list[dict]:
    profile = PROFILES[given.profile]
    options = profile.method_kwargs.get(given.method, {}) | {"image_size": profile.image_size}
    method = create_method(given.method, **options).to(default_device()).train()
    optimizers = method.optimizers()

    def step(batch: Batch) -> None:
        sum(
            Tensor.mean(loss)
            for loss in method.training_step(on_device(batch), optimizers).values()
        ).item()  # waits for the device

    synthetic = open_pairs(
        "synthetic-arl",
        image_size=profile.image_size,
        subjects={"train": 8},
        images_per_subject=4,
        render_size=profile.load_size,
    )
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for source, pairs in (
            ("store", stored_pairs(Path(place) / "store", synthetic)),
            ("synthetic", synthetic),
        ):

            def batches(workers):
                return iter(
                    training_batches(
                        pairs,
                        profile.image_size,
                        profile.load_size,
                        profile.batch_size,
                        0,
                        0,
                        STEPS_AHEAD,
                        workers,
                    )
                )

            loader = batches(profile.workers)
            kept = next(loader)
            times = alternate(lambda: step(next(loader)), lambda: step(kept), given.rounds)
            own, working = (
                milliseconds(batches(workers), given.batches) for workers in (0, profile.workers)
            )
            rows.append(
                {
                    "data": source,
                    f"loader, {profile.workers} workers, ms": working,
                    "loader, own process, ms": own,
                    "step in memory s": times["ours_s"],
                    "step with loader s": times["reference_s"],
                    "step with loader / in memory": times["ratio"],
                    "loading / step": own / 1e3 / times["ours_s"],
                }
            )
    return [
        *rows,
        {
            "data": "rendered at 128 x 128, one thread",
            "pairs/s": pairs_per_second(given.faces, given.rounds),
        },
    ]
