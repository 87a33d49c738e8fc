"""Bad input gets one sentence that names the file and the way out, and no traceback."""

import contextlib
import io
import json
import shutil

import numpy as np
import pytest
from conftest import aggan
from PIL import Image
from safetensors.torch import load_file, save_file

from aggan.reproduction.command_line import main


def make_pairs(root, subjects=("s1", "s2", "s3", "s4", "s5"), images=2, size=40):
    rng = np.random.default_rng(0)
    for split, members in (
        ("train", subjects[:-3]),
        ("val", subjects[-3:-1]),
        ("test", subjects[-1:]),
    ):
        for kind in ("thermal", "visible"):
            (root / split / kind).mkdir(parents=True, exist_ok=True)
            for subject in members:
                for number in range(images):
                    shape = (size, size) if kind == "thermal" else (size, size, 3)
                    Image.fromarray(rng.integers(0, 255, shape, np.uint8)).save(
                        root / split / kind / f"{subject}_{number}.png"
                    )
    return root


def refusal(*arguments, cwd):
    """What the command says on standard error when it refuses; an exception that it does not turn into a sentence fails the test."""
    said = io.StringIO()
    with contextlib.chdir(cwd), contextlib.redirect_stderr(said):
        assert main(list(map(str, arguments))) == 1
    last = said.getvalue().strip().splitlines()[-1]
    assert last.startswith("aggan: ")
    return last


TRAIN = ("train", "--profile", "smoke", "--dataset", "folder", "--root", "pairs")


def test_missing_partner(tmp_path):
    (make_pairs(tmp_path / "pairs") / "train" / "visible" / "s1_0.png").unlink()
    assert "s1_0.png" in refusal(*TRAIN, cwd=tmp_path)


def test_unequal_sizes(tmp_path):
    Image.new("RGB", (30, 40)).save(
        make_pairs(tmp_path / "pairs") / "train" / "visible" / "s1_0.png"
    )
    assert "s1_0.png" in refusal(*TRAIN, cwd=tmp_path)


def test_truncated_image(tmp_path):
    path = make_pairs(tmp_path / "pairs") / "train" / "visible" / "s1_0.png"
    path.write_bytes(path.read_bytes()[:600])
    assert "s1_0.png" in refusal(*TRAIN, cwd=tmp_path)


def test_validation_without_impostors(tmp_path):
    root = make_pairs(tmp_path / "pairs")
    for path in root.glob("val/*/s3_*.png"):
        path.unlink()
    assert "validation split has 1 subject" in refusal(*TRAIN, cwd=tmp_path)
    assert not list(tmp_path.glob("runs/**/*.safetensors")), "training came before the refusal"


def test_empty_split(tmp_path):
    root = make_pairs(tmp_path / "pairs")
    for kind in ("thermal", "visible"):
        shutil.rmtree(root / "test" / kind)
        (root / "test" / kind).mkdir()
    assert "test" in refusal(*TRAIN, cwd=tmp_path)


def test_subject_in_train_and_test(tmp_path):
    root = make_pairs(tmp_path / "pairs")
    for kind in ("thermal", "visible"):
        shutil.copy(root / "train" / kind / "s1_0.png", root / "test" / kind / "s1_9.png")
    assert "s1" in refusal(*TRAIN, cwd=tmp_path)


@pytest.mark.parametrize(
    "arguments, word",
    [
        (("train", "--method", "ag-gun"), "known are ag-gan"),
        (("train", "--dataset", "arl"), "synthetic-arl"),
        (("train", "--profile", "huge"), "known are smoke"),
        (
            ("train", "--profile", "smoke", "--method-kwargs", '{"identity": "synthetic-matcher"}'),
            "cannot judge it",
        ),
        (("train", "--profile", "smoke", "--matcher", "nobody"), "nobody"),
        (("reproduce", "table9"), "table9"),
        (
            ("translate", "--weights", "nowhere.safetensors", "--input", ".", "--output", "out"),
            "nowhere.safetensors",
        ),
    ],
)
def test_unknown_names(tmp_path, arguments, word):
    assert word in refusal(*arguments, cwd=tmp_path)
    assert not (tmp_path / "runs").exists(), "work was done before the refusal"


def test_nan_loss_stops_and_keeps_what_there_was(tmp_path):
    said = refusal(
        "train", "--profile", "smoke", "--method-kwargs", '{"learning_rate": 1e30}', cwd=tmp_path
    )
    assert "became" in said and "learning rate" in said
    assert not list(tmp_path.glob("runs/**/*.tmp"))


def test_foreign_checkpoints(workplace, run_folder, tmp_path):
    whole = next((run_folder / "checkpoints").iterdir())
    (tmp_path / "images").mkdir()
    Image.new("L", (40, 40), 90).save(tmp_path / "images" / "a.png")

    def said(path):
        return refusal(
            "translate",
            "--weights",
            path,
            "--input",
            tmp_path / "images",
            "--output",
            tmp_path / "out",
            cwd=workplace,
        )

    (tmp_path / "cut.safetensors").write_bytes(whole.read_bytes()[:5000])
    assert "cut.safetensors is not a whole checkpoint" in said(tmp_path / "cut.safetensors")
    save_file(load_file(whole), tmp_path / "nameless.safetensors")
    assert "nameless.safetensors does not say which method" in said(
        tmp_path / "nameless.safetensors"
    )
    config = {"method": json.dumps("ag-gan"), "method_kwargs": json.dumps({"width": 16})}
    save_file(load_file(whole), tmp_path / "other.safetensors", config)
    assert "other.safetensors does not fit" in said(tmp_path / "other.safetensors")


def test_damaged_resume_file_is_named(tmp_path):
    command = ("train", "--profile", "smoke", "--overrides", '{"steps": 8}')
    aggan(*command, cwd=tmp_path)
    resume = next(tmp_path.glob("runs/**/resume.safetensors"))
    for path in [*resume.parent.glob("checkpoints/*"), resume.parent / "report.json"]:
        path.unlink()
    resume.write_bytes(resume.read_bytes()[:1000])
    assert "resume.safetensors is not a whole checkpoint" in refusal(*command, cwd=tmp_path)
