"""A run that is killed at a random moment resumes to the bits of an uninterrupted one."""

import os
import random
import re
import signal
import subprocess
import time

import psutil
import pytest
import torch
from conftest import AGGAN, aggan, aggan_process
from safetensors.torch import load_file

from aggan.runtime.run_folder import RunFolder

COMMAND = ("train", "ag-gan", "--profile", "smoke", "--checkpoints", "8", "--steps", "24")


def run_of(folder):
    """The only AG-GAN run in a folder."""
    (path,) = folder.glob("runs/synthetic-arl/ag-gan/*")
    return RunFolder(path)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    aggan(*COMMAND, cwd=folder)
    return run_of(folder)


def test_killed_and_resumed_is_bit_identical(uninterrupted, tmp_path):
    rows = random.randint(1, 4)  # a different moment in each test run, long before the last row
    process = subprocess.Popen([AGGAN, *COMMAND], cwd=tmp_path, stderr=subprocess.DEVNULL)
    metrics = "runs/synthetic-arl/ag-gan/*/metrics.jsonl"
    while not any(path.read_bytes().count(b"\n") >= rows for path in tmp_path.glob(metrics)):
        assert process.poll() is None
        time.sleep(random.uniform(0, 0.02))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run had ended before it was killed"
    assert not list(tmp_path.glob("runs/**/report.json"))
    aggan_process(*COMMAND, cwd=tmp_path)
    run = run_of(tmp_path)
    assert [row["step"] for row in run.metrics()] == list(range(3, 25, 3))
    expected, resumed = (load_file(one.checkpoint(24)) for one in (uninterrupted, run))
    assert resumed.keys() == expected.keys()
    assert all(torch.equal(resumed[name], expected[name]) for name in resumed)


STEPS = 720  # a busy machine takes some thirty more between the progress that is shown and Ctrl-C
LONGER = ("train", "pix2pix", "--profile", "smoke", "--steps", str(STEPS), "--checkpoints", "4")


def press_ctrl_c(folder, steps):
    """Train, and press Ctrl-C after some steps; the exit code and the step to go on after."""
    process = subprocess.Popen([AGGAN, *LONGER], cwd=folder, stderr=subprocess.PIPE)
    said, shown = b"", []
    while not shown or int(shown[-1]) < int(shown[0]) + steps:
        said += os.read(process.stderr.fileno(), 4096)
        shown = re.findall(rb" (\d+)/%d " % STEPS, said)
        assert process.poll() is None, said
    process.send_signal(signal.SIGINT)
    said += process.stderr.read()
    goes_on = re.search(
        r"the same command goes on after step (\d+)", said.decode().splitlines()[-1]
    )
    return process.wait(), int(goes_on[1])


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_ctrl_c_ten_times_is_bit_identical(tmp_path):
    (broken, whole) = (tmp_path / name for name in ("broken", "whole"))
    for folder in (broken, whole):
        folder.mkdir()
    presses = [press_ctrl_c(broken, random.randint(0, 12)) for _ in range(10)]
    codes, steps = zip(*presses)
    assert set(codes) == {130} and list(steps) == sorted(steps), presses
    print("Ctrl-C after steps", *steps)
    for folder in (broken, whole):
        aggan_process(*LONGER, cwd=folder)
    runs = [RunFolder(next(folder.glob("runs/*/pix2pix/*"))) for folder in (broken, whole)]
    rows = [[dict(row, seconds=0) for row in run.metrics()] for run in runs]
    assert rows[0] == rows[1]
    for step, path in runs[1].checkpoints.items():
        expected, resumed = load_file(path), load_file(runs[0].checkpoint(step))
        assert all(torch.equal(resumed[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    "number, whole_group",
    [
        pytest.param(signal.SIGINT, True, id="ctrl-c"),
        pytest.param(signal.SIGTERM, False, id="kill", marks=pytest.mark.soak),
    ],
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
        "--steps",
        "1000",
        "--checkpoints",
        "2",
    ]
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not list(tmp_path.glob("runs/*/*/*/metrics.jsonl")):
        assert process.poll() is None
        time.sleep(0.2)
    kernels = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, number) if whole_group else process.send_signal(number)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 128 + number and "the same command goes on from here" in said
    _, left = psutil.wait_procs(kernels, timeout=15)  # kernels end seconds after their parent
    assert len(kernels) >= 2 and all(other.status() == psutil.STATUS_ZOMBIE for other in left)
    # the second experiment was not started
    assert len({path.parent for path in tmp_path.glob("runs/*/*/*/*")}) == 1
    assert not list(tmp_path.glob("runs/*/*/*/report.json"))


def test_another_seed_is_another_run(uninterrupted, tmp_path):
    aggan(*COMMAND[:-1], 6, "--checkpoints", 2, "--seed", 1, cwd=tmp_path)
    run = run_of(tmp_path)
    assert run.config["seed"] == 1
    # the learning rate of the first three steps is the same in both runs
    expected, other = (load_file(one.checkpoint(3)) for one in (uninterrupted, run))
    assert any(not torch.equal(other[name], expected[name]) for name in expected)
