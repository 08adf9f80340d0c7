"""The manifests are whole, and say what the services' settings and the architecture say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from trunkline_runtime.config import load
from trunkline_runtime.identity import keys
from trunkline_runtime.identity.authority import Authority

from tests.contract.manifests import (
    ENVOY,
    OVERLAYS,
    PROCESSES,
    WORKLOADS,
    built,
    container,
    environment,
    one,
    overlay,
    pod,
    setting,
    variables_of,
    workload,
)
from tools.packages import ROOT

KUBERNETES = "1.34"
ALL = [(name, process) for name in OVERLAYS for process in PROCESSES]
AND_ENVOY = [(name, process) for name in OVERLAYS for process in WORKLOADS]
# Kinds of others, whose schemas Kubernetes does not have.
FOREIGN = {
    "Certificate",
    "Issuer",
    "PodMonitoring",
    "SecretProviderClass",
}
CLUSTER_WIDE = {
    "Namespace", "PriorityClass", "StorageClass", "ClusterRole", "ClusterRoleBinding", "APIService",
}  # fmt: skip
FOLDERS = ["overlays/local", "overlays/gke", "migrations", "components/prometheus-adapter"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_object_is_valid(folder):
    for item in built(folder):
        if item["kind"] not in FOREIGN:
            kubernetes_validate.validate(item, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_object_of_an_overlay_is_in_its_namespace_which_is_restricted(name):
    for item in overlay(name):
        if item["kind"] in CLUSTER_WIDE:
            continue
        assert item["metadata"]["namespace"] == "trunkline", item["metadata"]
    labels = one(overlay(name), "Namespace", "trunkline")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize(("name", "process"), AND_ENVOY)
def test_no_service_lacks_its_own_objects(name, process):
    objects = overlay(name)
    for kind in ("HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy", "ServiceAccount"):
        one(objects, kind, process)
    if process not in ("worker", ENVOY):
        service = one(objects, "Service", process)["spec"]
        assert service["clusterIP"] == "None", "headless: clients balance"
    target = one(objects, "HorizontalPodAutoscaler", process)["spec"]["scaleTargetRef"]
    assert target == {"apiVersion": "apps/v1", "kind": workload(objects, process)["kind"], "name": process}
    assert "replicas" not in workload(objects, process)["spec"], "the autoscaler decides"
    for kind in ("PodDisruptionBudget", "NetworkPolicy"):
        spec = one(objects, kind, process)["spec"]
        selector = spec.get("selector") or spec["podSelector"]
        assert selector["matchLabels"] == {"app.kubernetes.io/name": process}
    names = {o["metadata"]["name"] for o in objects if o["kind"] == "PriorityClass"}
    assert pod(objects, process)["priorityClassName"] in names
    assert pod(objects, process)["serviceAccountName"] == process
    assert pod(objects, process)["enableServiceLinks"] is False


@pytest.mark.parametrize(("name", "process"), AND_ENVOY)
def test_pods_are_confined(name, process):
    spec, own = pod(overlay(name), process), container(overlay(name), process)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 10001
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsGroup": 10001,
        "runAsNonRoot": True,
        "runAsUser": 10001,
    }
    for resource in ("cpu", "memory", "ephemeral-storage"):
        assert own["resources"]["requests"][resource]
        assert own["resources"]["limits"][resource]
    assert spec["topologySpreadConstraints"]


@pytest.mark.parametrize(("name", "process"), ALL)
def test_every_variable_is_a_setting_that_the_service_takes(name, process, tmp_path):
    """The service's own code reads them; what would be a volume is a folder here."""
    given = environment(overlay(name), process)
    keys.create(tmp_path / "etc/trunkline/keys")
    Authority(tmp_path / "ca").renew([process], 7)
    (tmp_path / "ca" / process).rename(tmp_path / "etc/trunkline/tls")
    for folder in ("var/lib/trunkline/data", "var/lib/trunkline/spool", "scratch/audio"):
        (tmp_path / folder).mkdir(parents=True)
    secrets = {
        "TRUNKLINE_TENANT_SECRET_KEYS": "W2Tqf1YfKxjLJ4ceVgmwWSZIlwoj8Sm8vZ0bb6gRB2A=",
        "TRUNKLINE_TENANT_OPERATOR_TOKEN": "tl_op_" + "x" * 32,
        "TRUNKLINE_TENANT_EDGE_TOKEN": "tl_edge_" + "x" * 32,
        "TRUNKLINE_TENANT_RATES_REDIS": "redis://10.127.0.3:6379/0",
    }
    env = {}
    for variable, value in given.items():
        assert variable.startswith(f"TRUNKLINE_{process.upper()}_")
        if variable.endswith("_FILE"):
            assert value.startswith("/etc/trunkline/secrets/")
            env[variable.removesuffix("_FILE")] = secrets[variable.removesuffix("_FILE")]
        elif value:  # else it is taken from a limit of the pod
            env[variable] = re.sub(r"(?<![\w.])/(?=(var|etc|scratch)/)", f"{tmp_path}/", value)
    if "ENGINE_WORKERS" in "".join(given):
        env["TRUNKLINE_AUDIO_ENGINE_WORKERS"] = container(overlay(name), process)["resources"]["limits"][
            "cpu"
        ]
    load(PROCESSES[process], process, env)
    assert given.keys() <= variables_of(process)


