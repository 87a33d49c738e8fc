"""Preparation, training, evaluation and explanation on a few real pairs, in a temporary folder."""

import json

import pytest
from conftest import REAL_PAIRS, REAL_WEIGHTS, aggan

from aggan.data import open_pairs
from aggan.recognition.alignment import frame_landmarks

MOBILEFACENET = REAL_WEIGHTS / "foamliu_mobilefacenet" / "mobilefacenet.pt"
pytestmark = pytest.mark.skipif(
    not (REAL_PAIRS.is_dir() and MOBILEFACENET.is_file()),
    reason=f"needs the real pairs {REAL_PAIRS} (AGGAN_REAL_PAIRS) and the real MobileFaceNet "
    f"{MOBILEFACENET} (AGGAN_REAL_WEIGHTS)",
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with a store of the real pairs: detected, aligned, the iron palette inverted."""
    folder = tmp_path_factory.mktemp("real")
    options = ("--size", 64, "--detect", "--subject-pattern", "(.*)")
    aggan("prepare", "--root", REAL_PAIRS, "--output", "prepared", *options, cwd=folder)
    return folder


def test_every_real_face_is_detected_and_aligned(prepared):
    pairs = open_pairs("store", prepared / "prepared", "all", image_size=64)
    assert len(pairs) == 10 and "Left out" in (prepared / "prepared" / "report.html").read_text()
    for pair in pairs:
        distance = pair.meta["landmarks"].sub(frame_landmarks(64)).norm(dim=1)
        assert distance.mean() < 8  # pixels; the faces are in nine positions
        assert pair.thermal.std() > 0.1 and pair.visible.std() > 0.1


STORE = ("--dataset", "store", "--root", "prepared")
NARROW = ("--width", 16, "--discriminator-width", 16, "--learning-rate", 1e-3)


@pytest.mark.parametrize("method", [pytest.param("ag-gan", marks=pytest.mark.soak), "ag-gan+"])
def test_real_pairs_train_and_evaluate(prepared, method):
    options = ("--identity", MOBILEFACENET, *NARROW)
    length = ("--steps", 30, "--checkpoints", 2, "--resamples", 50)
    settings = ("--profile", "demo", *length, *options)
    same_pairs = ("--split", "all")
    output = aggan("train", method, *STORE, *settings, *same_pairs, cwd=prepared).stdout
    run = prepared / output.splitlines()[-1]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["pixel"] < rows[0]["pixel"] and rows[-1]["identity"] < rows[0]["identity"]
    assert rows[-1]["val_psnr"] > rows[0]["val_psnr"]
    report = json.loads((run / "report.json").read_text())
    assert report["subjects"] == 10 and report["probes"] == 10 and report["test_seen_in_training"]
    psnr = {row["step"]: row["val_psnr"] for row in rows}[report["checkpoint"]]
    assert abs(report["psnr"] - psnr) < 0.01  # validation and test pairs are the same here

    overrides = ("--resamples", 50)
    output = ("--split", "all", "--output", "shown")
    aggan("evaluate", run, *STORE, *output, *overrides, cwd=prepared)
    again = json.loads((prepared / "shown" / "report.json").read_text())
    assert abs(again["psnr"] - report["psnr"]) < 0.01
    assert (prepared / "shown" / "attention.png").stat().st_size > 10_000
