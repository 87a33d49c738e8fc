"""The benchmarks run, write down what they measured and whether it is right; how fast is not
asked here.
"""

import json
import runpy

import pytest
import torch
from conftest import PROJECT, aggan
from simulated_gpu import simulated_gpu

from aggan.experiments import Experiment
from aggan.methods import list_methods
from aggan.reproduction.targets import further_seed
from aggan.runtime.devices import check_precision
from aggan.runtime.files import write_json


@pytest.fixture(autouse=True)
def own_path(monkeypatch):
    """The folder of the benchmarks is searched while one runs, and not afterwards."""
    monkeypatch.syspath_prepend(PROJECT / "benchmarks")


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
    forward, folder = measured(
        "translate", "--size", 96, "--width", 8, "--images", 12, "--rounds", 1
    )
    assert forward["difference"] < 1e-4 and forward["ours GFLOP"] < forward["reference GFLOP"]
    assert folder["what"].startswith("folder of 12") and folder["ratio"] > 0


def test_import(measured):
    package, command = measured("import", "--rounds", 1, "--modules", "aggan")
    assert package["what"] == "import aggan" and command["what"] == "aggan --help"
    assert (
        max(row["ours / torch, torchvision"] for row in (package, command)) < 1
    )  # neither imports torch


def test_data(measured):
    store, synthetic, rendered = measured(
        "data", "--profile", "smoke", "--rounds", 1, "--batches", 4, "--faces", 16
    )
    assert all(
        row["step with loader / in memory"] > 0 and row["loader, own process, ms"] > 0
        for row in (store, synthetic)
    )
    assert rendered["pairs/s"] > 0


def test_match(measured):
    compared, alone = measured(
        "match", "--images", 300, 400, "--reference", 300, "--dimensions", 32, "--rounds", 1
    )
    assert (compared["scores"], alone["scores"]) == (90_000, 160_000)
    assert compared["auc_error"] < 1e-6 and compared["eer_error"] < 1e-5
    assert (
        all(
            compared[key] > 0
            for key in (
                "reference_s",
                "ours_s",
                "ratio",
                "reference_mib",
                "ours_mib",
                "intervals_s",
            )
        )
        and alone["reference_s"] is None
    )


@pytest.fixture
def step():
    """The benchmark of the training step as a module."""
    import step

    return step


@pytest.mark.parametrize("size, width, steps", [(32, 8, 20), (128, 32, 4)])
def test_losses_are_those_of_the_plain_step(step, size, width, steps):
    plain, ours = step.losses_side_by_side(size, width, steps)
    assert (
        len(plain) == steps
        and plain[0]["pixel"] > 2 * abs(plain[0]["pixel"] - plain[-1]["pixel"]) > 0
    )  # it learns, in both
    for theirs, own in zip(plain, ours):
        assert theirs.keys() == own.keys() and all(
            abs(theirs[name] - own[name]) <= 1e-4 * abs(theirs[name]) for name in theirs
        )


@pytest.mark.parametrize("name", ["attentiongan", "cut", "cyclegan", "lg-gan"])
def test_losses_are_those_of_the_public_codes_step(step, name):
    losses = []
    for plain in (False, True):
        torch.manual_seed(0)
        method = step.new_method(name, 32, 8).double()
        method = step.with_plain_layers(method) if plain else method
        batch, optimizers = (
            step.Batch(*(image.double() for image in step.random_batch(32)[:2]), None, None),
            method.optimizers(),
        )
        torch.manual_seed(1)
        losses.append(
            [method.training_step(batch, optimizers) for _ in range(1 if name == "cut" else 3)]
        )  # CUT's second image draws other places
    for ours, theirs in zip(*losses, strict=True):
        assert ours.keys() == theirs.keys()
        assert {
            loss for loss in ours if abs(ours[loss] - theirs[loss]) > 1e-9 * abs(theirs[loss])
        } <= ({"nce_same"} if name == "cut" else set())


