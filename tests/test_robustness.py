"""Faults and guarantees: nothing is lost, and nothing wrong is accepted.

docs/robustness.md lists them with the test of each.
"""

import errno
import itertools
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import zipfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from conftest import PROJECT, memory_below
from killed_in_write.sitecustomize import full_disk
from PIL import Image
from safetensors.torch import save_file

from aggan.data import open_pairs
from aggan.data.images import read_image
from aggan.data.prepare import prepare
from aggan.data.protocols import reserved_memmap
from aggan.experiments import load_method, runs
from aggan.methods import create_method
from aggan.reproduction.command_line import main
from aggan.reproduction.notebooks import run_notebook
from aggan.runtime.files import delete_temporary
from aggan.training import network_tensors, save_checkpoint

SOAK = [pytest.mark.soak, pytest.mark.timeout(1800)]

# Processes that are killed


def write_notebook(path, *sources):
    """A notebook of code cells, the first of them tagged `parameters`."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.1)


def assert_gone(processes, seconds=30):
    _, left = psutil.wait_procs(processes, timeout=seconds)
    assert all(other.status() == psutil.STATUS_ZOMBIE for other in left), left


def test_killed_program_leaves_no_notebook_running(tmp_path):
    sources = (
        "seconds: int = 100",
        "open('started', 'w').close()\nimport time; time.sleep(seconds)",
    )
    template = write_notebook(tmp_path / "t.ipynb", *sources)
    program = (
        "from aggan.reproduction.notebooks import run_notebook\n"
        f"run_notebook({str(template)!r}, 'out.ipynb', {{}})"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path)
    wait_for((tmp_path / "started").exists, process)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2  # papermill and a kernel
    process.kill()
    process.wait()
    assert_gone(children)


WORKERS = """
import time
from torch.utils.data import DataLoader, Dataset
from aggan.runtime.child_processes import worker_options

class Images(Dataset):
    def __len__(self):
        return 1000
    def __getitem__(self, index):
        return bytes(2**20)

loader = DataLoader(Images(), None, collate_fn=lambda one: one, **worker_options(2))
for image in loader:
    print("started", flush=True)
    time.sleep(100)
"""


def test_killed_program_leaves_no_worker(tmp_path):
    command = [sys.executable, "-c", WORKERS]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"started\n"
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) == 2
    process.kill()
    process.wait()
    assert_gone(workers)


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param({"train": 3, "prepare": 2, "translate": 2, "export": 1}, id="ten"),
        pytest.param({"train": 29, "prepare": 22, "translate": 22}, id="hundred", marks=SOAK),
        pytest.param({"export": 13}, id="export", marks=SOAK),
        pytest.param({"train_two": 8}, id="two-processes", marks=SOAK),
        pytest.param({"reproduce": 6}, id="reproduce", marks=SOAK),
    ],
)
def test_killed_tasks_end_with_the_same_bytes(tmp_path, kills):
    """At random moments and inside writes; `test_distributed.py` and `test_pipeline.py` have the
    ninth and the tenth kill, of two processes and of a reproduction."""
    tasks = [f"{task}={number}" for task, number in kills.items()]
    command = [sys.executable, PROJECT / "tests" / "kills.py", tmp_path, *tasks]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.replace(" ", "=").split() == tasks


# Code of others


CANARY = "open({!r}, 'a').write(__name__)\n"


def test_nothing_of_the_working_directory_is_executed(tmp_path, monkeypatch):
    canary = tmp_path / "executed"
    for name in ("papermill", "aggan", "ipykernel_launcher", "json", "torch"):
        (tmp_path / f"{name}.py").write_text(CANARY.format(str(canary)))
    source = "from pathlib import Path\nimport aggan\nPath('ran').write_text(aggan.__file__)"
    template = write_notebook(tmp_path / "t.ipynb", "seed: int = 0", source)
    monkeypatch.chdir(tmp_path)
    run_notebook(template, tmp_path / "out.ipynb", {})
    assert not canary.exists()
    assert Path((tmp_path / "ran").read_text()).is_relative_to(PROJECT)


def test_working_directory_is_imported_from_where_the_path_names_it(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("where = __file__")
    source = "from pathlib import Path\nimport mine\nPath('ran').write_text(mine.where)"
    template = write_notebook(tmp_path / "t.ipynb", "seed: int = 0", source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    run_notebook(template, tmp_path / "out.ipynb", {})
    assert Path((tmp_path / "ran").read_text()).samefile(tmp_path / "mine.py")


def test_two_programs_that_make_one_target(tmp_path, monkeypatch, capfd):
    """The second says in one sentence that the first is at work, and touches nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("aggan.reproduction.notebooks.run_experiments", lambda *_: {})
    holder = (
        "from aggan.runtime.files import lock_file\n"
        "with lock_file('runs/figure9/lock', 'making it'):\n    print('held', flush=True)\n"
        "    input()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", holder], **pipes) as process:
        assert process.stdout.readline() == b"held\n"
        assert main(["reproduce", "figure9", "--profile", "smoke"]) == 1
        process.communicate(b"\n")
    said = capfd.readouterr().err.strip().splitlines()
    place = Path("runs/figure9")
    refused = f"aggan: Another process is making {place}: wait for it, or stop it, then run again."
    assert said[-1] == refused
    assert [path.name for path in place.iterdir()] == ["lock"]


