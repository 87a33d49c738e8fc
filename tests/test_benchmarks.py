"""The benchmarks run, write down what they measured and whether it is right; how fast is not asked here."""
import json

import pytest
import torch
from conftest import PROJECT, aggan


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


def test_match(measured):
    compared, alone = measured("match", "--images", 300, 400, "--reference", 300, "--dimensions", 32, "--rounds", 1)
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


@pytest.mark.parametrize("name", ["attentiongan", "cut", "cyclegan", "lg-gan"])
def test_losses_are_those_of_the_public_codes_step(step, name):
    losses = []
    for plain in (False, True):
        torch.manual_seed(0)
        method = step.new_method(name, 32, 8).double()
        method = step.with_plain_layers(method) if plain else method
        batch, optimizers = step.Batch(*(image.double() for image in step.random_batch(32)[:2]), None, None), method.optimizers()
        torch.manual_seed(1)
        losses.append([method.training_step(batch, optimizers) for _ in range(1 if name == "cut" else 3)])   # CUT's second image draws other places
    for ours, theirs in zip(*losses, strict=True):
        assert ours.keys() == theirs.keys()
        assert {loss for loss in ours if abs(ours[loss] - theirs[loss]) > 1e-9 * abs(theirs[loss])} <= ({"nce_same"} if name == "cut" else set())


def test_step(measured):
    rows = measured("step", "--sizes", 32, "--width", 8, "--rounds", 1, "--methods", "pix2pix", "--methods-size", 32)
    assert len(rows) == 5 and all(row["ratio"] > 0 and row["ours_gib"] > 0 for row in rows)
    assert all(row["ours_gflop"] < 0.6 * row["reference_gflop"] for row in rows[:4])


def test_gpu(measured):
    row, = measured("gpu", "--device", "cpu", "--sizes", 32, "--width", 8, "--batches", 2, "--rounds", 1, "--steps", 1, "--steady", 1, "--precisions", "bf16")
    assert row["ratio"] > 0 and row["of_bf16_ceiling"] > 0 and row["ours_gflop"] > 0.1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_says_when_there_is_none(tmp_path):
    assert aggan("bench", "gpu", cwd=tmp_path, check=False).stderr.endswith("(`aggan bench step` times the step on a CPU)\n")


def test_scaling(measured):
    size, width, batch = measured("scaling", "--sizes", 32, "--widths", 8, "--batches", 2, "--size", 32, "--rounds", 1)
    assert size["gflop"] > 20 * width["gflop"] and batch["gflop"] > 1.9 * size["gflop"] and batch["images_per_s"] > 0
