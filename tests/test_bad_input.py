"""Bad input is refused in one sentence that names the file and a remedy, without a traceback."""

import contextlib
import io
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from aggan.data.prepare import prepare
from aggan.experiments.inference import translate_folder
from aggan.experiments.matching import match_probes
from aggan.experiments.runs import write_comparison
from aggan.reproduction.command_line import main
from aggan.reproduction.maps import write_explanation
from aggan.reproduction.pictures import write_evaluation

SPLITS = {"train": ("s1", "s2"), "val": ("s3", "s4"), "test": ("s5", "s6")}


@pytest.fixture
def pairs(tmp_path):
    """A folder of pairs with two noise images of each of six subjects, in three splits."""
    root, rng = tmp_path / "pairs", np.random.default_rng(0)
    for split, subjects in SPLITS.items():
        for side, shape in (("thermal", (40, 40)), ("visible", (40, 40, 3))):
            (root / split / side).mkdir(parents=True)
            for name in (f"{subject}_{number}" for subject in subjects for number in range(2)):
                image = Image.fromarray(rng.integers(0, 255, shape, np.uint8))
                image.save(root / split / side / f"{name}.png")
    return root


def refusal(*arguments, cwd, code=1):
    """The last line on standard error of a command that exits with a code."""
    errors = io.StringIO()
    with contextlib.chdir(cwd), contextlib.redirect_stderr(errors):
        assert main(list(map(str, arguments))) == code
    last = errors.getvalue().strip().splitlines()[-1]
    assert last.startswith("aggan: ")
    return last


TRAIN = ("train", "ag-gan", "--profile", "smoke", "--root", "pairs")


def refused_before_training(cwd):
    """The sentence that refuses a training of which nothing was done."""
    message = refusal(*TRAIN, cwd=cwd)
    assert not list(cwd.glob("runs/**/*.safetensors")), "training came before the refusal"
    return message


EACH_SPLIT = pytest.mark.parametrize(
    "place, name", [("train/visible", "s1_0"), ("val/visible", "s3_1"), ("test/visible", "s6_0")]
)


@EACH_SPLIT
def test_missing_partner(pairs, tmp_path, place, name):
    (pairs / place / f"{name}.png").unlink()
    message = refused_before_training(tmp_path)
    assert f"/thermal/{name}.png has no partner of the same name in pairs/{place}" in message
    assert "add the partner or take the file out" in message


@EACH_SPLIT
def test_unequal_sizes(pairs, tmp_path, place, name):
    Image.new("RGB", (30, 40)).save(pairs / place / f"{name}.png")
    message = refused_before_training(tmp_path)
    assert f"{place}/{name}.png is 30 x 40" in message and "--faces" in message


@EACH_SPLIT
def test_truncated_image(pairs, tmp_path, place, name):
    path = pairs / place / f"{name}.png"
    path.write_bytes(path.read_bytes()[:600])
    message = refused_before_training(tmp_path)
    assert f"{place}/{name}.png is truncated or damaged" in message
    assert "fetch it again or take it out" in message


def test_validation_without_impostors(pairs, tmp_path):
    for path in pairs.glob("val/*/s3_*.png"):
        path.unlink()
    assert "validation split has 1 subject" in refusal(*TRAIN, cwd=tmp_path)
    assert not list(tmp_path.glob("runs/**/*.safetensors")), "training came before the refusal"


def test_empty_split(pairs, tmp_path):
    for path in pairs.glob("test/*/*.png"):
        path.unlink()
    assert "the split 'test' of pairs is empty" in refusal(*TRAIN, cwd=tmp_path)


def test_subject_in_train_and_test(pairs, tmp_path):
    for side in ("thermal", "visible"):
        shutil.copy(pairs / "train" / side / "s1_0.png", pairs / "test" / side / "s1_9.png")
    message = refusal(*TRAIN, cwd=tmp_path)
    assert "subject 's1' is in train" in message and "s1_9.png" in message


@pytest.mark.parametrize(
    "arguments, word",
    [
        (("train", "ag-gan", "--profile", "smoke", "--matcher", "nobody"), "nobody"),
        (("reproduce", "table9"), "table9"),
        (
            ("translate", "nowhere.safetensors", "--input", ".", "--output", "out"),
            "nowhere.safetensors",
        ),
    ],
)
def test_unknown_names(tmp_path, arguments, word):
    assert word in refusal(*arguments, cwd=tmp_path)
    assert not (tmp_path / "runs").exists(), "work was done before the refusal"


def test_unknown_data_set_is_a_wrong_command(tmp_path):
    assert "synthetic-arl" in refusal("train", "ag-gan", "--dataset", "arl", cwd=tmp_path, code=2)


