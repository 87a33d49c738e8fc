"""A Kubernetes of one node for as long as a test lasts: the calls of its API that Snakemake makes, refused where the real one refuses them, and pods as processes.

A pod sees this machine as its image, with the project in /opt/aggan, and an empty folder and the volumes where it mounts them. It takes root, for file systems of its own.
No cluster can be had for a test; what scheduling, networks and real containers do is not tried here.
"""

import json
import os
import shutil
import signal
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from conftest import PROJECT

# $1: a folder for what is written, $2: where to start, $3: FOLDER:MOUNTED ..., then the command
ENTER = """
mount -t tmpfs none "$1"
mkdir "$1/written" "$1/work" "$1/root"
mount -t overlay none -o "lowerdir=/,upperdir=$1/written,workdir=$1/work" "$1/root"
cd "$1/root"; start=$2; mounts=$3; shift 3
mount -t proc none proc; mount --rbind /dev dev
for mount in $mounts; do mkdir -p "./${mount#*:}"; mount --bind "${mount%%:*}" "./${mount#*:}"; done
exec chroot . env --chdir "$start" "$@"
"""
IMAGE = ["env", "PATH=/opt/aggan/.venv-cluster/bin:/usr/bin:/bin"]  # what a container image sets
CONFIGURATION = {
    "clusters": [{"name": "test"}],
    "users": [{"name": "test", "user": {}}],
    "current-context": "test",
    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
}


def missing() -> list[str]:
    """What it would take and is not here."""
    wanted = [
        str(PROJECT / folder)
        for folder in (".venv", ".venv-cluster")
        if not (PROJECT / folder).exists()
    ]
    wanted += [command for command in ("rsync", "unshare") if not shutil.which(command)]
    if (
        not wanted
        and subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True
        ).returncode
    ):
        wanted.append("root")
    return wanted


def process(folder, start, mounts, command, **options):
    """A command that sees the machine as a pod does."""
    folder.mkdir()
    mounts = " ".join(
        f"{where}:{mounted}" for where, mounted in {PROJECT: "/opt/aggan", **mounts}.items()
    )
    return subprocess.Popen(
        [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-ec",
            ENTER,
            "sh",
            folder,
            start,
            mounts,
            *IMAGE,
            *command,
        ],
        **options,
    )


class Kubernetes(ThreadingHTTPServer):
    """The API, the only node, and the volume that its pods claim."""

    def __init__(self, folder, volume):
        super().__init__(("127.0.0.1", 0), Calls)
        self.folder, self.volume, self.submitted, self.jobs, self.pods, self.started = (
            folder,
            volume,
            [],
            {},
            {},
            [],
        )
        address = {"server": f"http://127.0.0.1:{self.server_port}"}
        self.configuration = folder / "kubeconfig"
        self.configuration.write_text(
            json.dumps(CONFIGURATION | {"clusters": [{"name": "test", "cluster": address}]})
        )

    def start(self, job):
        """Run the pod of a job, at once."""
        name, (container,) = job["metadata"]["name"], job["spec"]["template"]["spec"]["containers"]
        empty = self.folder / f"{name}-empty"
        empty.mkdir()
        places = {"workdir": empty, "aggan": self.volume}
        mounts = {places[mount["name"]]: mount["mountPath"] for mount in container["volumeMounts"]}
        with open(self.folder / f"{name}.log", "w") as log:
            self.pods[name] = process(
                self.folder / name,
                container["workingDir"],
                mounts,
                container["command"] + container["args"],
                stdout=log,
                stderr=log,
            )
        self.started.append(self.pods[name])
        self.jobs[name] = job
        self.submitted.append(container)

    def controller(self, *command):
        """A process on the machine from which jobs are submitted, which mounts the volume, too; what it says is in controller.log."""
        with open(self.folder / "controller.log", "w") as log:
            self.started.append(
                process(
                    self.folder / "controller",
                    "/aggan",
                    {self.volume: "/aggan"},
                    command,
                    stdout=log,
                    stderr=log,
                    env=os.environ | {"KUBECONFIG": str(self.configuration)},
                )
            )
        return self.started[-1]


