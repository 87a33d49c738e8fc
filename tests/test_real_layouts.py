"""The real data sets from download to table, on fabricated trees in their layouts."""

import contextlib
import json
import shutil
import signal
import sqlite3
import subprocess
import time
import zipfile

import pandas as pd
import pytest
from conftest import AGGAN, aggan
from fabricate import arl_vtf, speakingfaces
from PIL import Image
from test_pipeline import assert_scores_are_those_of_the_reports

from aggan.data import open_pairs

ARL = ("--expected-subjects", "dev", 6, "test", 6)


def prepare(dataset, root, output, *options, cwd, check=True):
    """`aggan prepare`; the root is absolute, as a process opens an archive of one path once."""
    command = ("prepare", "--dataset", dataset, "--root", cwd / root, "--output", output)
    return aggan(*command, *options, cwd=cwd, check=check)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """A folder with a store of each of the two data sets, and what the commands printed."""
    folder = tmp_path_factory.mktemp("stores")
    speakingfaces(folder / "sf_download", subjects=(*range(1, 15), *range(101, 107)))
    arl_vtf(folder / "arl_download")
    size = ("--size", 48)
    printed = {
        "speakingfaces": prepare(
            "speakingfaces", "sf_download", "speakingfaces", *size, cwd=folder
        ),
        "arl-vtf": prepare("arl-vtf", "arl_download", "arl-vtf", *size, *ARL, cwd=folder),
    }
    return folder, {name: done.stdout for name, done in printed.items()}


def test_stores_have_the_protocol(stores):
    folder, printed = stores
    # The fabricated trees lack most subjects of SpeakingFaces.
    assert "80 pairs written, 0 kept, 122 left out" in printed["speakingfaces"]
    assert "122 x missing subject" in printed["speakingfaces"]
    assert "arl-vtf: 36 pairs written, 0 kept, 0 left out" in printed["arl-vtf"]
    counts = {
        (name, split): len(open_pairs(name, folder / name, split))
        for name in printed
        for split in ("train", "val", "test")
    }
    assert list(counts.values()) == [48, 8, 24, 12, 6, 12]
    test = open_pairs("speakingfaces", folder / "speakingfaces", "test").records
    assert {(record.session, record.role) for record in test} == {(1, "gallery"), (2, "probe")}
    assert {record.subject for record in test} == {str(n) for n in range(101, 107)}
    expression = open_pairs("arl-vtf", folder / "arl-vtf", "test", probes="P_TE0-")
    assert sorted(record.role for record in expression.records) == ["gallery"] * 6 + ["probe"] * 6
    for name in printed:
        sample = open_pairs(name, folder / name, "test", image_size=48)[0]
        assert sample.visible.std() > 0.2 and sample.thermal.std() > 0.2  # a face, no background


def test_second_prepare_writes_nothing(stores):
    folder, _ = stores

    def times():
        return {path: path.stat().st_mtime_ns for path in (folder / "arl-vtf").glob("*.pixels")}

    before = times()
    done = prepare("arl-vtf", "arl_download", "arl-vtf", "--size", 48, *ARL, cwd=folder)
    assert "0 pairs written, 36 kept" in done.stdout
    assert times() == before and before


GROUPS = {
    "speakingfaces": ("glasses", {"glasses", "none"}),
    "arl-vtf": ("eyewear", {"none", "off"}),
}


@pytest.mark.parametrize(
    "dataset, table, rows",
    [("arl-vtf", "table4", 3), pytest.param("speakingfaces", "table3", 4, marks=pytest.mark.soak)],
)
def test_train_evaluate_and_table(stores, dataset, table, rows):
    folder, _ = stores
    data = ("--dataset", dataset, "--root", dataset, "--profile", "smoke")
    printed = aggan("train", "ag-gan+", *data, cwd=folder).stdout
    run = folder / printed.splitlines()[-1]
    report = json.loads((run / "report.json").read_text())
    attribute, values = GROUPS[dataset]
    groups = report["groups"][attribute]
    assert report["subjects"] == 6 and set(groups) == values and attribute in printed
    assert sum(group["probes"] for group in groups.values()) == report["probes"]
    assert "knows rendered people only" not in printed  # judge and teacher know real faces

    output = f"evaluated_{dataset}"
    printed = aggan("evaluate", run, *data, "--output", output, cwd=folder).stdout
    assert f"AUC {100 * report['auc']:.2f} %" in printed
    other = ("--matcher", "synthetic-matcher", "--output", f"{output}_by_another")
    printed = aggan("evaluate", run, *data, *other, cwd=folder).stdout
    assert "which knows rendered people only" in printed

    aggan("reproduce", table, *data, "--jobs", 2, cwd=folder)
    written = folder / "runs" / table
    scores = pd.read_csv(written / "table.csv")
    assert len(scores) == rows + 2 and (scores["status"] == "run").all()
    assert_scores_are_those_of_the_reports(scores, folder / "runs")
    text = (written / "table.md").read_text()
    assert "AUC (paper)" in text and "not run" not in text
    assert "| *not in the paper's table:*" in text
    assert ("w/ ArcFace is taught by" in text) == (table == "table4")
    assert "Distinguishable" in (written / "statistics.md").read_text()
    assert dataset in (written / "provenance.json").read_text()

    count = len(open_pairs(dataset, folder / dataset, "all"))
    faces = ("--input", dataset, "--output", f"faces_{dataset}")
    assert f"{count} images" in aggan("translate", run, *faces, cwd=folder).stdout
    assert len(list((folder / f"faces_{dataset}").rglob("*.png"))) == count