def snakefile(table, folder):
    """The names that the Snakefile defines before its rules, for a table of runs."""
    text = (PROJECT / "cluster" / "Snakefile").read_text().split("\nrule all:")[0]
    config = {"table": str(table), "bin": str(folder / "bin")}
    workflow = SimpleNamespace(basedir=str(PROJECT / "cluster"))
    names = {"config": config, "workflow": workflow}
    exec(compile(text, "Snakefile", "exec"), names)
    return names


ROW = {
    "name": "table1",
    "notebook": str(PROJECT / "nbs" / "paper" / "table1.ipynb"),
    "parameters": json.dumps(
        {"output": "runs/table1", "runs": "'$(touch x)'", "steps": 3, "subjects": {"val": 2}}
    ),
    "folder": "runs/table1",
    "result": "made_from.json",
    "needs": "[]",
    "hours": "2",
    "gpus": "0",
}
HOSTILE_ROWS = {
    "name": {"name": "table1; touch x"},
    "substitution": {"name": "$(touch x)"},
    "option": {"name": "--runs"},
    "parameter": {"parameters": json.dumps({"output": "o", "seed 1; touch x #": 1})},
    "notebook": {"notebook": "/tmp/evil.ipynb"},
    "notebook above": {"notebook": str(PROJECT / "nbs" / "paper" / ".." / ".." / "x.ipynb")},
}


def write_table(path, row):
    path.write_text(
        "\n".join(",".join(f'"{part}"' for part in line) for line in (row, quoted(row))) + "\n"
    )
    return path


def quoted(row):
    return [value.replace('"', '""') for value in row.values()]


def test_table_of_runs_is_quoted(tmp_path):
    names = snakefile(write_table(tmp_path / "runs.csv", ROW), tmp_path)
    options = names["as_options"](SimpleNamespace(folder="runs/table1"))
    said = subprocess.run(["sh", "-c", f"echo {options}"], cwd=tmp_path, capture_output=True)
    assert said.stdout == b"--runs '$(touch x)' --steps 3 --subjects val 2\n"
    assert not (tmp_path / "x").exists()
    text = (PROJECT / "cluster" / "Snakefile").read_text()
    unquoted = set(re.findall(r"{(?:params|wildcards|log)[^}:]*}", text))
    assert unquoted == {"{params.options}"}, "quoted by as_options"


@pytest.mark.parametrize("changed", HOSTILE_ROWS.values(), ids=HOSTILE_ROWS)
def test_hostile_tables_of_runs_are_refused(tmp_path, changed):
    table = write_table(tmp_path / "runs.csv", ROW | changed)
    with pytest.raises(ValueError, match="was not written by aggan reproduce --list"):
        snakefile(table, tmp_path)


def test_a_table_of_runs_names_no_python_module(tmp_path):
    changed = {"parameters": '{"output": "o", "method_kwargs": {"identity": "evil\\u003arun"}}'}
    table = write_table(tmp_path / "runs.csv", ROW | changed)
    with pytest.raises(ValueError, match="names the Python module evil:run"):
        snakefile(table, tmp_path)


# Weights


SMALL = {
    "image_size": 32,
    "width": 8,
    "blocks": 1,
    "discriminator_width": 8,
    "discriminator_layers": [3, 4],
    "identity": "none",
}
HEADER = {"method": "ag-gan", "method_kwargs": SMALL}


