"""A Kubernetes cluster of one node for a test: the API calls of Snakemake, and pods as processes.

The API refuses what the real one refuses. A pod sees this machine as its image, with the project in
/opt/aggan, an empty folder, and the volumes where it mounts them; its file system takes root. The
scheduling, the networks and the containers of a real cluster are not tested.
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

# $1: folder for written files, $2: working folder, $3: FOLDER:MOUNTED ..., then the command
ENTER = """
mount -t tmpfs none "$1"
mkdir "$1/written" "$1/work" "$1/root"
mount -t overlay none -o "lowerdir=/,upperdir=$1/written,workdir=$1/work" "$1/root"
cd "$1/root"; start=$2; mounts=$3; shift 3
mount -t proc none proc; mount --rbind /dev dev
for mount in $mounts; do mkdir -p "./${mount#*:}"; mount --bind "${mount%%:*}" "./${mount#*:}"; done
exec chroot . env --chdir "$start" "$@"
"""
IMAGE = ["env", "PATH=/opt/aggan/.venv-cluster/bin:/usr/bin:/bin"]  # as a container image sets it
CONFIGURATION = {
    "clusters": [{"name": "test"}],
    "users": [{"name": "test", "user": {}}],
    "current-context": "test",
    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
}


def missing() -> list[str]:
    """What the test needs and this machine does not have."""
    folders = [PROJECT / name for name in (".venv", ".venv-cluster")]
    wanted = [str(folder) for folder in folders if not folder.exists()]
    wanted += [command for command in ("rsync", "unshare") if not shutil.which(command)]
    if not wanted:
        unshare = ["unshare", "--mount", "--pid", "--fork", "true"]
        if subprocess.run(unshare, capture_output=True).returncode:
            wanted.append("root")
    return wanted


def process(folder, start, mounts, command, **options):
    """Start a command that sees the machine as a pod does."""
    folder.mkdir()
    mounts = {PROJECT: "/opt/aggan", **mounts}
    mounted = " ".join(f"{where}:{place}" for where, place in mounts.items())
    enter = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", ENTER, "sh"]
    return subprocess.Popen([*enter, folder, start, mounted, *IMAGE, *command], **options)


class Kubernetes(ThreadingHTTPServer):
    """The API server, the node, and the volume that its pods claim."""

    def __init__(self, folder, volume):
        super().__init__(("127.0.0.1", 0), Calls)
        self.folder = folder
        self.volume = volume
        self.submitted = []  # containers
        self.jobs = {}  # by name
        self.pods = {}  # processes by name of their job
        self.started = []  # processes, to be ended with the cluster
        address = {"server": f"http://127.0.0.1:{self.server_port}"}
        configuration = CONFIGURATION | {"clusters": [{"name": "test", "cluster": address}]}
        self.configuration = folder / "kubeconfig"
        self.configuration.write_text(json.dumps(configuration))

    def start(self, job):
        """Start the pod of a job."""
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
        """Start a command on the submitting machine, which mounts the volume."""
        environment = os.environ | {"KUBECONFIG": str(self.configuration)}
        folder, mounts = self.folder / "controller", {self.volume: "/aggan"}
        with open(self.folder / "controller.log", "w") as log:
            streams = {"stdout": log, "stderr": log}
            started = process(folder, "/aggan", mounts, command, env=environment, **streams)
        self.started.append(started)
        return started


def rejection(job) -> str | None:
    """The error of the API server for an invalid job. A device request needs an equal limit."""
    for container in job["spec"]["template"]["spec"]["containers"]:
        if not container.get("image"):
            return "spec.template.spec.containers[0].image: Required value"
        place = "spec.template.spec.containers[0].resources"
        requests = container["resources"].get("requests", {})
        limits = container["resources"].get("limits", {})
        for name in (name for name in requests if "/" in name):
            if name not in limits:
                rule = "Limit must be set for non overcommitable resources"
                return f"{place}.limits: Required value: {rule}"
            if limits[name] != requests[name]:
                rule = f"must be equal to {name} limit of {limits[name]}"
                return f"{place}.requests: Invalid value: {rule}"
    return None


class Calls(BaseHTTPRequestHandler):
    """The API calls that Snakemake makes; any other is an error."""

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
        """The kind and the name of the resource in the path /.../namespaces/NAMESPACE/KIND/NAME."""
        kind, *name = urlsplit(self.path).path.split("/namespaces/")[1].split("/")[1:]
        return kind, name

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        kind, _ = self.kind_and_name
        if kind == "jobs" and (message := rejection(body)):
            return self.refuse(422, f"Job.batch is invalid: {message}")
        if kind == "jobs":
            self.server.start(body)
        self.answer(body, 201)

    def do_GET(self):
        kind, name = self.kind_and_name
        query = parse_qs(urlsplit(self.path).query)
        if kind == "jobs" and name[0] not in self.server.jobs:
            return self.refuse(404, "not found")
        if kind == "jobs":
            return self.answer(self.job(name[0]))
        if name and "previous" in query:  # no pod is started again
            return self.refuse(400, "previous terminated container not found")
        if name:
            return self.answer((self.server.folder / f"{name[0]}.log").read_text())
        wanted = query["labelSelector"][0].removeprefix("job-name=")
        pods = [self.pod(wanted)] if wanted in self.server.pods else []
        self.answer({"kind": "PodList", "apiVersion": "v1", "items": pods})

    def do_DELETE(self):
        kind, (name,) = self.kind_and_name
        if kind == "pods":
            self.server.pods.pop(name).kill()
        if kind == "jobs":
            self.server.jobs.pop(name)
        self.answer({"kind": "Status", "status": "Success"})

    def job(self, name):
        """A job with its status; that of a lost pod has failed."""
        pod = self.server.pods.get(name)
        code = pod.poll() if pod else -signal.SIGKILL
        status = {
            "active": int(code is None),
            "succeeded": int(code == 0),
            "failed": int(code not in (None, 0)),
        }
        return self.server.jobs[name] | {"status": status}

    def pod(self, name):
        """The pod of a job, running or terminated."""
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
    """Run a cluster while the block lasts."""
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
