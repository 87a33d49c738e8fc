"""What grows how: AG-GAN's training step over the size of the images, the width of the networks
and the batch, one process each, the paper's networks where nothing else is said; `aggan
prepare` over the number of pairs, its start included, with a worker for each core.

`python benchmarks/scaling.py FOLDER` draws what `aggan bench NAME --output FOLDER` wrote for
scaling, match and methods.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from methods import counted, steps_alone
from prepare import write_frames

from aggan.experiments.figures import PAGE_WIDTH, save_figure, use_style


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sizes", type=int, nargs="*", default=[64, 128, 256, 512], help="pixels of a side"
    )
    parser.add_argument(
        "--widths",
        type=int,
        nargs="*",
        default=[16, 32, 64, 96],
        help="channels of the first layers",
    )
    parser.add_argument(
        "--batches", type=int, nargs="*", default=[1, 2, 4, 8], help="images a step"
    )
    parser.add_argument(
        "--pairs", type=int, nargs="*", default=[10, 30, 100, 300], help="to prepare"
    )
    parser.add_argument(
        "--size", type=int, default=128, help="pixels of a side, where width or batch vary"
    )
    parser.add_argument("--rounds", type=int, default=3, help="steps of each, after one to warm up")


def step_row(over: str, size: int, width: int, batch_size: int, rounds: int) -> dict:
    """Seconds, memory and operations of a step."""
    took, gib = steps_alone("ag-gan", size, width, batch_size, rounds)
    return {
        "over": over,
        "size": size,
        "width": width,
        "batch": batch_size,
        "step_s": took,
        "images_per_s": batch_size / took,
        "gib": gib,
        "gflop": counted("ag-gan", size, width, batch_size),
    }


def prepare_row(pairs: int) -> dict:
    """Seconds of the command, for faces whose landmarks are known."""
    with tempfile.TemporaryDirectory() as place:
        frames = Path(place) / "frames"
        write_frames(frames, pairs)
        command = [
            Path(sys.executable).with_name("aggan"),
            "prepare",
            "--root",
            frames,
            "--output",
            Path(place) / "store",
            "--thermal-mode",
            "grey",
            "--faces",
            frames / "faces.csv",
        ]
        start = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        took = time.perf_counter() - start
    return {
        "over": "pairs",
        "size": 256,
        "pairs": pairs,
        "prepare_s": took,
        "pairs_per_s": pairs / took,
    }


def measure(given: argparse.Namespace) -> list[dict]:
    return [
        *(step_row("size", size, 64, 1, given.rounds) for size in given.sizes),
        *(step_row("width", given.size, width, 1, given.rounds) for width in given.widths),
        *(step_row("batch", given.size, 64, batch, given.rounds) for batch in given.batches),
        *(prepare_row(pairs) for pairs in given.pairs),
    ]


def rows_of(folder: Path, name: str) -> pd.DataFrame:
    """What a benchmark wrote."""
    return pd.DataFrame(json.loads((folder / f"{name}.json").read_text())["rows"])


@use_style()
def draw(folder: Path):
    """Seconds and memory over what grows, on logarithmic axes; a step of each method at the
    paper's size.
    """
    from matplotlib.figure import Figure

    grown, scores = rows_of(folder, "scaling"), rows_of(folder, "match")
    figure = Figure(figsize=(PAGE_WIDTH, 4.2), layout="constrained")
    panels = figure.subplots(2, 3).flatten()
    for panel, (over, label) in zip(
        panels,
        (
            ("size", "pixels of a side"),
            ("width", "channels of the first layer"),
            ("batch", "images of a step"),
        ),
    ):
        rows = grown[grown["over"] == over].astype({over: int})
        panel.loglog(rows[over], rows["step_s"], "o-", label="seconds of a step")
        panel.loglog(rows[over], rows["gib"], "s--", label="GiB")
        panel.set(xlabel=label, xticks=rows[over], xticklabels=rows[over])
    panels[3].loglog(scores["scores"], scores["ours_s"], "o-", label="seconds")
    panels[3].loglog(scores["scores"], scores["ours_mib"] / 1024, "s--", label="GiB more")
    panels[3].set(xlabel="scores compared")
    rows = grown[grown["over"] == "pairs"].astype({"pairs": int})
    panels[4].loglog(rows["pairs"], rows["prepare_s"], "o-", label="seconds")
    panels[4].set(xlabel="pairs prepared", xticks=rows["pairs"], xticklabels=rows["pairs"])
    for panel in panels[:5]:
        panel.minorticks_off()
        panel.legend(loc="upper left")
        low, high = panel.get_ylim()
        panel.set_ylim(low / 1.2, high * 6)  # room for the legend
    rows = rows_of(folder, "methods").dropna(subset="step_s").sort_values("step_s", ascending=False)
    panels[5].barh(rows["label"], rows["step_s"])
    panels[5].set(xlabel=f"seconds of a step at {rows['size'].iloc[0]}²")
    return figure


if __name__ == "__main__":
    place = Path(sys.argv[1])
    save_figure(draw(place), place / "scaling")