@pytest.fixture(scope="module")
def tensors():
    torch.manual_seed(0)
    return network_tensors(create_method("ag-gan", **SMALL))


def first_weight(tensors, change):
    """The same tensors with the first weight of the generator changed."""
    name = next(name for name in tensors if name.startswith("generator.") and "weight" in name)
    return tensors | {name: change(tensors[name].clone())}


WRONG_TENSORS = {
    "NaN": (lambda weight: weight.fill_(float("nan")), "not finite"),
    "infinite": (lambda weight: weight / 0, "not finite"),
    "integers": (lambda weight: weight.round().int(), "holds torch.int32"),
    "other shape": (lambda weight: weight[..., :1], "does not fit"),
}


@pytest.mark.parametrize("change, message", WRONG_TENSORS.values(), ids=WRONG_TENSORS)
def test_wrong_tensors_are_refused(tensors, tmp_path, change, message):
    save_checkpoint(tmp_path / "a.safetensors", first_weight(tensors, change), HEADER)
    with pytest.raises(ValueError, match=f"a.safetensors.*{message}"):
        load_method(tmp_path / "a.safetensors")


def test_flipped_bits_are_noticed(tensors, tmp_path):
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, tensors, HEADER)
    load_method(path)
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")  # of the tensors
    random = np.random.default_rng(0)
    for place in random.integers(start, len(whole), 20):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="a.safetensors"):
            load_method(path)


def test_weights_without_a_sum_are_read(tensors, tmp_path):
    header = {name: json.dumps(value) for name, value in HEADER.items()}
    save_file(tensors, tmp_path / "a.safetensors", header)
    load_method(tmp_path / "a.safetensors")


HOSTILE_HEADERS = {
    "no method": {},
    "method a list": {"method": ["ag-gan"]},
    "method a mapping": {"method": {}},
    "method unknown": {"method": "os.system"},
    "options a list": {"method_kwargs": [1]},
    "options a number": {"method_kwargs": 1},
    "options null": {"method_kwargs": None},
    "deep": {"taught_by": "DEEP"},
    **{
        f"{name} {value!r:.20}": {"method_kwargs": SMALL | {name: value}}
        for name, values in {
            "width": (3000, 10**6, 10**12, -1, 0, "8", [8], None, 1e308, True),
            "blocks": (10**7, 10**4, -1, "many"),
            "discriminator_layers": ([10**6], [3] * 10**5, [], [[3]], "34", 4, [3, 10**9]),
            "discriminator_width": (10**5, {}, "x"),
            "image_size": (10**9, "32", -32, None),
            "channels": (2, 10**6, "3"),
            "attention": ("none", "__import__('os')", 1, ["cam"]),
            "identity": ("../../etc/passwd", "os:system", 3),
            "unknown": (1,),
            "learning_rate": ("1", float("nan"), -1),
        }.items()
        for value in values
    },
}


def write_header(path, tensors, changed):
    header = {name: json.dumps(value) for name, value in (HEADER | changed).items()}
    if changed == {}:
        header = {}
    if changed.get("taught_by") == "DEEP":
        header["taught_by"] = "[" * 10**5
    save_file(tensors, path, header)


def test_hostile_headers_are_refused_by_name(tensors, tmp_path):
    path, accepted = tmp_path / "a.safetensors", []
    for name, changed in HOSTILE_HEADERS.items():
        write_header(path, tensors, changed)
        began = time.monotonic()
        try:
            with memory_below(1024):
                load_method(path)
        except ValueError as error:
            assert "a.safetensors" in str(error) and "\n" not in str(error), (name, str(error))
        else:
            accepted.append(name)
        assert time.monotonic() - began < 10, name
    # options that loading replaces, or that decide nothing about the tensors
    assert set(accepted) <= {
        *(name for name in HOSTILE_HEADERS if name.startswith(("identity", "learning_rate"))),
        "image_size 1000000000",
    }


# Disks


