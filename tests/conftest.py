"""Fixtures of the whole-program tests, which call the command line at `smoke` size."""

import io
import os
import re
import shutil
import subprocess
import sys
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from filelock import FileLock

from aggan.reproduction.command_line import main

PROJECT = Path(__file__).resolve().parents[1]
AGGAN = str(Path(sys.executable).parent / "aggan")  # the command beside this Python
REAL_PAIRS = Path(
    os.environ.get("AGGAN_REAL_PAIRS", PROJECT.parent / "shared" / "data" / "speakingfaces")
)
REAL_WEIGHTS = Path(
    os.environ.get("AGGAN_REAL_WEIGHTS", PROJECT.parent / "shared" / "data" / "weights")
)


LONGEST = (
    *("pipeline", "docs", "robustness", "gpu", "packaging", "real_layouts", "distributed"),
    *("who_is_who", "methods", "day", "resume", "benchmarks", "file_kinds", "commands", "model"),
    "options",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """The files that take longest come first, so that several workers end together."""
    places = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


def completed(done, check):
    """A completed process; if `check`, one that has succeeded."""
    if check:
        assert done.returncode == 0, done.stderr
    return done


def aggan(*arguments, cwd, check=True):
    """Run a command in `cwd`, in this process: exit code and output as those of a process.

    What its child processes print is not among the output.
    """
    words, out, err = list(map(str, arguments)), io.StringIO(), io.StringIO()
    with chdir(cwd), redirect_stdout(out), redirect_stderr(err):
        code = main(words)
    done = subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())
    return completed(done, check)


def aggan_process(*arguments, cwd, check=True):
    """Run a command in `cwd` in a process of its own."""
    words = [AGGAN, *map(str, arguments)]
    return completed(subprocess.run(words, cwd=cwd, capture_output=True, text=True), check)


def peak_memory():
    """The most MiB that this process has held since Linux was last told to forget it."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


@contextmanager
def memory_below(mib):
    """What is done inside takes less memory, at its peak; not measured where there is no Linux."""
    forget = Path("/proc/self/clear_refs")
    if not forget.exists():
        yield
        return
    forget.write_text("5")
    before = peak_memory()
    try:
        yield
    finally:
        assert peak_memory() - before < mib, "MiB"


@pytest.fixture(scope="session")
def smoke_runs(tmp_path_factory, worker_id):
    """A folder in which `aggan reproduce demo` has run at `smoke` size, once for all workers."""
    shared = tmp_path_factory.getbasetemp()
    if worker_id != "master":  # each worker of pytest-xdist has a folder below the shared one
        shared = shared.parent
    folder, done = shared / "smoke", shared / "smoke.done"
    with FileLock(shared / "smoke.lock"):
        if not done.exists():
            folder.mkdir(exist_ok=True)
            demo = ("reproduce", "demo", "--profile", "smoke", "--jobs", 2)
            aggan_process(*demo, cwd=folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def workplace(smoke_runs, tmp_path_factory):
    """A copy of the smoke runs, in which the tests of one worker write."""
    folder = tmp_path_factory.mktemp("workplace")
    return Path(shutil.copytree(smoke_runs, folder, dirs_exist_ok=True))


@pytest.fixture(scope="session")
def run_folder(smoke_runs, workplace):
    """The run folder of the smoke AG-GAN, in the copy."""
    run = next(smoke_runs.glob("runs/synthetic-arl/ag-gan/*"))
    return workplace / run.relative_to(smoke_runs)


@pytest.fixture(scope="session")
def site(testrun_uid):
    """The documentation, built once as `make docs` does; any warning of Sphinx fails it."""
    built = PROJECT / "_docs" / f"built_in_{testrun_uid}"
    with FileLock(PROJECT / "_docs.lock"):
        if not built.exists():
            done = subprocess.run(
                [sys.executable, PROJECT / "docs" / "build.py"], capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            built.touch()
    return PROJECT / "_docs"
