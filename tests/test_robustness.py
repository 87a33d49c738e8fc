"""Faults and the promises about them: nothing is lost, and nothing wrong is let in.

docs/robustness.md lists them with the test of each.
"""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import psutil
import pytest
from conftest import PROJECT

from aggan.reproduction.notebooks import run_notebook

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


def assert_gone(processes, seconds=5):
    _, left = psutil.wait_procs(processes, timeout=seconds)
    assert all(other.status() == psutil.STATUS_ZOMBIE for other in left), left


def test_killed_program_leaves_no_notebook_running(tmp_path):
    sources = (
        "seconds: int = 100",
        "from aggan.runtime.child_processes import follow_parent\nfollow_parent()",
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
from aggan.runtime.child_processes import end_worker_with_parent

class Images(Dataset):
    def __len__(self):
        return 1000
    def __getitem__(self, index):
        return bytes(2**20)

loader = DataLoader(
    Images(), None, num_workers=2, collate_fn=lambda one: one, worker_init_fn=end_worker_with_parent
)
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
    "parameters": json.dumps({"output": "runs/table1", "overrides": "'$(touch x)'"}),
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
    assert said.stdout == b"--overrides '$(touch x)'\n" and not (tmp_path / "x").exists()
    text = (PROJECT / "cluster" / "Snakefile").read_text()
    unquoted = set(re.findall(r"{(?:params|wildcards|log)[^}:]*}", text))
    assert unquoted == {"{params.options}"}, "quoted by as_options"


@pytest.mark.parametrize("changed", HOSTILE_ROWS.values(), ids=HOSTILE_ROWS)
def test_hostile_tables_of_runs_are_refused(tmp_path, changed):
    table = write_table(tmp_path / "runs.csv", ROW | changed)
    with pytest.raises(ValueError, match="was not written by aggan reproduce --list"):
        snakefile(table, tmp_path)
