"""The sdist and the wheel hold all that a user without a clone needs."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest
from conftest import PROJECT
from PIL import Image

TARGETS = ("demo", "train", "table1", "table4", "figure2", "figure9")


def run(*command, **settings):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **settings)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """sdist and wheel of a clean clone."""
    folder = tmp_path_factory.mktemp("build")
    run("git", "clone", "--quiet", PROJECT, folder / "clone")
    run(
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--outdir",
        folder / "dist",
        cwd=folder / "clone",
    )
    (wheel,), (sdist,) = (list((folder / "dist").glob(ending)) for ending in ("*.whl", "*.tar.gz"))
    return wheel, sdist


def test_wheel_carries_weights_and_notebooks(built):
    names = set(zipfile.ZipFile(built[0]).namelist())
    assert {f"aggan/paper/{target}.ipynb" for target in TARGETS} <= names
    assert {"aggan/py.typed", "aggan/weights/synthetic-matcher.safetensors"} <= names
    assert not any(name.startswith(("nbs/", "tests/", "figures/")) for name in names)


def test_sdist_is_enough_to_build_the_wheel(built):
    with tarfile.open(built[1]) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    assert {"settings.ini", "setup.py", "nbs/paper/table1.ipynb", "constraints.txt"} <= names


def pins(file):
    """The versions that a file of requirements pins, by normalised name, and its lines."""
    text = (PROJECT / file).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if "==" in line and line[0] != "#"]
    split = (re.match(r"([\w.-]+)==(\S+)", line).groups() for line in lines)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in split}, lines


def test_the_lock_pins_the_tested_versions_with_their_sums():
    locked, lines = pins("requirements-lock.txt")
    tested, _ = pins("constraints.txt")
    assert all(locked.get(name) == version for name, version in tested.items())
    assert all("--hash=sha256:" in line for line in lines)
    further = [line for line in lines if line.split("==")[0].lower() not in tested]
    assert all(" ; " in line for line in further if not line.startswith(("setuptools", "wheel")))
    config = ConfigParser(delimiters=["="])
    config.read(PROJECT / "settings.ini", encoding="utf-8")
    named = (
        text
        for name, text in config["DEFAULT"].items()
        if re.fullmatch(r"(\w+_)?requirements", name) and not name.startswith("cluster")
    )
    required = (re.match(r"[\w.-]+", part)[0] for text in named for part in text.split())
    assert {re.sub(r"[-_.]+", "-", name).lower() for name in required} <= locked.keys()


def test_licences_of_all_pinned_packages_are_listed():
    rows = (PROJECT / "docs" / "licences.md").read_text(encoding="utf-8").splitlines()[7:]
    listed = {tuple(row.strip("| ").split(" | ")[:2]) for row in rows}
    text = (PROJECT / "constraints.txt").read_text(encoding="utf-8")
    assert listed == {tuple(line.split("==")) for line in text.splitlines() if "==" in line}


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """A fresh environment with the wheel alone beside the packages that it requires."""
    folder = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    packages = next((folder / "venv" / "lib").glob("python3*/site-packages"))
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        folder / "venv" / "bin" / "python",
        "install",
        "--no-deps",
        "--no-index",
        built[0],
    )
    required = Path(pytest.__file__).resolve().parents[1]
    (packages / "required.pth").write_text(f"{required}\n")  # its own path files are not read
    return folder / "venv" / "bin"


def test_wheel_trains_translates_and_reproduces(installed, smoke_runs, tmp_path):
    """It trains AG-GAN+ and renders the faces; the run of AG-GAN is there already."""
    own = Path("runs", "synthetic-arl", "ag-gan")
    shutil.copytree(smoke_runs / own, tmp_path / own)
    bare = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    settings = dict(cwd=tmp_path, env=bare)
    where = run(installed / "python", "-c", "import aggan; print(aggan.__file__)", **settings)
    assert Path(where.strip()).is_relative_to(installed.parent)
    run(installed / "aggan", "reproduce", "demo", "--profile", "smoke", **settings)
    assert (tmp_path / "runs" / "demo" / "table.md").is_file()
    assert (tmp_path / "runs" / "demo" / "demo.ipynb").is_file()
    assert len(list((tmp_path / own).iterdir())) == 1
    (weights,) = (tmp_path / "runs" / "synthetic-arl" / "ag-gan+").iterdir()
    assert (weights / "train.ipynb").is_file() and (weights / "report.json").is_file()
    source = next((tmp_path / "runs").rglob("samples/*.png"))
    (tmp_path / "thermal").mkdir()
    Image.open(source).convert("L").save(tmp_path / "thermal" / "face.png")
    run(
        installed / "aggan",
        "translate",
        weights,
        "--input",
        "thermal",
        "--output",
        "faces",
        **settings,
    )
    assert (tmp_path / "faces" / "face.png").is_file()


def test_a_folder_named_as_the_package_does_not_hide_it(tmp_path):
    (tmp_path / "aggan").mkdir()
    code = "import aggan.commands; print(aggan.__version__)"
    assert run(sys.executable, "-c", code, cwd=tmp_path).strip()