def test_full_disk_refuses_the_face_cache_before_it_is_mapped(tmp_path, monkeypatch):
    monkeypatch.setattr("os.posix_fallocate", full_disk)
    with pytest.raises(OSError, match="No space left"):
        reserved_memmap(tmp_path / "faces.npy", np.uint8, (1000, 4, 8, 8))
    monkeypatch.undo()
    reserved_memmap(tmp_path / "faces.npy", np.uint8, (1000, 4, 8, 8))
    assert (tmp_path / "faces.npy").stat().st_blocks * 512 >= 1000 * 256


def test_temporary_files_of_a_killed_program_are_deleted(tmp_path):
    left = tmp_path / "checkpoints" / ".step_0000003.safetensors.01ab23cd.tmp"
    left.parent.mkdir()
    left.touch()
    (tmp_path / ".notes.tmp").touch()
    delete_temporary(tmp_path)
    assert {path.name for path in tmp_path.rglob("*.tmp")} == {".notes.tmp"}


# Stores and pictures


@pytest.fixture
def pairs(tmp_path):
    """A folder of noise pairs: four of each of six subjects."""
    root, random = tmp_path / "pairs", np.random.default_rng(0)
    for side, shape in (("thermal", (40, 40)), ("visible", (40, 40, 3))):
        (root / side).mkdir(parents=True)
        for name in (f"s{subject}_{number}" for subject in range(6) for number in range(4)):
            picture = Image.fromarray(random.integers(0, 255, shape, np.uint8))
            picture.save(root / side / f"{name}.png")
    return root


def test_what_the_machine_lacks_is_not_remembered(pairs, tmp_path, monkeypatch):
    path, open_file = pairs / "thermal" / "s0_0.png", Path.read_bytes
    for fault in (
        PermissionError(errno.EACCES, "denied"),
        OSError(errno.EIO, "I/O"),
        MemoryError(),
    ):
        store = tmp_path / f"store {type(fault).__name__}"

        def read(self, fault=fault):
            if self == path:
                raise fault
            return open_file(self)

        monkeypatch.setattr(Path, "read_bytes", read)
        report = prepare(pairs, store, size=16, workers=0)
        assert (report.written, report.left_out) == (23, {"not read this time": 1})
        monkeypatch.undo()
        report = prepare(pairs, store, size=16, workers=0)
        assert (report.written, report.kept, report.left_out) == (1, 23, {})
        path.touch()  # the pair is in the store, and read again
        monkeypatch.setattr(Path, "read_bytes", read)
        report = prepare(pairs, store, size=16, workers=0)
        assert (report.kept, report.left_out) == (24, {"not read this time": 1})
        monkeypatch.undo()
        assert prepare(pairs, store, size=16, workers=0)[1:4] == (0, 24, {})


@pytest.mark.parametrize("name", ["comparison.csv", "comparison.md", "comparison.pdf"])
def test_a_comparison_replaces_no_other_file(tmp_path, monkeypatch, name):
    table = pd.DataFrame([{"setting": "a", "seeds": 1, "people": 6}])
    monkeypatch.setattr(runs, "compare_runs", lambda *_: table)
    monkeypatch.setattr(runs, "comparison_markdown", lambda _: "its own")
    monkeypatch.setattr(runs, "comparison_figure", lambda _: plt.figure())
    (tmp_path / name).write_text("probe,score\n")
    with pytest.raises(ValueError, match=f"{name} is there and was not written by this command"):
        runs.write_comparison(["one", "two"], tmp_path)
    assert (tmp_path / name).read_text() == "probe,score\n"
    (tmp_path / name).unlink()
    for _ in range(2):  # the second replaces the first
        runs.write_comparison(["one", "two"], tmp_path)
    assert (tmp_path / "comparison.md").read_text() == "its own"


def test_large_pictures_are_refused_before_they_are_decoded(tmp_path):
    Image.new("L", (9000, 9000)).save(tmp_path / "large.png")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("zeros.png", "w", force_zip64=True) as member:
            for _ in range(300):
                member.write(bytes(2**20))
    head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }\n"
    npy = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head
    (tmp_path / "claim.npy").write_bytes(npy)
    for name in ("large.png", "a.zip/zeros.png", "claim.npy"):
        with memory_below(256), pytest.raises(ValueError, match=Path(name).name):
            read_image(tmp_path / name)


ROWS = {
    "huge frame": {"frame": str(10**30)},
    "frame a text": {"frame": "one"},
    "over-long path": {"thermal": "a" * 5000 + ".png"},
    "path of zeros": {"thermal": "a\0b.png"},
}