def left_out(store):
    """Kind -> messages of the images that a store's report lists."""
    with contextlib.closing(sqlite3.connect(store / "manifest.sqlite")) as manifest:
        rows = manifest.execute("SELECT kind, reason FROM left_out").fetchall()
    return {kind: [reason for own, reason in rows if own == kind] for kind, _ in rows}


DAMAGES = {  # kind: how many, a word of the message
    "truncated": (1, "1_1_1_1_300_1.png"),
    "no partner": (1, "1_1_1_2_300_1.png"),
    "size": (1, "320 x 240 pixels, not 464 x 348"),
    "no face": (1, "1_2_1_2_300_3.png"),
    "empty zip": (1, "sub_2_io.zip"),
    "path escapes": (1, "3_1_1_3_300_1.png"),
    "duplicate": (5, ""),
}


def damage(root):
    """Damage a tree of SpeakingFaces in every way of `DAMAGES`."""
    home = root / "image_only"
    with zipfile.ZipFile(home / "sub_1_io.zip") as archive:
        archive.extractall(home)
    (home / "sub_1_io.zip").unlink()
    first, second = home / "sub_1_io/trial_1", home / "sub_1_io/trial_2"
    truncated = first / "thr_image/1_1_1_1_300_1.png"
    truncated.write_bytes(truncated.read_bytes()[:3000])
    (first / "rgb_image_aligned/1_1_1_2_300_3.png").unlink()  # no partner
    Image.new("RGB", (320, 240)).save(second / "thr_image/1_2_1_1_300_1.png")  # size
    for name in ("rgb_image_aligned/1_2_1_2_300_3.png", "thr_image/1_2_1_2_300_1.png"):
        Image.new("RGB", (464, 348)).save(second / name)  # no face
    (home / "sub_2_io.zip").write_bytes(b"")  # empty zip
    with zipfile.ZipFile(home / "sub_3_io.zip", "a") as archive:
        archive.writestr("../../../3_1_1_3_300_1.png", b"")  # path escapes
        for stream, folder in ((1, "thr_image"), (3, "rgb_image_aligned")):
            copied = archive.read(f"sub_3_io/trial_1/{folder}/3_1_1_1_300_{stream}.png")
            name = f"sub_3_io/trial_1/{folder}/3_1_1_9_300_{stream}.png"
            archive.writestr(name, copied)  # duplicate: the same pair under another name
    shutil.copytree(second, root / "train_data/sub_1/trial_2")  # duplicate: in two folders


def test_every_damage_is_reported(tmp_path):
    root = speakingfaces(tmp_path / "tree", subjects=range(1, 6), positions=(1, 2))
    damage(root)
    prepare("speakingfaces", "tree", "store", "--size", 32, cwd=tmp_path)
    found, page = left_out(tmp_path / "store"), (tmp_path / "store/report.html").read_text()
    assert set(found) - {"missing subject"} == set(DAMAGES)
    for kind, (count, word) in DAMAGES.items():
        assert len(found[kind]) == count and word in found[kind][0] and kind in page, kind
    table = root / "metadata/subjects.csv"
    table.write_text(table.read_text().replace("Gender", "Sex"))
    refused = prepare("speakingfaces", "tree", "other", cwd=tmp_path, check=False)
    assert refused.returncode == 1 and "subjects.csv has no column 'Gender'" in refused.stderr
    assert not (tmp_path / "other").exists()


def rows(store):
    """The pairs of a store, finished or not, in their order."""
    sql = "SELECT split, position, name, role, placed_by, source_hash, stamp FROM pairs"
    with contextlib.closing(sqlite3.connect(store / "manifest.sqlite")) as manifest:
        return manifest.execute(f"{sql} ORDER BY split, position").fetchall()


def test_prepare_resumes_after_a_kill(stores):
    """Killed when a part of the pairs is written, the same command ends with the same store."""
    folder, _ = stores
    whole, killed = folder / "speakingfaces", folder / "killed"
    command = ("prepare", "--dataset", "speakingfaces", "--root", folder / "sf_download")
    options = ("--output", killed, "--size", "48", "--workers", "0")
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([AGGAN, *command, *options], **silent) as running:
        deadline = time.monotonic() + 120
        while not (killed / "train.pixels").exists() or not rows(killed):
            assert running.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        running.kill()
    assert running.returncode == -signal.SIGKILL and not (killed / "store.json").exists()
    assert 0 < len(rows(killed)) < len(rows(whole))
    done = prepare("speakingfaces", "sf_download", "killed", "--size", 48, cwd=folder)
    assert ", 64 kept" in done.stdout and rows(killed) == rows(whole)
    for split in ("train", "val", "test"):
        assert (killed / f"{split}.pixels").read_bytes() == (whole / f"{split}.pixels").read_bytes()
