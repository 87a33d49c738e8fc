"""What AG-GAN's training step takes over the size of the images, the width of the networks and the batch; one process each, the paper's networks where nothing else is said.

`python benchmarks/scaling.py FOLDER` draws what `aggan bench scaling --output FOLDER` and `aggan bench match --output FOLDER` wrote.
"""
import argparse
import json
import statistics
import sys
from pathlib import Path

import pandas as pd
from step import Contestant, contestant, gigaflop

from aggan.figures import PAGE_WIDTH, save_figure, use_style

def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sizes", type=int, nargs="*", default=[64, 128, 256, 512], help="pixels of a side")
    parser.add_argument("--widths", type=int, nargs="*", default=[16, 32, 64, 96], help="channels of the first layers")
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 2, 4, 8], help="images a step")
    parser.add_argument("--size", type=int, default=128, help="pixels of a side, where width or batch vary")
    parser.add_argument("--rounds", type=int, default=3, help="steps of each, after one to warm up")


def step_row(over: str, size: int, width: int, batch_size: int, rounds: int) -> dict:
    """Seconds, memory and operations of a step."""
    one = Contestant("ag-gan", size, width, batch_size=batch_size)
    try:
        for _ in range(rounds + 1):
            one.step()
    finally:
        one.close()
    took = statistics.median(one.seconds[1:])
    return {"over": over, "size": size, "width": width, "batch": batch_size, "step_s": took, "images_per_s": batch_size / took, "gib": one.gib,
            "gflop": gigaflop(contestant("ag-gan", size, width, "bf16", batch_size=batch_size))}


def measure(given: argparse.Namespace) -> list[dict]:
    return [*(step_row("size", size, 64, 1, given.rounds) for size in given.sizes),
            *(step_row("width", given.size, width, 1, given.rounds) for width in given.widths),
            *(step_row("batch", given.size, 64, batch, given.rounds) for batch in given.batches)]


@use_style()
def draw(folder: Path):
    """Seconds and memory over what grows, on logarithmic axes."""
    from matplotlib.figure import Figure

    steps = pd.DataFrame(json.loads((folder / "scaling.json").read_text())["rows"])
    scores = pd.DataFrame(json.loads((folder / "match.json").read_text())["rows"])
    figure = Figure(figsize=(PAGE_WIDTH, 2.2), layout="constrained")
    panels = figure.subplots(1, 4)
    for panel, (over, label) in zip(panels, (("size", "pixels of a side"), ("width", "channels of the first layer"), ("batch", "images of a step"))):
        rows = steps[steps["over"] == over]
        panel.loglog(rows[over], rows["step_s"], "o-", label="seconds")
        panel.loglog(rows[over], rows["gib"], "s--", label="GiB")
        panel.set(xlabel=label, xticks=rows[over], xticklabels=rows[over])
    panels[3].loglog(scores["scores"], scores["ours_s"], "o-", label="seconds")
    panels[3].loglog(scores["scores"], scores["ours_mib"] / 1024, "s--", label="GiB more")
    panels[3].set(xlabel="scores compared")
    for panel in panels:
        panel.minorticks_off()
        panel.legend(loc="upper left")
        low, high = panel.get_ylim()
        panel.set_ylim(low, high * 6)   # room for the legend
    return figure


if __name__ == "__main__":
    place = Path(sys.argv[1])
    save_figure(draw(place), place / "scaling")
