"""Whether the quick step is the plain one: losses of AG-GAN's training step and of the step of `plain.py`, from the same weights on the same images, step after step.

The difference is relative to the plain step's loss. In float64 neither has roundings to speak of: what differs there would be another formula, what differs in
float32 alone is rounding, which training amplifies. Discriminators do one power iteration for genuine and fake pairs together on both sides.
"""
import argparse

import torch
from step import losses_side_by_side


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, default=128, help="pixels of a side; from 128 on Winograd's algorithm is used")
    parser.add_argument("--width", type=int, default=64, help="channels of the first layers")
    parser.add_argument("--steps", type=int, default=20, help="updates, one after the other")
    parser.add_argument("--precisions", nargs="+", default=["float32", "float64"], choices=("float32", "float64"), help="one or both")


def differences(size: int, width: int, steps: int, precision: str) -> list[dict]:
    """How far each loss is from the plain one, a row each."""
    plain, ours = losses_side_by_side(size, width, steps, getattr(torch, precision))
    rows = []
    for loss in plain[0]:
        apart = [abs(own[loss] - theirs[loss]) / abs(theirs[loss]) for theirs, own in zip(plain, ours)]
        rows.append({"precision": precision, "loss": loss, "first value": plain[0][loss], "last value": plain[-1][loss],
                     "worst difference": max(apart), "at step": 1 + apart.index(max(apart)), "at the first step": apart[0], "at the last step": apart[-1]})
    return rows


def measure(given: argparse.Namespace) -> list[dict]:
    return [row for precision in given.precisions for row in differences(given.size, given.width, given.steps, precision)]
