"""The real data sets' way through the program, on made-up trees in their layouts: prepare,
train, evaluate, table.
"""

import json
import shutil
import sqlite3
import zipfile

import pandas as pd
import pytest
from conftest import aggan
from fabricate import arl_vtf, framed, png, speakingfaces
from PIL import Image

from aggan.data import open_pairs
from aggan.synthetic.rendering import FaceKey, render

ARL = ("--dataset-kwargs", '{"expected_subjects": {"dev": 6, "test": 6}}')


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """A folder with a store of each of the two data sets."""
    folder = tmp_path_factory.mktemp("stores")
    speakingfaces(folder / "sf_download", subjects=(*range(1, 15), *range(101, 107)))
    arl_vtf(folder / "arl_download")
    said = {
        "speakingfaces": aggan(
            "prepare",
            "--dataset",
            "speakingfaces",
            "--root",
            "sf_download",
            "--output",
            "speakingfaces",
            "--size",
            48,
            cwd=folder,
        ),
        "arl-vtf": aggan(
            "prepare",
            "--dataset",
            "arl-vtf",
            "--root",
            "arl_download",
            "--output",
            "arl-vtf",
            "--size",
            48,
            *ARL,
            cwd=folder,
        ),
    }
    return folder, {name: done.stdout for name, done in said.items()}


def test_stores_have_the_protocol(stores):
    folder, said = stores
    assert "speakingfaces: 80 pairs written, 0 kept, 122 left out" in said["speakingfaces"], said[
        "speakingfaces"
    ]  # subjects that are not there
    assert "122 x missing subject" in said["speakingfaces"]
    assert "arl-vtf: 36 pairs written, 0 kept, 0 left out" in said["arl-vtf"]
    sizes = {
        name: {
            split: len(open_pairs(name, folder / name, split)) for split in ("train", "val", "test")
        }
        for name in said
    }
    assert sizes == {
        "speakingfaces": {"train": 48, "val": 8, "test": 24},
        "arl-vtf": {"train": 12, "val": 6, "test": 12},
    }
    test = open_pairs("speakingfaces", folder / "speakingfaces", "test")
    assert {(record.session, record.role) for record in test.records} == {
        (1, "gallery"),
        (2, "probe"),
    }
    assert {record.subject for record in test.records} == {str(n) for n in range(101, 107)}
    expression = open_pairs("arl-vtf", folder / "arl-vtf", "test", probes="P_TE0-")
    assert sorted(record.role for record in expression.records) == ["gallery"] * 6 + ["probe"] * 6
    for name in said:  # thermal and visible faces lie over one another
        sample = open_pairs(name, folder / name, "test", image_size=48)[0]
        assert sample.visible.std() > 0.2 and sample.thermal.std() > 0.2


def test_second_prepare_writes_nothing(stores):
    folder, _ = stores
    before = {path: path.stat().st_mtime_ns for path in (folder / "arl-vtf").glob("*.pixels")}
    assert (
        "0 pairs written, 36 kept"
        in aggan(
            "prepare",
            "--dataset",
            "arl-vtf",
            "--root",
            "arl_download",
            "--output",
            "arl-vtf",
            "--size",
            48,
            *ARL,
            cwd=folder,
        ).stdout
    )
    assert before == {
        path: path.stat().st_mtime_ns for path in (folder / "arl-vtf").glob("*.pixels")
    }


@pytest.mark.parametrize(
    "dataset, table, rows", [("speakingfaces", "table2", 9), ("arl-vtf", "table4", 3)]
)
def test_train_evaluate_and_table(stores, dataset, table, rows):
    folder, _ = stores
    data = ("--dataset", dataset, "--root", dataset, "--profile", "smoke")
    said = aggan("train", "--method", "ag-gan+", *data, cwd=folder).stdout
    run = folder / said.splitlines()[-1]
    report = json.loads((run / "report.json").read_text())
    attribute, groups = (
        ("glasses", {"glasses", "none"})
        if dataset == "speakingfaces"
        else ("eyewear", {"none", "off"})
    )
    assert report["subjects"] == 6 and set(report["groups"][attribute]) == groups
    assert (
        sum(group["probes"] for group in report["groups"][attribute].values()) == report["probes"]
    )
    assert attribute in said  # the command prints them
    assert "knows synthetic faces only" in said  # as the shipped matcher does
    judged = aggan(
        "evaluate", "--weights", run, *data, "--output", f"judged_{dataset}", cwd=folder
    ).stdout
    assert f"AUC {100 * report['auc']:.2f} %" in judged
    aggan("reproduce", table, *data, "--jobs", 2, cwd=folder)
    made = pd.read_csv(folder / "runs" / table / "table.csv")
    assert len(made) == rows + 2 and (made["status"] == "run").all()
    assert "knows synthetic faces only" in (folder / "runs" / table / "table.md").read_text()
    provenance = json.loads((folder / "runs" / table / "provenance.json").read_text())
    assert dataset in json.dumps(provenance)
    count = len(open_pairs(dataset, folder / dataset, "all"))
    assert (
        f"{count} images"
        in aggan(
            "translate",
            "--weights",
            run,
            "--input",
            dataset,
            "--output",
            f"out_{dataset}",
            cwd=folder,
        ).stdout
    )


