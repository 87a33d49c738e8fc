"""Two processes that share each batch compute what one process computes, and stop together."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import AGGAN, aggan
from safetensors.torch import load_file
from several_processes import STEPS, faces, fresh, train_double

from aggan.methods import list_methods
from aggan.reproduction.command_line import main
from aggan.runtime.run_folder import RunFolder

PROGRAM = Path(__file__).with_name("several_processes.py")
ON_CPU = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Output folders of `several_processes.py`, by number of processes."""
    folders = {devices: tmp_path_factory.mktemp(f"processes{devices}") for devices in (1, 2)}
    running = [
        subprocess.Popen(
            [sys.executable, PROGRAM, str(devices), folder],
            stderr=subprocess.PIPE,
            text=True,
            env=ON_CPU,
        )
        for devices, folder in folders.items()
    ]
    errors = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], errors
    return folders


def losses(folder):
    """The losses of each step."""
    return [
        [value for name, value in row.items() if name not in ("step", "seconds")]
        for row in RunFolder(folder).metrics()
    ]


def same(one, other, tolerance):
    assert len(one) == len(other) == STEPS
    for ours, theirs in zip(one, other):
        assert ours == pytest.approx(theirs, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("name", list_methods())
def test_two_processes_equal_one(trained, name):
    one, two = (trained[devices] / "process0" / "double" / name for devices in (1, 2))
    same(losses(one), losses(two), 1e-9)
    weights, others = (load_file(RunFolder(folder).checkpoint(STEPS)) for folder in (one, two))
    assert weights.keys() == others.keys()
    assert all(
        (weights[tensor].double() - others[tensor].double()).abs().max() < 1e-8
        for tensor in weights
    )


@pytest.mark.parametrize("name", ["ag-gan", "cut"])
def test_two_processes_equal_one_in_single_precision(trained, name):
    same(*(losses(trained[devices] / "process0" / "single" / name) for devices in (1, 2)), 1e-5)


def test_only_rank_zero_writes(trained):
    assert sorted(path.name for path in trained[2].iterdir()) == [
        "exploded0",
        "exploded1",
        "faces",
        "process0",
    ]


def test_an_infinite_loss_in_one_process_stops_all(trained):
    for rank in (0, 1):
        said = (trained[2] / f"exploded{rank}").read_text()
        assert 'the loss "discriminator" became inf at step 1' in said
    assert not list((trained[2] / "process0" / "exploded").glob("checkpoints/*"))


def test_one_process_resumes_a_run_of_two(trained):
    folder = trained[2] / "process0" / "stopped"
    assert len(losses(folder)) == STEPS - 1 and RunFolder(folder).resume_file.exists()
    train_double(fresh("cyclegan"), faces(trained[2]), folder, devices=1)
    same(losses(folder), losses(trained[1] / "process0" / "double" / "cyclegan"), 1e-9)


def test_a_killed_command_of_two_processes_resumes_with_one(tmp_path):
    command = ("train", "pix2pix", "--profile", "smoke", "--steps", "16", "--checkpoints", "8")
    process = subprocess.Popen(
        [AGGAN, *command, "--devices", "2"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ON_CPU,
    )
    while not any(
        path.read_bytes().count(b"\n") > 2 for path in tmp_path.glob("runs/*/*/*/metrics.jsonl")
    ):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)  # until the child process has closed the pipes, too
    assert len(children) == 1 and not Path(f"/proc/{children[0]}/exe").exists()
    (folder,) = tmp_path.glob("runs/*/*/*")
    assert not RunFolder(folder).report_file.exists()
    done = aggan(*command, cwd=tmp_path)
    assert done.stdout.count("PSNR") == 1 and done.stdout.splitlines()[-1] == str(
        folder.relative_to(tmp_path)
    )
    run = RunFolder(folder)
    assert [row["step"] for row in run.metrics()] == list(range(2, 17, 2))
    assert run.report["checkpoint"] == run.best_step


def test_a_batch_that_cannot_be_split_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "ag-gan", "--profile", "smoke", "--devices", "3"]) == 2
    assert "batch of 4 cannot be split evenly over 3 processes" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
