"""The benchmarks run, and print what they measured; how fast is not asked here."""
import json
import subprocess
import sys

import pytest
from conftest import PROJECT, aggan


def test_prepare():
    command = [sys.executable, PROJECT / "benchmarks" / "prepare.py", "--pairs", "16", "--large", "2000"]
    measured = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert [store["pairs"] for store in measured["opening"]] == [1000, 2000]
    assert all(speed > 0 for speed in measured["pairs_per_second"].values()) and len(measured["pairs_per_second"]) == 4


def test_match(tmp_path):
    options = ["--images", "300", "400", "--reference", "300", "--dimensions", "32", "--rounds", "1", "--output", str(tmp_path)]
    aggan("bench", "match", *options, cwd=tmp_path)
    compared, alone = json.loads((tmp_path / "match.json").read_text())["rows"]
    assert (compared["scores"], alone["scores"]) == (90_000, 160_000)
    assert compared["auc_error"] < 1e-6 and compared["eer_error"] < 1e-5
    assert all(compared[key] > 0 for key in ("reference_s", "ours_s", "ratio", "reference_mib", "ours_mib", "intervals_s")) and alone["reference_s"] is None


@pytest.fixture
def step(monkeypatch):
    """The benchmark of the training step as a module."""
    monkeypatch.syspath_prepend(PROJECT / "benchmarks")
    import step
    return step


@pytest.mark.parametrize("size, width, steps", [(32, 8, 20), (128, 32, 4)])   # the second is large enough for Winograd's algorithm
def test_losses_are_those_of_the_plain_step(step, size, width, steps):
    plain, ours = step.losses_side_by_side(size, width, steps)
    assert len(plain) == steps and plain[0]["pixel"] > 2 * abs(plain[0]["pixel"] - plain[-1]["pixel"]) > 0   # it learns, in both
    for theirs, own in zip(plain, ours):
        assert theirs.keys() == own.keys() and all(abs(theirs[name] - own[name]) <= 1e-4 * abs(theirs[name]) for name in theirs)


def test_step(tmp_path):
    options = ["--sizes", "32", "--width", "8", "--rounds", "1", "--methods", "pix2pix", "--methods-size", "32", "--output", str(tmp_path)]
    aggan("bench", "step", *options, cwd=tmp_path)
    rows = json.loads((tmp_path / "step.json").read_text())["rows"]
    assert len(rows) == 5 and all(row["ratio"] > 0 and row["ours_gib"] > 0 for row in rows)
    assert all(row["ours_gflop"] < 0.6 * row["reference_gflop"] for row in rows[:4])
