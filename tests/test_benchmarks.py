"""The benchmarks run, and print what they measured; how fast is not asked here."""
import json
import subprocess
import sys

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