def test_hostile_rows_of_a_manifest_are_left_out_by_name(pairs, tmp_path):
    columns = ("thermal", "visible", "subject", "frame", "o'x\"); DROP TABLE pairs --")
    lines = [columns]
    for path in sorted((pairs / "thermal").iterdir()):
        subject = path.stem.split("_")[0]
        lines.append((f"thermal/{path.name}", f"visible/{path.name}", subject, "1", "a'b\"c"))
    for changed in ROWS.values():
        lines.append(tuple((dict(zip(columns, lines[1])) | changed).values()))
    text = "\n".join(
        ",".join('"' + cell.replace('"', '""') + '"' for cell in line) for line in lines
    )
    (pairs / "manifest.csv").write_text(text + "\n")
    report = prepare(pairs, tmp_path / "store", size=16, workers=0)
    assert report.written == 24 and sum(report.left_out.values()) == len(ROWS), report


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store of noise pairs."""
    folder = tmp_path_factory.mktemp("store")
    root, random = folder / "pairs", np.random.default_rng(0)
    for split, subjects in (("train", "abc"), ("test", "de")):
        for side in ("thermal", "visible"):
            (root / split / side).mkdir(parents=True)
            for name in (f"{subject}_{number}" for subject in subjects for number in range(3)):
                picture = Image.fromarray(random.integers(0, 255, (20, 20), np.uint8))
                picture.save(root / split / side / f"{name}.png")
    prepare(root, folder / "store", size=16, workers=0)
    return folder / "store"


def damage(value, random):
    """A JSON value with one part replaced, removed or added."""
    odd = [None, -1, 10**30, 1.5, "", "../x", [], {}, [[]], True, {"a": 1}, float("nan")]
    if isinstance(value, (dict, list)) and value and random.random() < 0.8:
        copy = dict(value) if isinstance(value, dict) else list(value)
        key = random.choice(list(copy)) if isinstance(copy, dict) else random.randrange(len(copy))
        if random.random() < 0.2:
            del copy[key]
        else:
            copy[key] = damage(copy[key], random)
        return copy
    return random.choice(odd)


@pytest.mark.parametrize(
    "number", [pytest.param(40, id="few"), pytest.param(400, id="many", marks=SOAK)]
)
def test_fuzzed_descriptions_of_a_store(store, tmp_path, number):
    from random import Random

    random, path = Random(0), tmp_path / "store" / "store.json"
    shutil.copytree(store, tmp_path / "store")
    index, refused = json.loads(path.read_text()), 0
    for turn in range(number):
        text = json.dumps(damage(index, random))
        path.write_text(text[: random.randrange(len(text))] if turn % 10 == 0 else text)
        try:
            opened = open_pairs("store", root=tmp_path / "store", image_size=16)
            assert len(opened[0].thermal) == 3
        except (ValueError, OSError) as error:
            assert str(tmp_path) in str(error), (path.read_text(), error)
            refused += 1
    assert refused > number / 3


def test_view_without_end_is_refused(store, tmp_path):
    shutil.copytree(store, tmp_path / "store")
    with sqlite3.connect(tmp_path / "store" / "manifest.sqlite") as manifest:
        manifest.executescript(
            "ALTER TABLE pairs RENAME TO others; CREATE VIEW pairs AS WITH RECURSIVE "
            "n(position) AS (SELECT 0 UNION ALL SELECT position + 1 FROM n) "
            "SELECT * FROM n JOIN others;"
        )
    manifest.close()
    with pytest.raises(OSError, match="holds a view"):
        open_pairs("store", root=tmp_path / "store", image_size=16)


# Importing


QUIET = """
import sys

def watch(event, arguments):
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if writes or event.startswith("socket.") or event in ("os.mkdir", "subprocess.Popen"):
        print(event, arguments)

