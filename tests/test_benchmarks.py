"""The benchmarks run, write down what they measured and whether it is right; how fast is not asked here."""
import json

import pytest
from conftest import aggan


@pytest.fixture
def measured(tmp_path):
    """The rows that `aggan bench NAME …` writes."""
    def measured(name, *options):
        said = aggan("bench", name, *options, "--output", tmp_path, cwd=tmp_path).stdout
        rows = json.loads((tmp_path / f"{name}.json").read_text())["rows"]
        assert (tmp_path / f"{name}.md").read_text() == said and said.count("\n") == len(rows) + 2
        return rows
    return measured


def test_prepare(measured):
    *ways, small, large = measured("prepare", "--pairs", 16, "--large", 2000)
    assert (small["pairs"], large["pairs"]) == (1000, 2000)
    assert len(ways) == 4 and all(way["pairs/s on one core"] > 0 for way in ways)


def test_translate(measured):
    forward, folder = measured("translate", "--size", 32, "--width", 8, "--images", 12, "--rounds", 1)
    assert forward["difference"] < 1e-4 and forward["ours GFLOP"] < forward["reference GFLOP"]
    assert folder["what"].startswith("folder of 12") and folder["ratio"] > 0


def test_import(measured):
    package, command = measured("import", "--rounds", 1, "--modules", "aggan")
    assert package["what"] == "import aggan" and command["what"] == "aggan --help"
    assert max(row["ours / torch, torchvision"] for row in (package, command)) < 1   # neither imports torch


def test_data(measured):
    store, synthetic, rendered = measured("data", "--profile", "smoke", "--rounds", 1, "--batches", 4, "--faces", 16)
    assert all(row["step with loader / in memory"] > 0 and row["loader alone ms"] > 0 for row in (store, synthetic))
    assert rendered["pairs/s"] > 0