def test_parity(measured):
    rows = measured("parity", "--size", 32, "--width", 8, "--steps", 3)
    assert [row["step"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert (
            row["float64"]
            < 1e-12
            < max(row["plain, float32 from float64"], row["ours, float32 from float64"])
            < 1e-4
        )
        assert all(row[loss] < 1e-4 for loss in ("discriminator", "adversarial", "pixel", "cam"))


UGATIT = """
import plain
from torch import nn
class RhoClipper: pass
class ResnetGenerator(plain.Generator):
    def __init__(self, input_nc, output_nc, ngf, n_blocks, img_size, light):
        super().__init__(ngf, n_blocks)
class Discriminator(plain.Discriminator):
    def __init__(self, input_nc, ndf, n_layers): super().__init__(n_layers, ndf)
    def forward(self, pair): return (*super().forward(pair), 1e6 * pair)
"""
CYCLEGAN = """
from torch import nn
def define_G(input_nc, output_nc, ngf, netG, norm, use_dropout):
    print("initialize network")
    first, last = nn.Conv2d(input_nc, ngf, 3, padding=1), nn.Conv2d(ngf, output_nc, 3, padding=1)
    return nn.Sequential(first, nn.ReLU(), last, nn.Tanh())
def define_D(input_nc, ndf, netD, n_layers, norm): return nn.Conv2d(input_nc, 1, 4, 2)
"""


@pytest.fixture
def peer(tmp_path):
    """A folder laid out as a peer's checkout, with networks of ours in it."""

    def peer(name, text):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        return tmp_path

    return peer


def test_peers_networks_take_their_steps(step, peer, capsys):
    import peers

    batch = step.random_batch(128)
    folder = peer("models/networks.py", CYCLEGAN)
    for method, falls in (("cyclegan", "generators"), ("pix2pix", "pixel")):
        take = peers.peer_step(folder, method, 128, 8, ())
        losses = [take(batch.thermal, batch.visible)[falls] for _ in range(8)]
        assert (
            losses[-1] < losses[0] and capsys.readouterr().out == ""
        )  # a contestant's output is its answers
    with pytest.raises(ValueError, match="none for 64"):
        peers.peer_step(folder, "pix2pix", 64, 8, ())
    with pytest.raises(FileNotFoundError, match="no checkout"):
        peers.steps_of(folder / "models")


SGGAN = """
from aggan.methods.blocks import BatchNorm, PatchGAN, UNetGenerator
from torch import nn
class Generator(UNetGenerator):
    def forward(self, x): return FACTOR * super().forward(x)
def define_G(input_nc, output_nc, ngf, which_model_netG, norm, use_dropout):
    return Generator(128, input_nc, ngf)
def define_D(input_nc, ndf, which_model_netD, use_sigmoid):
    return nn.Sequential(PatchGAN(input_nc, ndf, norm=BatchNorm), nn.Sigmoid())
"""


CONFORMANCE = ("output", "loss terms", "weights, 99.9 %", "weights, largest")


@pytest.mark.parametrize("factor, least, most", [(1.0, 0.0, 1e-9), (0.99, 1e-4, 1.0)])
def test_conformance_finds_another_formula(measured, peer, factor, least, most):
    folder = peer("models/pix2pix_model.py", "import caffe")
    peer("models/__init__.py", "")
    peer("models/networks.py", SGGAN.replace("FACTOR", str(factor)))
    (row,) = measured("conformance", "--peer", folder)
    assert (row["method"], row["code"]) == ("sg-gan", folder.name)
    assert all(least <= row[column] <= most for column in CONFORMANCE)


ARCFACE = """
import torch
from aggan.recognition import backbones
class IResNet(backbones.IResNet):
    def forward(self, x): return FACTOR * super().forward(x)
class MobileFaceNet(backbones.MobileFaceNet):
    def forward(self, x): return FACTOR * super().forward(x)
def get_model(name):
    if name.startswith("mbf"):
        return MobileFaceNet((1, 1, 1, 1), width=8, hidden=8, embedding=16)
    return IResNet((1, 1, 1, 1), width=8, embedding=16, stem_stride=2)
"""
LOSSES = """
class CombinedMarginLoss:
    def __init__(self, scale, m1, m2, m3): self.scale, self.margin = scale, MARGIN * m2
    def __call__(self, logits, labels):
        moved = logits.detach().clone()
        at = range(len(labels)), labels
        moved[at] = (moved[at].acos() + self.margin).cos()
        return self.scale * (logits + (moved - logits).detach())
"""


@pytest.mark.parametrize(
    "whole, factor, margin", [(True, 1, 1), (False, 0.99, 1), (False, 1, 0.99)]
)
def test_conformance_compares_recognisers(measured, peer, whole, factor, margin):
    program = "recognition/arcface_torch/" if whole else ""
    folder = peer(f"{program}backbones/__init__.py", "from .iresnet import get_model")
    peer(f"{program}backbones/iresnet.py", ARCFACE.replace("FACTOR", str(factor)))
    peer(f"{program}losses.py", LOSSES.replace("MARGIN", str(margin)))
    rows = measured("conformance", "--peer", folder)
    assert [row["method"] for row in rows] == ["r18", "r50", "r100", "mbf", "mbf_large"]
    for row in rows:
        assert row["code"] == ("arcface_torch" if whole else folder.name)
        differs = {column for column in CONFORMANCE if row[column] > 1e-9}
        assert ("output" in differs) == (factor != 1)
        assert ("loss terms" in differs) == (margin != 1)
        assert differs or factor == margin == 1


def test_conformance_takes_a_copy_for_no_original(peer):
    import conformance

    folder = peer("models/pix2pix_model.py", "gan_mode")
    assert list(conformance.methods_of(folder)) == ["pix2pix", "cyclegan"]
    peer("models/pix2pix_conf_model.py", "class Pix2PixConfModel")
    assert list(conformance.methods_of(folder)) == ["axial-gan"]


def test_conformance_needs_public_code(tmp_path):
    said = aggan("bench", "conformance", "--peer", tmp_path, cwd=tmp_path, check=False)
    assert said.returncode == 1 and "UGATIT-pytorch" in said.stderr


def test_step_of_a_peers_modules_is_the_plain_one(step, peer):
    plain, theirs = (
        step.contestant("plain", 32, 8)(),
        step.contestant("peer:ag-gan", 32, 8, peer=peer("networks.py", UGATIT))(),
    )
    assert theirs.keys() == plain.keys()
    assert all(
        abs(theirs[name] - plain[name]) < 0.5 * plain[name] for name in plain
    )  # other weights; the map that their discriminators return is no answer


@pytest.mark.soak
def test_step(measured):
    rows = measured(
        "step",
        "--sizes",
        32,
        "--width",
        8,
        "--rounds",
        1,
        "--methods",
        "pix2pix",
        "--methods-size",
        32,
    )
    assert len(rows) == 5 and all(row["ratio"] > 0 and row["ours_gib"] > 0 for row in rows)
    assert all(row["ours_gflop"] < 0.6 * row["reference_gflop"] for row in rows[:4])


@pytest.mark.soak
def test_gpu(measured):
    (row,) = measured(
        "gpu",
        "--device",
        "cpu",
        "--sizes",
        32,
        "--width",
        8,
        "--batches",
        2,
        "--rounds",
        1,
        "--steps",
        1,
        "--steady",
        1,
        "--precisions",
        "bf16",
    )
    assert row["ratio"] > 0 and row["of_bf16_ceiling"] > 0 and row["ours_gflop"] > 0.1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_says_when_there_is_none(tmp_path):
    assert aggan("bench", "gpu", cwd=tmp_path, check=False).stderr.endswith(
        "(`aggan bench step` times the step on a CPU)\n"
    )


def test_first_gpu(measured):
    checks = ("machine", "resident_crops", "instance_norm_gradient", "translation")
    rows = measured("first_gpu", "--checks", *checks)
    assert [(row["check"], row["result"]) for row in rows] == [(name, "OK") for name in checks]


def test_first_gpu_skips_what_the_time_does_not_suffice_for(measured):
    (row,) = measured("first_gpu", "--checks", "kernels", "--seconds", 1)
    assert row["result"] == "SKIP"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_first_gpu_does_not_pass_what_a_cpu_cannot_show(measured):
    rows = measured("first_gpu", "--checks", "recorded_steps_equal_steps", "unrecordable_step")
    assert {row["result"] for row in rows} == {"SKIP"}


@pytest.mark.parametrize(
    ("capability", "precisions"),
    [((7, 5), ("32-true",)), ((8, 0), ("bf16-mixed", "tf32", "32-true"))],
)
def test_first_gpu_asks_a_card_for_what_it_has(capability, precisions):
    with simulated_gpu(capability):
        checks = runpy.run_path(str(PROJECT / "benchmarks" / "first_gpu.py"))
        assert checks["PRECISIONS"] == precisions
        check_precision(checks["step_of"].__defaults__[1])


@pytest.mark.soak
def test_first_gpu_runs_through(measured):
    assert {row["result"] for row in measured("first_gpu", "--seconds", 3600)} <= {"OK", "SKIP"}


@pytest.mark.soak
def test_scaling(measured):
    size, width, batch, pairs = measured(
        "scaling",
        "--sizes",
        32,
        "--widths",
        8,
        "--batches",
        2,
        "--size",
        32,
        "--rounds",
        1,
        "--pairs",
        4,
    )
    assert (
        size["gflop"] > 20 * width["gflop"]
        and batch["gflop"] > 1.9 * size["gflop"]
        and batch["images_per_s"] > 0
    )
    assert pairs["pairs_per_s"] == pytest.approx(4 / pairs["prepare_s"])


@pytest.mark.soak
def test_methods_and_what_they_cost(measured, tmp_path):
    steps = {
        row["label"]: row
        for row in measured(
            "methods", "--methods", "pix2pix", "--size", 32, "--width", 8, "--rounds", 1
        )
    }
    assert len(steps) == len(list_methods()) and all(
        (row["step_s"] is not None) == (label == "Pix2Pix") and row["gflop"] > 0
        for label, row in steps.items()
    )
    kept = json.loads((PROJECT / "figures" / "benchmarks" / "methods.json").read_text())["rows"]
    *runs, total = measured("cost")
    assert total["runs"] == sum(run["runs"] for run in runs) == 21
    assert total["CPU hours"] == pytest.approx(
        sum(run["runs"] * run["steps of a run"] * run["seconds of a step"] for run in runs) / 3600
    )
    assert [*runs, total] == json.loads(
        (PROJECT / "figures" / "benchmarks" / "cost.json").read_text()
    )["rows"], "`aggan bench cost --output figures/benchmarks` anew"
    (tmp_path / "methods.json").write_text(json.dumps({"rows": kept}))
    rows = [
        {
            "method": "ag-gan",
            "size": 256,
            "batch": batch,
            "precision": "bf16",
            "ours_ms": 20 * batch,
        }
        for batch in (1, 16)
    ]
    (tmp_path / "gpu.json").write_text(json.dumps({"rows": rows, "machine": {"gpu": "a card"}}))
    own = next(
        run
        for run in measured("cost", "--records", tmp_path)
        if (run["pairs of"], run["method"]) == ("arl", "AG-GAN")
    )
    assert own["GPU hours (a card)"] == pytest.approx(
        own["runs"] * own["steps of a run"] * 0.02 / 3600
    )


def test_precision(measured, tmp_path):
    figures = {
        ("32-true", 0): 0.90,
        ("32-true", 1): 0.94,
        ("bf16-mixed", 0): 0.91,
        ("bf16-mixed", 1): 0.96,
    }
    for (precision, seed), auc in figures.items():  # as if these had been run
        settings = {"overrides": {"precision": precision}, "runs": str(tmp_path)}
        run = further_seed(Experiment("ag-gan", profile="smoke", **settings), seed)
        write_json(
            run.folder / "report.json", {"auc": auc, "eer": 0.1, "psnr": 17.0 + seed, "ssim": 0.7}
        )
    auc, eer, psnr, ssim = measured(
        "precision", "--profile", "smoke", "--seeds", 0, 1, "--runs", tmp_path
    )
    assert (auc["float32"], auc["difference"], auc["its spread"]) == pytest.approx(
        (92, 1.5, 2.828), abs=1e-3
    )
    assert (
        auc["within float32's spread"] and psnr["difference"] == 0 and ssim["spread of bf16"] == 0
    )


@pytest.mark.soak
def test_recipe(measured, tmp_path):
    (row,) = measured(
        *("recipe", "features, weight 10", "--profile", "smoke", "--people", 6, "--runs", tmp_path)
    )
    assert row["synthetic faces"] == "features, weight 10"
    assert 0 <= row["from"] <= row["AUC"] <= row["to"] <= 100
    (config,) = (json.loads(path.read_text()) for path in tmp_path.glob("*/*/*/config.json"))
    assert config["method_kwargs"]["lambda_perceptual"] == 10
    assert config["networks"].keys() == {"dlib", "mobilefacenet"}


def test_models(measured, run_folder):
    options = ("--weights", run_folder, "--seeds", 0, "--people", 12, "--images", 2)
    rows = measured("models", *options)
    assert len(rows) == 9  # three judges of the run and of both reference rows
    assert [row["judge"] for row in rows if row["partial"]] == ["mobilefacenet"]
    assert all(row["from"] <= row["AUC"] <= row["to"] for row in rows)
    thermal, visible = rows[3:6], rows[6:]  # of the reference rows
    assert all(low["AUC"] < high["AUC"] for low, high in zip(thermal, visible))
