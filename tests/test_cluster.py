"""Snakemake runs the jobs of `aggan reproduce` into the same folders, and resumes when killed.

On one machine, through Slurm, and through a replacement of the Kubernetes API.
"""

import csv
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from conftest import AGGAN, PROJECT, aggan
from one_node_kubernetes import kubernetes, missing
from one_node_slurm import MISSING, slurm

from aggan.runtime.files import read_json
from aggan.runtime.run_folder import RunFolder

CLUSTER = PROJECT / "cluster"
SNAKEMAKE = PROJECT / ".venv-cluster" / "bin" / "snakemake"  # as `make cluster` installs it
SNAKEMAKE = os.environ.get("AGGAN_SNAKEMAKE") or (
    str(SNAKEMAKE) if SNAKEMAKE.exists() else shutil.which("snakemake")
)
needs_snakemake = pytest.mark.skipif(
    not SNAKEMAKE, reason="Snakemake is not installed: `make cluster` installs it"
)
needs_slurm = pytest.mark.skipif(
    bool(MISSING) or os.getuid() != 0,
    reason="starting a Slurm takes root and `apt-get install slurm-wlm munge`",
)
needs_pods = pytest.mark.skipif(
    bool(missing()),
    reason="pods as processes take root, `make cluster` and `apt-get install rsync`: "
    f"missing {', '.join(missing())}",
)
LONGER = ("--steps", 80, "--checkpoints", 16)  # than the smoke profile


def snakemake_command(*arguments):
    """The command line of Snakemake, whose jobs call the command aggan beside this Python."""
    config = ["--config", f"bin={Path(AGGAN).parent}", "threads=1"]
    return [SNAKEMAKE, "--snakefile", CLUSTER / "Snakefile", *arguments, *config]


