"""Snakemake runs what `aggan reproduce` runs, into the same folders; on one machine and through Slurm, and goes on when it was killed."""

import csv
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

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
    reason=f"pods as processes take root, `make cluster` and `apt-get install rsync`: no {', '.join(missing())}",
)
FAR = '{"steps": 80, "checkpoints": 16}'


def snakemake_command(*arguments):
    return [
        SNAKEMAKE,
        "--snakefile",
        CLUSTER / "Snakefile",
        *arguments,
        "--config",
        f"bin={Path(AGGAN).parent}",
        "threads=1",
    ]


def snakemake(*arguments, cwd, env=None):
    done = subprocess.run(
        snakemake_command(*arguments), cwd=cwd, capture_output=True, text=True, env=env
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def listed(folder, *arguments):
    """The table of the runs of the smoke demonstration."""
    aggan("reproduce", "demo", "--profile", "smoke", *arguments, "--list", "runs.csv", cwd=folder)
    with open(folder / "runs.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_lists_what_the_local_command_runs(workplace):
    rows = listed(workplace)
    assert [row["name"] for row in rows] == ["AG-GAN of demo", "AG-GAN+ of demo", "demo"]
    assert all(
        (workplace / row["folder"] / row["result"]).exists() for row in rows
    )  # done there before
    assert all(int(row["hours"]) >= 1 and row["gpus"] == "0" for row in rows)


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
    assert all((tmp_path / row["folder"] / row["result"]).exists() for row in rows)
    assert {path.name for path in (workplace / "runs" / "demo").iterdir()} == {
        path.name for path in (tmp_path / "runs" / "demo").iterdir()
    }
    for row in rows[:2]:
        ours, theirs = (
            read_json(place / row["folder"] / "report.json") for place in (tmp_path, workplace)
        )
        assert (
            ours["psnr"] == pytest.approx(theirs["psnr"], rel=1e-3)
            and (tmp_path / row["folder"] / "train.ipynb").exists()
        )
    assert "Nothing to be done" in snakemake("--dry-run", "--cores", "2", cwd=tmp_path)


def steps_by_folder(folder):
    return {
        path.parent: [row["step"] for row in RunFolder(path.parent).metrics()]
        for path in folder.glob("runs/*/*/*/metrics.jsonl")
    }


@needs_snakemake
@needs_slurm
def test_goes_on_through_slurm_when_the_controller_is_killed(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    rows = listed(work, "--overrides", FAR)
    through_slurm = (
        "--profile",
        CLUSTER / "profiles" / "slurm",
        "--slurm-no-account",
        "--slurm-status-command",
        "squeue",
        "--slurm-init-seconds-before-status-checks",
        "2",
        "--latency-wait",
        "5",
        "--default-resources",
        "mem_mb=500",
    )
    with slurm(tmp_path) as environment:
        with open(tmp_path / "controller.log", "w") as log:
            controller = subprocess.Popen(
                snakemake_command(*through_slurm), cwd=work, env=environment, stdout=log, stderr=log
            )
            wait_for(
                lambda: any(len(steps) > 3 for steps in steps_by_folder(work).values()), controller
            )
            controller.send_signal(signal.SIGKILL)
            controller.wait()
        for state in (
            "RUNNING",
            "PENDING",
        ):  # jobs outlive their controller; here they do not, either
            subprocess.run(["scancel", f"--state={state}"], env=environment, check=True)
        wait_for(
            lambda: (
                not subprocess.run(
                    ["squeue", "--noheader"], env=environment, capture_output=True, text=True
                ).stdout.strip()
            )
        )
        broken = {folder: RunFolder(folder).metrics() for folder in steps_by_folder(work)}
        assert broken and not list(work.glob("runs/*/*/*/report.json"))
        locked = subprocess.run(
            snakemake_command(*through_slurm),
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert locked.returncode and "LockException" in locked.stdout + locked.stderr
        snakemake("--unlock", *through_slurm, cwd=work, env=environment)
        snakemake(*through_slurm, cwd=work, env=environment)
    assert all((work / row["folder"] / row["result"]).exists() for row in rows)
    steps = steps_by_folder(work)
    assert len(steps) == 2 and all(found == list(range(5, 81, 5)) for found in steps.values())
    kept = {
        folder: [row for row in before if row in RunFolder(folder).metrics()]
        for folder, before in broken.items()
    }
    assert (
        max(map(len, kept.values())) > 2
    )  # with their seconds: what was done before was not done again
    assert all(len(kept[folder]) >= len(before) - 1 for folder, before in broken.items())


@needs_pods
def test_goes_on_through_kubernetes_when_a_pod_is_lost(tmp_path):
    """As the page says, and as on nodes with a GPU, so that it is asked for."""
    volume = tmp_path / "volume"
    volume.mkdir()
    rows = [row | {"gpus": "1"} for row in listed(volume, "--overrides", FAR)]
    with open(volume / "runs.csv", "w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    with kubernetes(tmp_path / "cluster", volume) as cluster:
        controller = cluster.controller(
            "snakemake",
            "--snakefile",
            "/opt/aggan/cluster/Snakefile",
            "--profile",
            "/opt/aggan/cluster/profiles/kubernetes",
            "--container-image",
            "aggan",
        )
        wait_for(
            lambda: (
                len(found := steps_by_folder(volume)) == 2 and min(map(len, found.values())) > 3
            ),
            controller,
        )
        lost = next(iter(cluster.pods.values()))
        lost.kill()
        broken = {folder: RunFolder(folder).metrics() for folder in steps_by_folder(volume)}
        assert controller.wait(timeout=600) == 0, (cluster.folder / "controller.log").read_text()
        assert not cluster.pods and not cluster.jobs  # cleared away
        assert len(cluster.submitted) == len(rows) + 1
        for container in cluster.submitted:
            assert (
                container["resources"]["limits"]["nvidia.com/gpu"] == "1"
                and container["image"] == "aggan"
            )
    assert all((volume / row["folder"] / row["result"]).exists() for row in rows)
    assert all(steps == list(range(5, 81, 5)) for steps in steps_by_folder(volume).values())
    kept = [
        sum(row in RunFolder(folder).metrics() for row in before)
        for folder, before in broken.items()
    ]
    assert all(
        number >= len(before) - 1 for number, before in zip(kept, broken.values())
    )  # with their seconds: not done again


@needs_slurm
def test_srun_starts_the_processes_of_one_training(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    with slurm(tmp_path) as environment:
        done = subprocess.run(
            [
                "srun",
                "--ntasks-per-node=2",
                AGGAN,
                "train",
                "--method",
                "pix2pix",
                "--profile",
                "smoke",
                "--devices",
                "2",
            ],
            cwd=work,
            env=environment | {"CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("AUC") == 1 and "Starting with 2 processes" in done.stderr
    ((folder, steps),) = steps_by_folder(work).items()
    assert steps == [3, 6] and (folder / "report.json").exists()


def wait_for(condition, controller=None, seconds=180):
    """Look four times a second whether it has happened. Raises AssertionError after some minutes, or when the controller has ended."""
    for _ in range(4 * seconds):
        if condition():
            return
        assert controller is None or controller.poll() is None
        time.sleep(0.25)
    raise AssertionError("it has not happened")
