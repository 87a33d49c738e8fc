"""How fast pairs are prepared by one process, and what opening a large store takes. Nothing
here has a reference to beat.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from aggan.data.colormap import iron_palette
from aggan.data.prepare import prepare
from aggan.data.store import COLUMNS, StoreWriter
from aggan.synthetic.rendering import FaceKey, render


def write_frames(root: Path, count: int) -> None:
    """Frames of the size of SpeakingFaces, one rendered face in each, with a file of the faces'
    landmarks.
    """
    faces = render([FaceKey(n) for n in range(16)], size=256)
    rows, rng = [], np.random.default_rng(0)
    people = min(40, count // 2)  # two pictures of a person at least
    for side in ("thermal", "visible"):
        (root / side).mkdir(parents=True)
    for n in range(count):
        name = f"{n % people}_{n}.png"
        left, top = rng.integers(0, 464 - 256), rng.integers(0, 348 - 256)
        for side, images in (("thermal", iron_palette(faces.thermal)), ("visible", faces.visible)):
            frame = np.full((348, 464, 3), (10, 10, 60), np.uint8)
            frame[top : top + 256, left : left + 256] = (
                images[n % 16].mul(255).byte().movedim(0, -1).numpy()
            )
            Image.fromarray(np.roll(frame, n // 16, axis=1)).save(root / side / name)
        points = faces.landmarks[n % 16] + torch.tensor([left + n // 16, top])
        rows.append([f"thermal/{name}", *points.flatten().tolist()])
    with open(root / "faces.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["image", *(f"{axis}{k}" for k in range(1, 6) for axis in "xy")], *rows])


def pairs_per_second(folder: Path, count: int) -> dict[str, float]:
    """Pairs per second and process, by what is done with them."""
    write_frames(folder / "frames", count)
    ways = {
        "landmarks, palette undone": dict(
            thermal_mode="grey", faces=folder / "frames" / "faces.csv"
        ),
        "landmarks, colours kept": dict(thermal_mode="raw", faces=folder / "frames" / "faces.csv"),
        "whole image": dict(thermal_mode="raw"),
        "detection": dict(thermal_mode="raw", detect=True),
    }
    torch.set_num_threads(1)
    speeds = {}
    for number, (name, options) in enumerate(ways.items()):
        start = time.perf_counter()
        prepare(folder / "frames", folder / f"store{number}", size=256, workers=0, **options)
        speeds[name] = count / (time.perf_counter() - start)
    return speeds


def write_large_store(folder: Path, count: int) -> Path:
    """A store of so many pairs of 8 x 8 zeros; its rows go in at one stroke, its pixels take no
    place on the disk.
    """
    writer = StoreWriter(folder, 4, 8, {})
    fields = {"split": "train", "role": "both", "landmarks": "null", "attributes": "{}"}
    rows = (
        tuple(
            (
                fields
                | {
                    "position": n,
                    "name": f"{n % 1000}_{n}",
                    "subject": str(n % 1000),
                    "source_hash": str(n),
                }
            ).get(name)
            for name in COLUMNS
        )
        for n in range(count)
    )
    writer.manifest.write(f"INSERT INTO pairs VALUES ({', '.join('?' * len(COLUMNS))})", rows)
    with open(writer.pixels_path("train"), "wb") as file:
        file.truncate(count * 4 * 8 * 8)
    writer.counts = {"train": count}
    writer.finish(thermal_planes=1)
    writer.close()
    return folder


OPENING = """
import resource, sys, time, json
from aggan.data import open_pairs
def memory(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, start = memory(), time.perf_counter()
pairs = open_pairs("store", sys.argv[1], image_size=8)
opened, above = time.perf_counter() - start, memory() - before
pairs[len(pairs) // 2]
start = time.perf_counter()
for n in range(2000): pairs.load(n * 7919 % len(pairs))
load_us = (time.perf_counter() - start) * 500
print(json.dumps({"pairs": len(pairs), "open_ms": 1e3 * opened, "open_mib": above,
                  "load_us": load_us, "all_mib": memory() - before}))
"""


def opening(store: Path) -> dict[str, float]:
    """Milliseconds and MiB that a fresh process takes to open a store; microseconds of loading
    a pair; MiB after 2,000 pairs.
    """
    return json.loads(
        subprocess.run(
            [sys.executable, "-c", OPENING, str(store)], capture_output=True, text=True, check=True
        ).stdout
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pairs", type=int, default=200, help="frames to prepare")
    parser.add_argument("--large", type=int, default=1_000_000, help="pairs of the large store")


def measure(given: argparse.Namespace) -> list[dict]:
    with tempfile.TemporaryDirectory() as place:
        speeds = pairs_per_second(Path(place), given.pairs)
        stores = [
            opening(write_large_store(Path(place) / str(count), count))
            for count in (1000, given.large)
        ]
    return [
        *(
            {"what": f"prepare at 256 x 256, {way}", "pairs/s on one core": speed}
            for way, speed in speeds.items()
        ),
        *({"what": "open a store", **store} for store in stores),
    ]
