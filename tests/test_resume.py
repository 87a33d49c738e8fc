"""A run that is killed at a random moment ends with the bits of one that was not."""

import os
import random
import signal
import subprocess
import time

import psutil
import pytest
import torch
from conftest import AGGAN, aggan
from safetensors.torch import load_file

COMMAND = (
    "train",
    "--method",
    "ag-gan",
    "--profile",
    "smoke",
    "--overrides",
    '{"steps": 48, "checkpoints": 16}',
)
WEIGHTS = "runs/synthetic-arl/ag-gan/*/checkpoints/step_0000048.safetensors"


def weights(folder):
    return load_file(next(folder.glob(WEIGHTS)))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    aggan(*COMMAND, cwd=folder)
    return weights(folder)


def test_killed_and_resumed_is_bit_identical(unbroken, tmp_path):
    rows = random.randint(
        1, 8
    )  # a new moment each time, on purpose, and long before the end on any machine
    process = subprocess.Popen([AGGAN, *COMMAND], cwd=tmp_path, stderr=subprocess.DEVNULL)
    metrics = "runs/synthetic-arl/ag-gan/*/metrics.jsonl"
    while not any(path.read_bytes().count(b"\n") >= rows for path in tmp_path.glob(metrics)):
        assert process.poll() is None
        time.sleep(random.uniform(0, 0.02))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run had ended before it was killed"
    assert not list(tmp_path.glob("runs/**/report.json"))
    aggan(*COMMAND, cwd=tmp_path)
    resumed = weights(tmp_path)
    assert resumed.keys() == unbroken.keys()
    assert all(torch.equal(resumed[name], unbroken[name]) for name in resumed)
    steps = [line.split(",")[0] for line in next(tmp_path.glob(metrics)).read_text().splitlines()]
    assert len(steps) == len(set(steps)) == 16


@pytest.mark.parametrize(
    "number, whole_group", [(signal.SIGINT, True), (signal.SIGTERM, False)], ids=["ctrl-c", "kill"]
)
def test_interrupted_reproduction_leaves_nothing_running(tmp_path, number, whole_group):
    command = [
        AGGAN,
        "reproduce",
        "demo",
        "--profile",
        "smoke",
        "--jobs",
        "1",
        "--overrides",
        '{"steps": 4000, "checkpoints": 2}',
    ]
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not list(tmp_path.glob("runs/*/*/*/metrics.jsonl")):
        assert process.poll() is None
        time.sleep(0.2)
    at_work = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, number) if whole_group else process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130 and "the same command goes on from here" in said
    _, left = psutil.wait_procs(
        at_work, timeout=15
    )  # a kernel sees within seconds that nobody listens any more
    assert len(at_work) >= 2 and all(other.status() == psutil.STATUS_ZOMBIE for other in left)
    assert (
        len({path.parent for path in tmp_path.glob("runs/*/*/*/*")}) == 1
    )  # the second was not begun
    assert not list(tmp_path.glob("runs/*/*/*/report.json"))


def test_another_seed_is_another_run(unbroken, tmp_path):
    aggan(*COMMAND, "--seed", 1, cwd=tmp_path)
    other = weights(tmp_path)
    assert any(not torch.equal(other[name], unbroken[name]) for name in other)
