"""Whether the quick step is the plain one: losses of AG-GAN's training step and of the step of
`plain.py`, from the same weights on the same images, step after step.

Differences are relative, ours from the plain one's; the last columns are the largest of the four
losses. In float64 rounding does not count: what differed there would be another formula. What
float32's rounding alone does to the plain step, which training amplifies, is seen from its own
losses in float64. Discriminators do one power iteration for genuine and fake pairs together on
both sides.
"""

import argparse

import torch
from step import losses_side_by_side


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, default=128, help="pixels of a side")
    parser.add_argument("--width", type=int, default=64, help="channels of the first layers")
    parser.add_argument("--steps", type=int, default=20, help="updates, one after the other")


def apart(ours: dict[str, float], theirs: dict[str, float]) -> dict[str, float]:
    """How far each loss is from the other's, of its value."""
    return {name: abs(ours[name] - theirs[name]) / abs(theirs[name]) for name in theirs}


def measure(given: argparse.Namespace) -> list[dict]:
    plain, ours = losses_side_by_side(given.size, given.width, given.steps)
    exact_plain, exact_ours = losses_side_by_side(
        given.size, given.width, given.steps, torch.float64
    )
    return [
        {
            "step": step + 1,
            **apart(ours[step], plain[step]),
            "float64": max(apart(exact_ours[step], exact_plain[step]).values()),
            "plain, float32 from float64": max(apart(plain[step], exact_plain[step]).values()),
            "ours, float32 from float64": max(apart(ours[step], exact_plain[step]).values()),
        }
        for step in range(given.steps)
    ]