def snakemake(*arguments, cwd, env=None):
    """Run Snakemake to its end; all that it prints."""
    done = subprocess.run(
        snakemake_command(*arguments), cwd=cwd, capture_output=True, text=True, env=env
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def listed(folder, *arguments):
    """The jobs of the smoke demonstration, as `aggan reproduce --list` writes them."""
    aggan("reproduce", "demo", "--profile", "smoke", *arguments, "--list", "runs.csv", cwd=folder)
    with open(folder / "runs.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_lists_what_the_local_command_runs(workplace):
    rows = listed(workplace)
    assert [row["name"] for row in rows] == ["AG-GAN of demo", "AG-GAN+ of demo", "demo"]
    assert not unfinished(rows, workplace)
    assert all(int(row["hours"]) >= 1 and row["gpus"] == "0" for row in rows)


def unfinished(rows, folder):
    """The names of the jobs whose result does not exist."""
    return [row["name"] for row in rows if not (folder / row["folder"] / row["result"]).exists()]


@needs_snakemake
def test_plans_nothing_where_all_is_done(workplace):
    listed(workplace)
    assert "Nothing to be done" in snakemake("--dry-run", "--cores", "2", cwd=workplace)


@needs_snakemake
def test_runs_everything_on_one_machine(workplace, tmp_path):
    rows = listed(tmp_path)
    for profile in ("slurm", "kubernetes"):
        plan = snakemake("--dry-run", "--profile", CLUSTER / "profiles" / profile, cwd=tmp_path)
        assert "train         2" in plan and "target        1" in plan
    shutil.copytree(workplace / "data", tmp_path / "data")
    snakemake("--cores", "2", cwd=tmp_path)
    assert not unfinished(rows, tmp_path)
    files = [sorted(os.listdir(place / "runs" / "demo")) for place in (workplace, tmp_path)]
    assert files[0] == files[1]
    for row in rows[:2]:
        reports = [place / row["folder"] / "report.json" for place in (tmp_path, workplace)]
        ours, theirs = map(read_json, reports)
        assert ours["psnr"] == pytest.approx(theirs["psnr"], rel=1e-3)
        assert (tmp_path / row["folder"] / "train.ipynb").exists()
    assert "Nothing to be done" in snakemake("--dry-run", "--cores", "2", cwd=tmp_path)


def metrics_by_run(folder):
    """The rows of `metrics.jsonl` of every run."""
    return {
        path.parent: RunFolder(path.parent).metrics()
        for path in folder.glob("runs/*/*/*/metrics.jsonl")
    }


def steps_by_run(folder):
    """The steps in `metrics.jsonl` of every run."""
    return {run: [row["step"] for row in rows] for run, rows in metrics_by_run(folder).items()}


def kept_rows(before, after):
    """By run, how many rows of the metrics are as before, with their seconds: not trained again."""
    return {run: sum(row in after[run] for row in rows) for run, rows in before.items()}


THROUGH_SLURM = [
    *("--profile", CLUSTER / "profiles" / "slurm"),
    *("--slurm-no-account", "--slurm-status-command", "squeue"),
    *("--slurm-init-seconds-before-status-checks", "2"),
    *("--latency-wait", "5", "--default-resources", "mem_mb=500"),
]


@needs_snakemake
@needs_slurm
def test_resumes_through_slurm_after_snakemake_was_killed(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    rows = listed(work, *LONGER)
    with slurm(tmp_path) as environment:
        kill_in_training(work, environment, tmp_path / "controller.log")
        before = metrics_by_run(work)
        assert before and not list(work.glob("runs/*/*/*/report.json"))
        locked = subprocess.run(
            snakemake_command(*THROUGH_SLURM),
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert locked.returncode and "LockException" in locked.stdout + locked.stderr
        snakemake("--unlock", *THROUGH_SLURM, cwd=work, env=environment)
        snakemake(*THROUGH_SLURM, cwd=work, env=environment)
    assert not unfinished(rows, work)
    assert list(steps_by_run(work).values()) == 2 * [list(range(5, 81, 5))]
    kept = kept_rows(before, metrics_by_run(work))
    assert max(kept.values()) > 2
    assert all(kept[run] >= len(rows) - 1 for run, rows in before.items())


def kill_in_training(work, environment, log):
    """Start Snakemake, kill it after some steps of a training, and cancel its Slurm jobs."""
    with open(log, "w") as file:
        controller = subprocess.Popen(
            snakemake_command(*THROUGH_SLURM), cwd=work, env=environment, stdout=file, stderr=file
        )
        wait_for(lambda: any(len(s) > 3 for s in steps_by_run(work).values()), controller)
        controller.send_signal(signal.SIGKILL)
        controller.wait()
    for state in ("RUNNING", "PENDING"):  # the jobs outlive Snakemake
        subprocess.run(["scancel", f"--state={state}"], env=environment, check=True)
    queue = ["squeue", "--noheader"]
    wait_for(lambda: not subprocess.check_output(queue, env=environment, text=True).strip())


@needs_pods
def test_resumes_through_kubernetes_after_a_pod_was_lost(tmp_path):
    """With the commands of cluster/README.md; every job requests a GPU."""
    volume = tmp_path / "volume"
    volume.mkdir()
    rows = [row | {"gpus": "1"} for row in listed(volume, *LONGER)]
    with open(volume / "runs.csv", "w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    with kubernetes(tmp_path / "cluster", volume) as cluster:
        command = ["snakemake", "--snakefile", "/opt/aggan/cluster/Snakefile"]
        command += ["--profile", "/opt/aggan/cluster/profiles/kubernetes"]
        controller = cluster.controller(*command, "--container-image", "aggan")
        wait_for(lambda: both_train(steps_by_run(volume)), controller)
        next(iter(cluster.pods.values())).kill()
        before = metrics_by_run(volume)
        assert controller.wait(timeout=600) == 0, (cluster.folder / "controller.log").read_text()
        assert not cluster.pods and not cluster.jobs  # deleted
        assert len(cluster.submitted) == len(rows) + 1
        for container in cluster.submitted:
            assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
            assert container["image"] == "aggan"
    assert not unfinished(rows, volume)
    assert list(steps_by_run(volume).values()) == 2 * [list(range(5, 81, 5))]
    kept = kept_rows(before, metrics_by_run(volume))
    assert all(kept[run] >= len(rows) - 1 for run, rows in before.items())


def both_train(steps):
    """Whether two runs have made some steps."""
    return len(steps) == 2 and min(map(len, steps.values())) > 3


@needs_slurm
def test_srun_starts_the_processes_of_one_training(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    with slurm(tmp_path) as environment:
        command = ["srun", "--ntasks-per-node=2", AGGAN, "train", "pix2pix"]
        done = subprocess.run(
            [*command, "--profile", "smoke", "--devices", "2"],
            cwd=work,
            env=environment | {"CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("PSNR") == 1 and "MEMBER: 2/2" in done.stderr
    ((folder, steps),) = steps_by_run(work).items()
    assert steps == [3, 6] and (folder / "report.json").exists()


STUBS = {  # what the job script calls, on a machine without Slurm
    "srun": 'exec "$@"',
    "scontrol": 'echo "$@" >> requeued',
}


def job_script(folder, seed):
    """Start the job script of an array for a seed, with stand-ins for Slurm's commands."""
    for name, body in STUBS.items():
        (folder / "bin").mkdir(exist_ok=True)
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / "bin" / name).chmod(0o755)
    environment = {"SLURM_ARRAY_TASK_ID": str(seed), "SLURM_ARRAY_JOB_ID": "7", "AGGAN": AGGAN}
    environment["PATH"] = f"{folder}/bin:{os.environ['PATH']}"
    command = ["sh", CLUSTER / "train.sbatch", "pix2pix", "--profile", "smoke", "--steps", 40]
    command += ["--checkpoints", 8]
    return subprocess.Popen(
        [*map(str, command)], cwd=folder, env=os.environ | environment, start_new_session=True
    )


def test_the_job_script_is_queued_again_after_sigusr1(tmp_path):
    job = job_script(tmp_path, seed=1)
    wait_for(lambda: any(steps_by_run(tmp_path).values()), job)
    training = psutil.Process(job.pid).children()[0]
    training.send_signal(signal.SIGUSR1)
    assert job.wait(timeout=120) == 0
    assert (tmp_path / "requeued").read_text() == "requeue 7_1\n"
    ((run, rows),) = metrics_by_run(tmp_path).items()
    assert rows[-1]["step"] < 40 and RunFolder(run).config["seed"] == 1
    assert job_script(tmp_path, seed=1).wait(timeout=240) == 0
    assert kept_rows({run: rows}, metrics_by_run(tmp_path)) == {run: len(rows)}
    assert (run / "report.json").exists() and not list(tmp_path.glob("requeued.*"))


@needs_slurm
@pytest.mark.soak
@pytest.mark.timeout(900)
def test_seeds_are_a_job_array_that_is_queued_again(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    command = ["sbatch", "--parsable", "--array=0-1", "--mem=500", "--cpus-per-task=1"]
    command += [CLUSTER / "train.sbatch", "pix2pix", "--profile", "smoke"]
    command += ["--steps", "1200", "--checkpoints", "8"]
    with slurm(tmp_path) as environment:
        environment |= {"CUDA_VISIBLE_DEVICES": "", "AGGAN": AGGAN}

        def say(*words):
            return subprocess.check_output(words, cwd=work, env=environment, text=True).strip()

        job = say(*map(str, command))
        wait_for(lambda: len(steps_by_run(work)) == 2 and all(steps_by_run(work).values()))
        say("scancel", "--signal=USR1", job)  # as before the time of the job is up
        wait_for(lambda: say("squeue", "--noheader", "--format=%t").split() == ["PD", "PD"])
        before = metrics_by_run(work)
        assert not list(work.glob("runs/*/pix2pix/*/report.json"))
        wait_for(lambda: not say("squeue", "--noheader"), seconds=500)  # Slurm waits two minutes
    after = metrics_by_run(work)
    assert kept_rows(before, after) == {run: len(rows) for run, rows in before.items()}
    assert {RunFolder(run).config["seed"] for run in after} == {0, 1}
    assert len(list(work.glob("runs/*/pix2pix/*/report.json"))) == 2


def wait_for(condition, controller=None, seconds=180):
    """Wait until a condition holds. Raises AssertionError when time is up or Snakemake ends."""
    for _ in range(4 * seconds):
        if condition():
            return
        assert controller is None or controller.poll() is None
        time.sleep(0.25)
    raise AssertionError(f"not within {seconds} seconds")
