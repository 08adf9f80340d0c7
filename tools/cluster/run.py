"""A control plane that runs on loopback while a block lasts: etcd, the API server, controllers, scheduler, kwok."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.cluster.build import FOLDER

_READY_SECONDS = 180.0
_NODES = 6


class ClusterError(Exception):
    """The control plane, or something that it was told, failed; the text says what it said."""


@dataclass(frozen=True)
class Cluster:
    """A control plane that is up. `kubeconfig` is its administrator's."""

    folder: Path
    kubeconfig: Path

    def kubectl(
        self, *arguments: str, given: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl. Raises ClusterError with what it said, unless `check` is off."""
        env = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        ran = subprocess.run(
            ["kubectl", *arguments], input=given, env=env, capture_output=True, text=True, check=False
        )
        if check and ran.returncode:
            raise ClusterError(f"kubectl {' '.join(arguments)}: {ran.stderr or ran.stdout}")
        return ran

    def get(self, *arguments: str) -> Any:
        """Return objects as JSON has them."""
        return json.loads(self.kubectl("get", *arguments, "--output=json").stdout)

    def apply(self, *objects: dict[str, Any]) -> None:
        """Apply objects, server-side."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", given=text)


@contextlib.contextmanager
def control_plane(folder: Path, *, hpa_seconds: float = 2.0) -> Iterator[Cluster]:
    """Run a control plane with its state in a folder. Raises ClusterError if it does not get ready in time.

    The controller of autoscalers looks every `hpa_seconds`; by default Kubernetes waits for 15.
    """
    folder.mkdir(parents=True, exist_ok=True)
    client, peer, secure = (free_port() for _ in range(3))
    token = secrets.token_hex(16)
    key, public = folder / "sa.key", folder / "sa.pub"
    _run(["openssl", "genrsa", "-out", str(key), "2048"])
    _run(["openssl", "rsa", "-in", str(key), "-pubout", "-out", str(public)])
    (folder / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")
    cluster = Cluster(folder, folder / "kubeconfig")
    cluster.kubeconfig.write_text(_kubeconfig(f"https://127.0.0.1:{secure}", token))
    cluster.kubeconfig.chmod(0o600)
    etcd = f"http://127.0.0.1:{client}"
    admin = f"--kubeconfig={cluster.kubeconfig}"
    with contextlib.ExitStack() as stack:

        def start(name: str, *arguments: str) -> None:
            log = stack.enter_context((folder / f"{name}.log").open("wb"))
            process = subprocess.Popen([FOLDER / name, *arguments], stdout=log, stderr=log, cwd=folder)
            stack.callback(_stop, process)

        start(
            "etcd", f"--data-dir={folder / 'etcd'}", f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}", "--unsafe-no-fsync",
        )  # fmt: skip
        start(
            "kube-apiserver", f"--etcd-servers={etcd}", "--bind-address=127.0.0.1", f"--secure-port={secure}",
            f"--cert-dir={folder / 'certificates'}", "--service-cluster-ip-range=10.96.0.0/16",
            f"--service-account-key-file={public}", f"--service-account-signing-key-file={key}",
            "--service-account-issuer=https://kubernetes.default.svc", f"--token-auth-file={folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
        )  # fmt: skip
        _until(lambda: cluster.kubectl("get", "--raw=/readyz", check=False).returncode == 0, "the API server")
        start(
            "kube-controller-manager", admin, f"--service-account-private-key-file={key}", "--leader-elect=false",
            f"--horizontal-pod-autoscaler-sync-period={hpa_seconds}s", "--bind-address=127.0.0.1",
            # Pods here are as warm as they get at once.
            "--horizontal-pod-autoscaler-cpu-initialization-period=1s",
            "--horizontal-pod-autoscaler-initial-readiness-delay=1s",
        )  # fmt: skip
        start("kube-scheduler", admin, "--leader-elect=false", "--bind-address=127.0.0.1")
        configs = [f"--config={stage}" for stage in sorted((FOLDER / "stages").glob("*.yaml"))]
        start("kwok", admin, "--manage-all-nodes=true", "--node-lease-duration-seconds=40", *configs)
        cluster.apply(*(_node(number) for number in range(_NODES)))
        _until(lambda: _nodes_ready(cluster), "nodes")
        yield cluster


def _node(number: int) -> dict[str, Any]:
    room = {"cpu": "64", "memory": "256Gi", "pods": "250", "ephemeral-storage": "1Ti"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": f"node-{number}",
            "labels": {
                "kubernetes.io/hostname": f"node-{number}",
                "topology.kubernetes.io/zone": f"zone-{number % 3}",
            },
        },
        "status": {"capacity": room, "allocatable": room},
    }


def _nodes_ready(cluster: Cluster) -> bool:
    nodes = cluster.get("nodes")["items"]
    ready = [c for n in nodes for c in n["status"].get("conditions", []) if c["type"] == "Ready"]
    return len(ready) == _NODES and all(condition["status"] == "True" for condition in ready)


def _kubeconfig(server: str, token: str) -> str:
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": server, "insecure-skip-tls-verify": True}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
    )


def _until(done: Any, what: str) -> None:
    until = time.monotonic() + _READY_SECONDS
    while not done():
        if time.monotonic() > until:
            raise ClusterError(f"not ready in {_READY_SECONDS:.0f} s: {what}")
        time.sleep(0.5)


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """Return a port of loopback that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
