"""A researcher's day by the command line: own people, two settings over three seeds, a
comparison, a search, and a model for a colleague.
"""

import os
import subprocess
import sys

import pandas as pd
import pytest
from conftest import aggan
from PIL import Image
from torchvision.transforms.v2.functional import to_pil_image

from aggan.synthetic.rendering import FaceKey, render

PEOPLE, PICTURES = 16, 3
COLLEAGUE = """
import aggan
face = aggan.load("shared", device="cpu")("face.png")
print(face.visible.size, face.heatmap.shape)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of thermal and visible pictures, a folder a person."""
    place = tmp_path_factory.mktemp("day")
    keys = [FaceKey(person, frame) for person in range(PEOPLE) for frame in range(PICTURES)]
    faces = render(keys, size=48)
    for key, thermal, visible in zip(keys, faces.thermal, faces.visible):
        for side, pixels in (("thermal", thermal), ("visible", visible)):
            path = place / "pairs" / side / f"p{key[0]:02d}" / f"{key[1]}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            to_pil_image(pixels).save(path)
    return place


@pytest.fixture(scope="module")
def runs(place):
    """Two settings of AG-GAN+ over three seeds, trained on the store; the run folders."""
    stored = aggan("prepare", "--root", "pairs", "--output", "store", "--size", 36, cwd=place)
    assert f"found {PEOPLE} people in {PEOPLE * PICTURES} pairs" in stored.stdout
    assert "as they were written" in aggan("verify", "store", cwd=place).stdout
    fixed = ("--root", "store", "--profile", "smoke", "--seed", 0, 1, 2)
    fixed += ("--steps", 2, "--checkpoints", 1, "--resamples", 10)
    folders = []
    for name, weight in (("plain", 100), ("strong", 300)):
        said = aggan("train", "ag-gan+", *fixed, "--lambda-l1", weight, "--name", name, cwd=place)
        folders += sorted(place.glob(f"runs/store/ag-gan+/{name}*"))
        assert "Traceback" not in said.stderr
    assert len(folders) == 6
    return folders


def test_runs_are_listed_and_compared(place, runs):
    listed = aggan("runs", "runs", cwd=place).stdout
    assert listed.count("AG-GAN+") + listed.count("ag-gan+") >= 6 and "lambda_l1" in listed
    said = aggan("compare", *runs, "--output", "compared", "--resamples", 50, cwd=place).stdout
    table = pd.read_csv(place / "compared" / "comparison.csv")
    assert len(table) == 2 and "compared" in said  # seeds are runs of one setting
    assert (place / "compared" / "comparison.png").stat().st_size > 1000


def test_a_run_judges_and_searches(place, runs):
    said = aggan("evaluate", runs[0], "--output", "judged", cwd=place).stdout
    assert "store" in said and "test" in said
    assert {"report.json", "scores.csv", "roc.csv", "failures.html"} <= {
        path.name for path in (place / "judged").iterdir()
    }
    given = ("pairs/thermal", runs[0], "--gallery", "pairs/visible", "--output", "found")
    aggan("match", *given, "--aligned", "--threshold", 0.5, cwd=place)
    assert len(pd.read_csv(place / "found" / "matches.csv")) >= PEOPLE * PICTURES


def test_a_colleague_uses_the_model(place, runs):
    Image.open(place / "pairs/thermal/p00/0.png").save(place / "face.png")
    given = ("translate", runs[0], "--input", "face.png", "--output", "faces", "--maps")
    aggan(*given, cwd=place)
    assert {path.name for path in (place / "faces").glob("*.png")} == {
        "face.png",
        "face.heatmap.png",
        "face.overlay.png",
    }
    said = aggan("export", runs[0], "--onnx", "model.onnx", "--folder", "shared", cwd=place).stdout
    assert "opset" in said and (place / "model.onnx").stat().st_size > 10_000
    assert "ag-gan+" in (place / "shared" / "README.md").read_text().lower()
    os.renames(place / "runs", place / "elsewhere")
    try:
        done = subprocess.run(
            [sys.executable, "-c", COLLEAGUE], cwd=place, capture_output=True, text=True
        )
    finally:
        os.renames(place / "elsewhere", place / "runs")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(32, 32) (32, 32)"