def wrong(job) -> str | None:
    """What the API server would say of a job: devices cannot be promised twice, so that whoever requests them has to limit them to as many."""
    for container in job["spec"]["template"]["spec"]["containers"]:
        if not container.get("image"):
            return "spec.template.spec.containers[0].image: Required value"
        requested, limits = (
            container["resources"].get("requests", {}),
            container["resources"].get("limits", {}),
        )
        for name, number in requested.items():
            if "/" in name and name not in limits:
                return "spec.template.spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources"
            if "/" in name and limits[name] != number:
                return f"spec.template.spec.containers[0].resources.requests: Invalid value: must be equal to {name} limit of {limits[name]}"
    return None


class Calls(BaseHTTPRequestHandler):
    """The calls that are answered; any other is an error of the test."""

    def log_message(self, *_):
        pass

    def answer(self, content, code=200):
        content = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def refuse(self, code, message):
        self.answer({"kind": "Status", "status": "Failure", "message": message, "code": code}, code)

    @property
    def kind_and_name(self):
        """Of what the path of the call is about, behind /.../namespaces/NAMESPACE/."""
        kind, *name = urlsplit(self.path).path.split("/namespaces/")[1].split("/")[1:]
        return kind, name

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        kind, _ = self.kind_and_name
        if kind == "jobs" and (message := wrong(body)):
            return self.refuse(422, f"Job.batch is invalid: {message}")
        if kind == "jobs":
            self.server.start(body)
        self.answer(body, 201)

    def do_GET(self):
        kind, name = self.kind_and_name
        query = parse_qs(urlsplit(self.path).query)
        if kind == "jobs":
            return (
                self.answer(self.job(name[0]))
                if name[0] in self.server.jobs
                else self.refuse(404, "not found")
            )
        if (
            name
        ):  # the log of a pod; it has no previous container, since none of them is started again
            return (
                self.refuse(400, "previous terminated container not found")
                if "previous" in query
                else self.answer((self.server.folder / f"{name[0]}.log").read_text())
            )
        wanted = query["labelSelector"][0].removeprefix("job-name=")
        self.answer(
            {
                "kind": "PodList",
                "apiVersion": "v1",
                "items": [self.pod(wanted)] if wanted in self.server.pods else [],
            }
        )

    def do_DELETE(self):
        kind, (name,) = self.kind_and_name
        if kind == "pods":
            self.server.pods.pop(name).kill()
        if kind == "jobs":
            self.server.jobs.pop(name)
        self.answer({"kind": "Status", "status": "Success"})

    def job(self, name):
        code = self.server.pods[name].poll() if name in self.server.pods else -signal.SIGKILL
        return self.server.jobs[name] | {
            "status": {
                "active": int(code is None),
                "succeeded": int(code == 0),
                "failed": int(code not in (None, 0)),
            }
        }

    def pod(self, name):
        code = self.server.pods[name].poll()
        state = {"running": {}} if code is None else {"terminated": {"exitCode": code % 256}}
        status = {
            "name": "snakemake",
            "image": "aggan",
            "imageID": "aggan",
            "ready": code is None,
            "restartCount": 0,
            "state": state,
        }
        spec = self.server.jobs[name]["spec"]["template"]["spec"]
        return {
            "metadata": {"name": name},
            "spec": spec,
            "status": {"phase": "Running", "containerStatuses": [status]},
        }


@contextmanager
def kubernetes(folder, volume):
    """The cluster, which answers as long as the block lasts."""
    folder.mkdir()
    cluster = Kubernetes(folder, volume)
    thread = threading.Thread(target=cluster.serve_forever)
    thread.start()
    try:
        yield cluster
    finally:
        for started in cluster.started:
            started.kill()
            started.wait()
        cluster.shutdown()
        cluster.server_close()
        thread.join()