sys.dont_write_bytecode = True
sys.addaudithook(watch)
import aggan
"""


def test_importing_opens_no_socket_and_writes_no_file(tmp_path):
    command = [sys.executable, "-c", QUIET]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert not list(tmp_path.iterdir())


@contextmanager
def full(folder):
    """A disk without room."""
    with mock.patch.multiple("os", fsync=full_disk, replace=full_disk):
        yield


@contextmanager
def read_only(folder):
    """A folder on a file system that is mounted for reading only."""
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    try:
        subprocess.run(["mount", "--options", "remount,bind,ro", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def may_mount():
    """Whether this process may mount file systems."""
    unshare = shutil.which("unshare")
    return (
        unshare
        and subprocess.run([unshare, "--mount", "true"], capture_output=True).returncode == 0
    )


needs_mounts = pytest.mark.skipif(not may_mount(), reason="mounting takes root on Linux")
DISKS = {  # which disk stops a write, and what the operating system says
    "full": (full, "No space left on device", []),
    "read-only": (read_only, "Read-only file system", [needs_mounts]),
}
ON_DISKS = [pytest.param(*disk, id=name, marks=marks) for name, (*disk, marks) in DISKS.items()]


@contextmanager
def stopped_at_write(number, disk, folder):
    """From one of the writes on, the disk of a folder takes nothing more."""
    with ExitStack() as stack:
        left, fsync = itertools.count(number, -1), os.fsync

        def count(file):
            fsync(file)
            if next(left) == 0:
                stack.enter_context(disk(folder))

        stack.enter_context(mock.patch("os.fsync", count))
        yield


@pytest.mark.parametrize("disk, reason", ON_DISKS)
@pytest.mark.parametrize(
    "numbers",  # of some forty files that a training writes
    [pytest.param((0, 20), id="few"), pytest.param((1, 2, 7, 33), id="many", marks=SOAK)],
)
def test_disk_that_takes_nothing_more_at_any_write(tmp_path, numbers, disk, reason):
    import kills

    kills.run_train(None, tmp_path / "whole")
    expected = kills.made_train(tmp_path / "whole")
    for number in numbers:
        folder = tmp_path / str(number)
        message = f"could not be written .{reason}.*Free some space"
        with stopped_at_write(number, disk, folder), pytest.raises(OSError, match=message):
            kills.run_train(None, folder)
        kills.run_train(None, folder)
        assert kills.made_train(folder) == expected
        assert not list(folder.rglob(".*.tmp"))


RUN = "$RUN"  # stands for the run folder
WRITERS = {  # command -> arguments, and a file that it makes
    "train": (
        ("pix2pix", "--profile", "smoke", "--runs", "made", "--name", "a", "--resamples", 20),
        "synthetic-arl/pix2pix/a/report.json",
    ),
    "prepare": (("--root", "pairs", "--output", "made", "--workers", 0), "store.json"),
    "translate": ((RUN, "--input", "pairs/thermal", "--output", "made"), "s0_0.png"),
    "export": ((RUN, "--folder", "made/model"), "model/model.safetensors"),
    "evaluate": ((RUN, "--output", "made", "--resamples", 20), "report.json"),
    "explain": ((RUN, "--output", "made"), "explanation.json"),
    "compare": ((RUN, "$OTHER", "--output", "made", "--resamples", 20), "comparison.csv"),
    "match": (
        ("pairs/thermal", RUN, "--gallery", "pairs/visible", "--aligned", "--threshold", 0.5)
        + ("--output", "made"),
        "matches.csv",
    ),
}
QUICK = ("prepare", "translate", "export")


@pytest.mark.parametrize("disk, reason", ON_DISKS)
@pytest.mark.parametrize(
    "command", [pytest.param(name, marks=[] if name in QUICK else SOAK) for name in WRITERS]
)
def test_disk_stops_a_command_in_one_sentence(
    command, disk, reason, pairs, run_folder, monkeypatch, capsys
):
    other = next(path for path in run_folder.parents[1].glob("*/*") if path != run_folder)
    places = {RUN: run_folder, "$OTHER": other}
    arguments, made = WRITERS[command]
    arguments = [command, *(str(places.get(argument, argument)) for argument in arguments)]
    if command in ("train", "evaluate", "explain", "compare", "match"):
        arguments += ["--cache", str(run_folder.parents[3] / "data" / "synthetic")]
    with disk(pairs.parent):
        monkeypatch.chdir(pairs.parent)
        assert main(arguments) == 1
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert said.startswith("aggan: ") and reason in said and "ree some space" in said, said
        assert not (pairs.parent / "made" / made).exists()
    monkeypatch.chdir(pairs.parent)
    assert main(arguments) == 0
    assert (pairs.parent / "made" / made).is_file()
    assert not list((pairs.parent / "made").rglob(".*.tmp"))