@pytest.mark.parametrize(("name", "process"), ALL)
def test_everything_that_is_written_is_on_a_volume(name, process):
    own = container(overlay(name), process)
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in own["volumeMounts"]}
    assert mounts["/tmp"] is False
    volumes = {volume["name"] for volume in pod(overlay(name), process)["volumes"]}
    volumes |= {
        c["metadata"]["name"]
        for c in workload(overlay(name), process)["spec"].get("volumeClaimTemplates", [])
    }
    assert {mount["name"] for mount in own["volumeMounts"]} == volumes
    for variable, value in environment(overlay(name), process).items():
        path = value.removeprefix("sqlite:///")
        if not path.startswith("/"):
            continue
        (mount,) = [m for m in mounts if Path(path).is_relative_to(m)]
        assert mounts[mount] is (variable.endswith(("_FILE", "_KEYS", "_TLS_FOLDER"))), variable
    for field in ("store_url", "keys", "source_cache", "spool_path", "blobs_folder", "scratch_folder"):
        if field == "blobs_folder" and setting(overlay(name), process, "blobs_bucket"):
            continue  # nothing is written there
        if process == "worker" and field == "store_url":
            continue  # it has none
        if (path := setting(overlay(name), process, field)) is not None:
            assert not str(path).startswith(("var/", "sqlite:///var")), field


@pytest.mark.parametrize(("name", "process"), ALL)
def test_ports_are_those_of_the_settings(name, process):
    own = container(overlay(name), process)
    ports = {port["name"]: port["containerPort"] for port in own["ports"]}
    for kind, port in ports.items():
        address = setting(overlay(name), process, f"{kind}_address")
        assert address == f"0.0.0.0:{port}"
    exposed = {"worker": set()}.get(process, {"grpc"}) | ({"http"} if process == "gateway" else set())
    services = [
        o["spec"]
        for o in overlay(name)
        if o["kind"] == "Service" and o["spec"].get("selector") == {"app.kubernetes.io/name": process}
    ]
    assert {port["targetPort"] for spec in services for port in spec["ports"]} == exposed
    for peer in ("gateway", "tenant", "audio", "ai"):
        address = environment(overlay(name), process).get(
            f"TRUNKLINE_{process.upper()}_{peer.upper()}_ADDRESS"
        )
        if address is not None:
            service = one(overlay(name), "Service", peer)["spec"]
            (port,) = [port["port"] for port in service["ports"] if port["name"] == "grpc"]
            assert address == f"{peer}:{port}"


