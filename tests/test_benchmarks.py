"""The benchmarks run, and print what they measured; how fast is not asked here."""
import json
import subprocess
import sys

from conftest import PROJECT


def test_prepare():
    command = [sys.executable, PROJECT / "benchmarks" / "prepare.py", "--pairs", "16", "--large", "2000"]
    measured = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert [store["pairs"] for store in measured["opening"]] == [1000, 2000]
    assert all(speed > 0 for speed in measured["pairs_per_second"].values()) and len(measured["pairs_per_second"]) == 4
