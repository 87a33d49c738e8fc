"""What the whole-program tests share. They call the command line as a user does, at `smoke` size."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

PROJECT = Path(__file__).resolve().parents[1]
AGGAN = str(Path(sys.executable).parent / "aggan")  # the command beside this Python
REAL_PAIRS = Path(
    os.environ.get("AGGAN_REAL_PAIRS", PROJECT.parent / "shared" / "data" / "speakingfaces")
)
REAL_WEIGHTS = Path(
    os.environ.get("AGGAN_REAL_WEIGHTS", PROJECT.parent / "shared" / "data" / "weights")
)


def aggan(*arguments, cwd, check=True):
    """Run the command line in `cwd`; the completed process, with its output as text."""
    done = subprocess.run([AGGAN, *map(str, arguments)], cwd=cwd, capture_output=True, text=True)
    if check:
        assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="session")
def workplace(tmp_path_factory):
    """A folder in which a smoke experiment of either method has been run."""
    folder = tmp_path_factory.mktemp("workplace")
    aggan("reproduce", "demo", "--profile", "smoke", cwd=folder)
    return folder


@pytest.fixture(scope="session")
def run_folder(workplace):
    """The run folder of the smoke AG-GAN."""
    return next((workplace / "runs" / "synthetic-arl" / "ag-gan").iterdir())


@pytest.fixture(scope="session")
def site(testrun_uid):
    """The documentation, built as `make docs` does, by the first worker that asks; any warning of Sphinx fails it."""
    built = PROJECT / "_docs" / f"built_in_{testrun_uid}"
    with FileLock(PROJECT / "_docs.lock"):
        if not built.exists():
            done = subprocess.run(
                [sys.executable, PROJECT / "docs" / "build.py"], capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            built.touch()
    return PROJECT / "_docs"