def left_out(store):
    """Kinds and sentences of what a store's report lists."""
    rows = (
        sqlite3.connect(store / "manifest.sqlite")
        .execute("SELECT kind, reason FROM left_out")
        .fetchall()
    )
    return {kind: [reason for own, reason in rows if own == kind] for kind, _ in rows}


def test_every_damage_has_its_sentence(tmp_path):
    root = speakingfaces(tmp_path / "tree", subjects=range(1, 6), positions=(1, 2))
    home = root / "image_only"
    with zipfile.ZipFile(home / "sub_1_io.zip") as archive:
        archive.extractall(home)
    (home / "sub_1_io.zip").unlink()
    thermal = home / "sub_1_io/trial_1/thr_image"
    (thermal / "1_1_1_1_300_1.png").write_bytes(
        (thermal / "1_1_1_1_300_1.png").read_bytes()[:3000]
    )  # truncated
    (home / "sub_1_io/trial_1/rgb_image_aligned/1_1_1_2_300_3.png").unlink()  # missing partner
    Image.new("RGB", (320, 240)).save(
        home / "sub_1_io/trial_2/thr_image/1_2_1_1_300_1.png"
    )  # wrong size
    blank = png(framed(render([FaceKey(1)], size=220).visible[0] * 0, 464, 348, 120, 60))
    (home / "sub_1_io/trial_2/rgb_image_aligned/1_2_1_2_300_3.png").write_bytes(blank)  # nobody
    (home / "sub_2_io.zip").write_bytes(b"")  # empty zip
    with zipfile.ZipFile(home / "sub_3_io.zip", "a") as archive:
        archive.writestr("../../../3_1_1_3_300_1.png", b"")  # path that escapes
        for stream, name in (
            (1, "thr_image"),
            (3, "rgb_image_aligned"),
        ):  # the same pair under another name
            archive.writestr(
                f"sub_3_io/trial_1/{name}/3_1_1_9_300_{stream}.png",
                archive.read(f"sub_3_io/trial_1/{name}/3_1_1_1_300_{stream}.png"),
            )
    shutil.copytree(home / "sub_1_io/trial_2", root / "train_data/sub_1/trial_2")  # there twice
    aggan(
        "prepare",
        "--dataset",
        "speakingfaces",
        "--root",
        "tree",
        "--output",
        "store",
        "--size",
        32,
        cwd=tmp_path,
    )
    found = left_out(tmp_path / "store")
    counts = {kind: len(said) for kind, said in found.items() if kind != "missing subject"}
    assert counts == {
        "truncated": 1,
        "no partner": 1,
        "size": 1,
        "no face": 1,
        "empty zip": 1,
        "path escapes": 1,
        "duplicate": 5,
    }
    for kind, word in {
        "truncated": "1_1_1_1_300_1.png",
        "no partner": "1_1_1_2_300_1.png",
        "size": "320 x 240 pixels, not 464 x 348",
        "no face": "1_2_1_2_300_3.png",
        "empty zip": "sub_2_io.zip",
        "path escapes": "3_1_1_3_300_1.png",
    }.items():
        assert word in found[kind][0]
    page = (tmp_path / "store/report.html").read_text()
    assert all(kind in page for kind in counts)
    people = root / "metadata/subjects.csv"
    people.write_text(people.read_text().replace("Gender", "Sex"))  # wrong column
    refused = aggan(
        "prepare",
        "--dataset",
        "speakingfaces",
        "--root",
        "tree",
        "--output",
        "other",
        cwd=tmp_path,
        check=False,
    )
    assert (
        refused.returncode == 1
        and "subjects.csv has no column 'Gender'" in refused.stderr
        and not (tmp_path / "other").exists()
    )


def test_prepare_goes_on_after_a_kill(tmp_path):
    """Stopped at any moment, the same command ends with the same store."""
    import subprocess
    import time

    from conftest import AGGAN

    speakingfaces(tmp_path / "tree", subjects=range(1, 9))
    command = ("prepare", "--dataset", "speakingfaces", "--root", "tree", "--size", "32")
    aggan(*command, "--output", "whole", cwd=tmp_path)
    running = subprocess.Popen(
        [AGGAN, *command, "--output", "killed", "--workers", "0"],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    manifest = tmp_path / "killed/manifest.sqlite"
    until = time.monotonic() + 60
    while not manifest.exists() and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.5)
    running.kill()
    running.wait()
    aggan(*command, "--output", "killed", cwd=tmp_path)
    for name in ("train.pixels", "val.pixels"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