@pytest.mark.parametrize(("name", "process"), ALL)
def test_probes_ask_what_each_is_for(name, process):
    own = container(overlay(name), process)
    ports = {p["name"]: p["containerPort"] for p in own["ports"]}
    port = ports.get("probe", ports["grpc"])
    # The kubelet speaks no TLS; a worker's health is plaintext in any case.
    assert ("probe" in ports) == (bool(setting(overlay(name), process, "tls_folder")) and process != "worker")
    for probe in ("startupProbe", "livenessProbe"):
        assert own[probe]["grpc"] == {"port": port, "service": "live"}
    ready = own["readinessProbe"]
    if process == "gateway":
        assert ready["httpGet"] == {"path": "/readyz", "port": "http"}
    else:
        assert ready["grpc"]["port"] == port
        assert not ready["grpc"].get("service")
    waited = own["startupProbe"]["periodSeconds"] * own["startupProbe"]["failureThreshold"]
    assert waited >= 60, "a migration of SQLite, and the speech model's load"


@pytest.mark.parametrize(("name", "process"), ALL)
def test_the_grace_fits_the_drain(name, process):
    own, spec = container(overlay(name), process), pod(overlay(name), process)
    before = own.get("lifecycle", {}).get("preStop", {})
    if "exec" in before:
        (most,) = [word.partition("=")[2] for word in before["exec"]["command"] if word.startswith("--most=")]
        waits = float(most)
    else:
        waits = float(before.get("sleep", {}).get("seconds", 0))
    if process != "worker":  # nobody calls a worker
        assert waits >= 5, "callers hear of the end first"
    drain = float(setting(overlay(name), process, "drain_seconds"))
    assert spec["terminationGracePeriodSeconds"] >= waits + drain + 5


REDIS = ("redis", 6379)


def called() -> dict[str, set[str]]:
    """Who calls whom, as docs/architecture.md says; `redis` among them."""
    text = (ROOT / "docs" / "architecture.md").read_text().partition("| from | calls by gRPC")[2]
    names = {"gateway `serve`": "gateway", "gateway `work`": "worker", "Envoy": ENVOY}
    found = {}
    for row in text.splitlines()[2:]:
        if not row.startswith("|"):
            break
        who, calls, shared, _ = (cell.strip() for cell in row.strip("|").split("|"))
        callees = [cell.strip() for cell in calls.split(",") if cell.strip()]
        found[names.get(who, who)] = {names.get(callee, callee) for callee in callees} | (
            {"redis"} if shared else set()
        )
    return found


def peers(rules: list[dict], way: str) -> set[tuple[str, int]]:
    found = set()
    for rule in rules:
        for peer in rule.get(way, []):
            labels = peer.get("podSelector", {}).get("matchLabels", {})
            if "app.kubernetes.io/name" in labels:
                found |= {(labels["app.kubernetes.io/name"], port["port"]) for port in rule["ports"]}
    return found


