"""A Slurm cluster of one node for a test: Debian's slurm-wlm and munge, started by root."""

import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager

MISSING = [
    name
    for name in ("munged", "slurmctld", "slurmd", "sbatch")
    if shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin") is None
]
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}
SlurmUser=root
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
NodeName={host} CPUs={cores} RealMemory=2000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@contextmanager
def slurm(folder):
    """Run a Slurm cluster; the environment in which Slurm's commands find it."""
    host = socket.gethostname().split(".")[0]
    ports = [free_port(), free_port()]
    (folder / "state").mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    configuration = folder / "slurm.conf"
    configuration.write_text(
        CONFIGURATION.format(host=host, ports=ports, folder=folder, cores=os.cpu_count())
    )
    environment = os.environ | {
        "SLURM_CONF": str(configuration),
        "PATH": f"{folder}/bin:{os.environ['PATH']}:/usr/sbin",
    }
    wrap_srun(folder, configuration)
    munge = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    commands = [
        ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *munge],
        ["slurmctld", "-D"],
        ["slurmd", "-D"],
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    daemons = []
    try:
        for command in commands:
            daemons.append(subprocess.Popen(command, env=environment, **quiet))
            time.sleep(1)
        wait_until_idle(environment, folder)
        yield environment
    finally:
        subprocess.run(
            ["scancel", "--quiet", "--state=RUNNING", "--state=PENDING"], env=environment
        )
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait()


def wrap_srun(folder, configuration):
    """Put an srun with SLURM_CONF on the PATH: Snakemake's jobs call srun without that variable."""
    command = folder / "bin" / "srun"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nSLURM_CONF={configuration} exec {shutil.which("srun")} "$@"\n')
    command.chmod(0o755)


def free_port():
    """A TCP port that is not in use."""
    with socket.socket() as found:
        found.bind(("", 0))
        return found.getsockname()[1]


def wait_until_idle(environment, folder):
    """Wait for the node. Raises RuntimeError with the end of Slurm's log after 30 seconds."""
    for _ in range(60):
        state = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"], env=environment, capture_output=True, text=True
        )
        if state.stdout.strip() == "idle":
            return
        time.sleep(0.5)
    log = (folder / "slurmctld.log").read_text()[-2000:]
    raise RuntimeError(f"Slurm's node is not idle but {state.stdout}{state.stderr}: {log}")