@pytest.mark.parametrize(
    "arguments",
    [
        ("prepare", "--root", "pairs", "--output", ""),
        ("prepare", "--root", "pairs", "--output", "store", "--thermal-range", ""),
        ("prepare", "--root", "pairs", "--output", "store", "--suffixes", "_T", " "),
        ("train", "ag-gan", "--root", ""),
        ("translate", "", "--input", "pairs", "--output", "out"),
    ],
)
def test_empty_texts(pairs, tmp_path, arguments):
    assert "is empty: give a value, or leave it out" in refusal(*arguments, cwd=tmp_path, code=2)
    assert [path.name for path in tmp_path.iterdir()] == ["pairs"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("prepare", "--root", "pairs", "--output", "file"),
        ("prepare", "--root", "pairs", "--output", "file/store"),
        ("translate", "ag-gan", "--input", "pairs", "--output", "file"),
        ("match", "pairs", "ag-gan", "--gallery", "pairs", "--output", "file"),
        ("evaluate", "ag-gan", "--output", "file"),
        ("explain", "ag-gan", "--output", "file"),
        ("export", "ag-gan", "--folder", "file"),
        ("export", "ag-gan", "--onnx", "file/a.onnx"),
    ],
)
def test_output_that_is_a_file(pairs, tmp_path, arguments):
    (tmp_path / "file").write_text("mine")
    assert "file is a file, where a folder is to be" in refusal(*arguments, cwd=tmp_path)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    "call",
    [
        lambda file: prepare("pairs", file),
        lambda file: translate_folder("run", "faces", file),
        lambda file: match_probes("run", "probes", "gallery", file),
        lambda file: write_comparison(["one", "two"], file),
        lambda file: write_evaluation("run", file),
        lambda file: write_explanation("run", file),
    ],
)
def test_functions_refuse_an_output_that_is_a_file_first(tmp_path, call):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(NotADirectoryError, match="mine.txt is a file"):
        call(tmp_path / "mine.txt")
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "option, value",
    [("seed", 2**64), ("image-size", 100_000), ("load-size", 100_000), ("width", 10**6)],
)
def test_numbers_beyond_all_machines(pairs, tmp_path, option, value):
    message = refusal(*TRAIN, f"--{option}", value, cwd=tmp_path, code=2)
    assert f"--{option} must be at most" in message and str(value) in message


def test_sizes_that_no_disk_takes(pairs, tmp_path):
    store = ("prepare", "--root", "pairs", "--output", "store", "--size")
    assert "--size must be at most 8192" in refusal(*store, 2 * 10**10, cwd=tmp_path, code=2)
    with pytest.raises(OSError, match="choose another disk or a smaller size"):
        prepare(pairs, tmp_path / "store", size=2 * 10**10)
    assert not (tmp_path / "store").exists()


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="names are text there")
def test_names_that_are_no_text(pairs, tmp_path):
    os.rename(pairs / "train", os.fsencode(pairs) + b"/caf\xe9")
    root = os.fsdecode(os.fsencode(pairs) + b"/caf\xe9")
    for command in (["prepare", "--output", "new"], ["train", "ag-gan", "--runs", "new"]):
        message = refusal(*command, "--root", root, cwd=tmp_path)
        assert "caf\\xe9" in message and "rename it" in message
        assert not (tmp_path / "new").exists()
    translate_folder("ag-gan", root + "/thermal", tmp_path / os.path.basename(root))
    faces = {file.name for file in (tmp_path / os.path.basename(root)).glob("*.png")}
    assert faces == {file.name for file in (Path(root) / "thermal").iterdir()}


def test_nan_loss_stops_the_run(smoke_runs, tmp_path):
    settings = ("ag-gan", "--profile", "smoke", "--learning-rate", "1e30")
    cache = ("--cache", smoke_runs / "data" / "synthetic")
    message = refusal("train", *settings, *cache, cwd=tmp_path)
    assert "became" in message and "learning rate" in message
    assert not list(tmp_path.glob("runs/**/*.tmp"))


def test_foreign_checkpoints(workplace, run_folder, tmp_path):
    whole = next((run_folder / "checkpoints").iterdir())
    (tmp_path / "images").mkdir()
    Image.new("L", (40, 40), 90).save(tmp_path / "images" / "a.png")

    def message(weights):
        files = ("--input", tmp_path / "images", "--output", tmp_path / "out")
        return refusal("translate", tmp_path / weights, *files, cwd=workplace)

    (tmp_path / "cut.safetensors").write_bytes(whole.read_bytes()[:5000])
    assert "cut.safetensors is not a whole checkpoint" in message("cut.safetensors")
    save_file(load_file(whole), tmp_path / "nameless.safetensors")
    assert "does not say which method" in message("nameless.safetensors")
    header = {"method": json.dumps("ag-gan"), "method_kwargs": json.dumps({"width": 16})}
    save_file(load_file(whole), tmp_path / "other.safetensors", header)
    assert "other.safetensors holds no method that can be made" in message("other.safetensors")


def test_no_picture_is_to_be_deleted(pairs, tmp_path):
    picture = "pairs/train/visible/s1_0.png"
    for code, command in (
        (1, ("translate", picture, "--input", "pairs", "--output", "out")),
        (2, (*TRAIN, "--init", picture)),
    ):
        message = refusal(*command, cwd=tmp_path, code=code)
        assert "s1_0.png is not a whole checkpoint" in message and "delete" not in message


def test_damaged_resume_file_is_named(smoke_runs, tmp_path):
    shutil.copytree(smoke_runs, tmp_path, dirs_exist_ok=True)
    resume = next(tmp_path.glob("runs/synthetic-arl/ag-gan/*/resume.safetensors"))
    for path in [*resume.parent.glob("checkpoints/*"), resume.parent / "report.json"]:
        path.unlink()
    for path in (resume, resume.with_name("resume_previous.safetensors")):
        path.write_bytes(path.read_bytes()[:1000])  # one of them alone is replaced by the other
    message = refusal("train", "ag-gan", "--profile", "smoke", cwd=tmp_path)
    assert "resume.safetensors is not a whole checkpoint" in message