@pytest.mark.parametrize("name", OVERLAYS)
def test_network_policies_are_the_arrows_of_the_architecture(name):
    arrows, objects = called(), overlay(name)
    assert set(arrows) == set(WORKLOADS)
    http = ("gateway", int(str(setting(objects, "gateway", "http_address")).rpartition(":")[2]))
    ports = {p: int(str(setting(objects, p, "grpc_address")).rpartition(":")[2]) for p in PROCESSES}
    ports |= dict([REDIS])
    for process in WORKLOADS:
        spec = one(objects, "NetworkPolicy", process)["spec"]
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        # Envoy sends HTTP to the gateway besides.
        more = {http} if process == ENVOY else set()
        assert peers(spec["egress"], "to") == {(to, ports[to]) for to in arrows[process]} | more, process
        if process == ENVOY:
            continue
        callers = {(caller, ports[process]) for caller, callees in arrows.items() if process in callees}
        if process == "gateway":
            callers.add((ENVOY, http[1]))
        assert peers(spec["ingress"], "from") == callers, process
        # What the settings name is what may be called.
        named = {
            peer
            for peer in PROCESSES
            if f"TRUNKLINE_{process.upper()}_{peer.upper()}_ADDRESS" in environment(objects, process)
        }
        arrows_by_grpc = arrows[process] - {"redis"}
        assert named - {process} == arrows_by_grpc | ({"tenant"} if process != "tenant" else set())
        redises = [name for name in variables_of(process) if name.endswith("_REDIS")]
        assert len(redises) == ("redis" in arrows[process]), "who has the setting may call it"
    redis = one(objects, "NetworkPolicy", "redis")["spec"]
    assert redis["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "redis"}
    assert (redis["policyTypes"], redis.get("egress", [])) == (["Ingress", "Egress"], [])
    assert peers(redis["ingress"], "from") == {(who, REDIS[1]) for who in arrows if "redis" in arrows[who]}
    assert one(objects, "NetworkPolicy", "deny-by-default")["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
    }


def test_on_gke_every_pod_may_ask_for_names_wherever_they_are_answered():
    spec = one(overlay("gke"), "NetworkPolicy", "names-cloud")["spec"]
    (chosen,) = spec["podSelector"]["matchLabels"].items()
    pods = [workload(overlay("gke"), process)["spec"]["template"] for process in WORKLOADS]
    pods += [o["spec"]["template"] for o in built("migrations") if o["kind"] == "Job"]
    assert all(chosen in one_pod["metadata"]["labels"].items() for one_pod in pods)
    (rule,) = spec["egress"]
    assert {(port["protocol"], port["port"]) for port in rule["ports"]} == {("UDP", 53), ("TCP", 53)}
    blocks = {peer["ipBlock"]["cidr"] for peer in rule["to"] if "ipBlock" in peer}
    assert blocks == {"169.254.169.254/32", "169.254.20.10/32"}
    assert [peer["podSelector"] for peer in rule["to"] if "podSelector" in peer] == [
        {"matchLabels": {"k8s-app": "node-local-dns"}}
    ]


def test_replicas_of_the_tenant_service_count_together():
    objects = overlay("gke")
    assert one(objects, "HorizontalPodAutoscaler", "tenant")["spec"]["minReplicas"] > 1
    file = Path(environment(objects, "tenant")["TRUNKLINE_TENANT_RATES_REDIS_FILE"])
    secrets = one(objects, "SecretProviderClass", "tenant-secrets")["spec"]["parameters"]["secrets"]
    assert file.name in {secret["path"] for secret in yaml.safe_load(secrets)}
    rules = one(objects, "NetworkPolicy", "tenant-cloud")["spec"]["egress"]
    assert 6379 in {port["port"] for rule in rules for port in rule["ports"]}


def test_the_edge_keeps_its_spool():
    for name in OVERLAYS:
        spec = workload(overlay(name), "gateway")["spec"]
        (spool,) = [c for c in spec["volumeClaimTemplates"] if c["metadata"]["name"] == "spool"]
        mount = next(m for m in container(overlay(name), "gateway")["volumeMounts"] if m["name"] == "spool")
        assert Path(str(setting(overlay(name), "gateway", "spool_path"))).is_relative_to(mount["mountPath"])
        assert spec["persistentVolumeClaimRetentionPolicy"] == {
            "whenScaled": "Retain",
            "whenDeleted": "Retain",
        }
        gigabytes = int(spool["spec"]["resources"]["requests"]["storage"].removesuffix("Gi"))
        assert gigabytes << 30 >= 1.5 * int(setting(overlay(name), "gateway", "spool_max_bytes"))


def test_a_store_of_one_process_has_one_replica_and_is_never_rolled_beside_itself():
    for process in PROCESSES:
        objects = overlay("local")
        bounds = one(objects, "HorizontalPodAutoscaler", process)["spec"]
        if process == "worker":
            continue
        assert str(setting(objects, process, "store_url")).startswith("sqlite:")
        assert (bounds["minReplicas"], bounds["maxReplicas"]) == (1, 1)
        if process != "gateway":  # a StatefulSet ends a pod before it makes the next one
            assert workload(objects, process)["spec"]["strategy"] == {"type": "Recreate"}


def test_what_scales_stores_where_every_replica_can_read():
    objects = overlay("gke")
    for process in PROCESSES:
        bounds = one(objects, "HorizontalPodAutoscaler", process)["spec"]
        assert 2 <= bounds["minReplicas"] < bounds["maxReplicas"]
        assert bounds["behavior"]["scaleDown"]["stabilizationWindowSeconds"] >= 300
        if process != "worker":
            assert str(setting(objects, process, "store_url")).startswith("spanner+spanner:")
    assert str(setting(objects, "audio", "blobs_bucket")).startswith("gs://")


def test_every_external_metric_is_one_that_the_adapter_makes():
    (config,) = [o for o in built("components/prometheus-adapter") if o["kind"] == "ConfigMap"]
    rules = yaml.safe_load(config["data"]["config.yaml"])["externalRules"]
    made = {rule["name"]["as"] for rule in rules}
    asked = set()
    for process in PROCESSES:
        for metric in one(overlay("gke"), "HorizontalPodAutoscaler", process)["spec"]["metrics"]:
            if metric["type"] == "External":
                asked.add(metric["external"]["metric"]["name"])
    assert asked == made


def test_migrations_run_the_images_that_are_rolled_out_on_the_same_stores():
    objects = overlay("gke")
    for process in PROCESSES:
        if process == "worker":
            continue
        job = one(built("migrations"), "Job", f"migrate-{process}")["spec"]["template"]["spec"]
        (step,) = job["containers"]
        assert step["image"].partition(":")[2] == container(objects, process)["image"].rpartition(":")[2]
        assert step["args"] == ["$(STORE_URL)", f"trunkline_{process}.migrations"]
        assert step["env"][0]["value"] == setting(objects, process, "store_url")


def test_the_document_s_commands_make_the_secrets_that_the_pods_mount(tmp_path):
    """Each name and each key of a secret that a pod reads comes out of the commands as they are printed."""
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    section = text.partition("## Secrets")[2].partition("\n## ")[0]
    script = "\n".join(line[4:] for line in section.splitlines() if line.startswith("    "))
    assert script.count("kubectl") == 4
    (tmp_path / ".venv").symlink_to(sys.prefix)
    env = {**os.environ, "KUBECONFIG": os.devnull}
    subprocess.run(["bash", "-euc", script], check=True, cwd=tmp_path, env=env)
    secrets = [one for one in yaml.safe_load_all((tmp_path / "keys/secrets.yaml").read_text()) if one]
    made = {secret["metadata"]["name"]: set(secret["data"]) for secret in secrets}
    assert len(made) == len(secrets)
    for process in WORKLOADS:
        for volume in pod(overlay("local"), process)["volumes"]:
            if "secret" in volume:
                assert volume["secret"]["secretName"] in made
    (token,) = container(overlay("local"), ENVOY)["env"]
    asked = token["valueFrom"]["secretKeyRef"]
    assert asked["key"] in made[asked["name"]]
    assert made["trunkline-audio-keys"] == {"audio.key", "trusted.json"}
    assert made["trunkline-tenant-secrets"] == {"secrets.key", "operator.token", "edge.token"}


def test_every_folder_that_the_document_names_is_there():
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    for path in re.findall(r"(?:--kustomize|--filename) (k8s/\S+)", text):
        assert (ROOT / path).exists(), path
    for process in WORKLOADS:
        bounds = one(overlay("gke"), "HorizontalPodAutoscaler", process)["spec"]
        (said,) = re.findall(rf"^\| {process} \| [^|]+ \| (\d+) to (\d+) \|$", text, re.MULTILINE)
        assert said == (str(bounds["minReplicas"]), str(bounds["maxReplicas"]))


def test_every_process_has_a_certificate_of_its_own_name():
    objects = overlay("gke")
    for process in PROCESSES:
        spec = one(objects, "Certificate", process)["spec"]
        assert spec["dnsNames"] == [f"{process}.trunkline.internal"]
        assert set(spec["usages"]) == {"server auth", "client auth"}
        (volume,) = [v for v in pod(objects, process)["volumes"] if v["name"] == "tls"]
        assert volume["secret"]["secretName"] == spec["secretName"]
