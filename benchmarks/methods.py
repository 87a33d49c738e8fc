"""A training step of every method at the paper's size, one process each, with the networks as
their authors have them. FLOP are those of direct convolutions, counted without computing.

What frozen networks judge (identity, perceptual, parsing terms) is left out, as in `step`. `cost`
reads what this writes. U-GAT-IT's fully connected layers need more than 16 GB at 256²: leave it
out of --methods where there is less.
"""

import argparse
import statistics

from step import Contestant, contestant, gigaflop
from torch._subclasses.fake_tensor import FakeTensorMode

from aggan.experiments import PROFILES
from aggan.methods import list_methods, method_label


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--methods",
        nargs="+",
        default=list_methods(),
        help="to time; of the others only the operations are counted",
    )
    parser.add_argument(
        "--size", type=int, default=PROFILES["paper"].image_size, help="pixels of a side"
    )
    parser.add_argument("--width", type=int, default=64, help="channels of the first layers")
    parser.add_argument("--rounds", type=int, default=2, help="steps of each, after one to warm up")


def steps_alone(
    name: str, size: int, width: int, batch_size: int, rounds: int
) -> tuple[float, float]:
    """Median seconds of a method's step, and the peak memory in GiB."""
    one = Contestant(name, size, width, batch_size=batch_size)
    try:
        for _ in range(rounds + 1):
            one.step()
    finally:
        one.close()
    return statistics.median(one.seconds[1:]), one.gib


def counted(name: str, size: int, width: int, batch_size: int = 1) -> float:
    """10^9 operations of a step, from the shapes alone."""
    with FakeTensorMode():
        return gigaflop(contestant(name, size, width, batch_size=batch_size))


def measure(given: argparse.Namespace) -> list[dict]:
    rows = []
    for name in list_methods():
        took, gib = (
            steps_alone(name, given.size, given.width, 1, given.rounds)
            if name in given.methods
            else (None, None)
        )
        rows.append(
            {
                "method": name,
                "label": method_label(name),
                "size": given.size,
                "step_s": took,
                "gib": gib,
                "gflop": counted(name, given.size, given.width),
            }
        )
    return rows
