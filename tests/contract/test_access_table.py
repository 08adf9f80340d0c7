"""Every RPC of the contracts has one row in the access table, the row fits its messages, and there is no other row."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import trunkline
from google.longrunning import operations_pb2
from google.protobuf import descriptor, descriptor_pool
from trunkline_gateway.api.app import public_bindings
from trunkline_gateway.api.media.app import SERVED
from trunkline_runtime.identity.access import (
    ANY_SERVICE,
    GATEWAY,
    Rule,
    ai,
    audio,
    edge,
    gateway,
    operations,
    tenant,
)
from trunkline_runtime.identity.access import TABLE as WHOLE_TABLE
from trunkline_runtime.identity.access.rules import EDGE
from trunkline_runtime.identity.callers import Role
from trunkline_runtime.rpc.operations import SERVICE


def methods() -> dict[str, descriptor.MethodDescriptor]:
    """Every RPC of the generated packages, and of google.longrunning, by full method name."""
    found: dict[str, descriptor.MethodDescriptor] = {}
    for method in operations_pb2.DESCRIPTOR.services_by_name["Operations"].methods:
        found[f"/{SERVICE}/{method.name}"] = method
    for module in pkgutil.walk_packages(trunkline.__path__, "trunkline."):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(module.name).DESCRIPTOR
            for service in file.services_by_name.values():
                for method in service.methods:
                    found[f"/{service.full_name}/{method.name}"] = method
    return found


METHODS = methods()
# Envoy's own protos have no descriptors here.
TABLE = {name: rule for name, rule in WHOLE_TABLE.items() if name not in edge.RULES}
API = Path(__file__).parents[2] / "docs/api.md"
SECRETS = {
    "/trunkline.tenant.v1.SourceService/ResolveSource",
    "/trunkline.tenant.v1.SourceService/WatchSources",
}


PUBLIC = {binding.rpc for binding in public_bindings()} | SERVED


def public(method: descriptor.MethodDescriptor) -> bool:
    return f"/{method.containing_service.full_name}/{method.name}" in PUBLIC


def test_every_rpc_has_exactly_one_row() -> None:
    assert len(METHODS) >= 40
    assert set(TABLE) == set(METHODS)


def test_each_package_has_the_rules_of_its_own_rpcs_in_its_file() -> None:
    ours = {"tenant": tenant, "audio": audio, "ai": ai, "gateway": gateway}
    files = {f"trunkline.{name}.v1": file for name, file in ours.items()} | {"google.longrunning": operations}
    for package, file in files.items():
        own = {name for name in METHODS if name.startswith(f"/{package}.")}
        assert set(file.RULES) == own
    assert sum(len(file.RULES) for file in files.values()) == len(TABLE), "one file replaces another's row"


def test_what_envoy_asks_is_for_the_edge_alone() -> None:
    assert len(edge.RULES) == 2
    for rule in edge.RULES.values():
        assert (rule.role, rule.services, rule.operators) == (None, EDGE, False)
    assert [name for name, rule in WHOLE_TABLE.items() if "edge" in rule.services] == list(edge.RULES)


@pytest.mark.parametrize("name", sorted(TABLE))
def test_the_fields_of_a_row_are_text_fields_of_the_request(name: str) -> None:
    rule = TABLE[name]
    for path in (rule.resource, *rule.also):
        if path:
            message = METHODS[name].input_type
            for part in path.split("."):
                field = message.fields_by_name[part]
                message = field.message_type
            assert field.type == descriptor.FieldDescriptor.TYPE_STRING


@pytest.mark.parametrize("name", sorted(TABLE))
def test_a_row_leaves_no_name_of_the_request_unchecked(name: str) -> None:
    """A request that has a parent or a name of a tenant's own resource is confined by it."""
    fields = METHODS[name].input_type.fields_by_name
    expected = next((f for f in ("parent", "name") if f in fields), None)
    if expected is not None:
        assert TABLE[name].resource == expected
    others = {"call", "event", "recording", "transcript", "analysis", "source"} & set(fields)
    texts = {f for f in others if fields[f].type == descriptor.FieldDescriptor.TYPE_STRING}
    assert texts <= {TABLE[name].resource, *TABLE[name].also}


@pytest.mark.parametrize("name", sorted(TABLE))
def test_what_an_api_key_may_call_is_public_and_confined(name: str) -> None:
    rule = TABLE[name]
    if rule.role is not None:
        assert public(METHODS[name]), "an API key may call only what has an HTTP rule"
        assert rule.resource, "an API key is confined to its tenant by a resource name"


@pytest.mark.parametrize("name", sorted(TABLE))
def test_roles_fit_what_a_method_does(name: str) -> None:
    verb = name.rpartition("/")[2]
    rule = TABLE[name]
    if rule.role is not None and verb.startswith(("Create", "Update", "Delete", "Rotate")):
        assert rule.role >= Role.MEMBER
    if rule.role is not None and (
        "ApiKey" in verb or ("Source" in verb and not verb.startswith(("Get", "List")))
    ):
        assert rule.role is Role.ADMIN


def test_what_returns_secrets_or_hands_out_jobs_is_for_the_gateway_alone() -> None:
    for name, rule in TABLE.items():
        if name in SECRETS or "JobService" in name:
            assert rule == Rule(None, services=GATEWAY, operators=False)
            assert not public(METHODS[name])


def test_what_takes_turns_is_no_stream() -> None:
    scans = [METHODS[name] for name, rule in TABLE.items() if rule.scans]
    assert len(scans) >= 10
    assert not [m.full_name for m in scans if m.client_streaming or m.server_streaming]


def test_only_authenticate_is_for_any_service() -> None:
    assert [n for n, rule in TABLE.items() if rule.services == ANY_SERVICE] == [
        "/trunkline.tenant.v1.ApiKeyService/Authenticate"
    ]


def test_tenants_are_managed_by_operators() -> None:
    for verb in ("CreateTenant", "UpdateTenant", "ListTenants", "DeleteTenant"):
        rule = TABLE[f"/trunkline.tenant.v1.TenantService/{verb}"]
        assert rule.role is None
        assert rule.operators


def test_tenants_are_purged_by_the_gateway_alone() -> None:
    purging = [n for n in TABLE if n.endswith(("/PurgeTenant", "/ConfirmPurge", "/ListTombstones"))]
    assert len(purging) == 5
    for name in purging:
        assert (TABLE[name].role, TABLE[name].services, TABLE[name].operators) == (None, GATEWAY, False)
        assert not public(METHODS[name])


def test_the_pool_knows_the_services_by_reflection() -> None:
    pool = descriptor_pool.Default()
    for name in {n.split("/")[1] for n in TABLE}:
        assert pool.FindServiceByName(name).full_name == name


def test_the_documented_roles_are_those_of_the_table() -> None:
    rows = re.findall(r"^\| (?:`(ROLE_\w+)`|an operator's token) \| (.*) \|$", API.read_text(), re.MULTILINE)
    told = {role: set(re.findall(r"\b[A-Z][a-z]+[A-Z]\w+", methods)) for role, methods in rows}
    names: dict[Role | None, set[str]] = {role: set() for role in (*Role, None)}
    for method, rule in TABLE.items():
        if rule.operators and public(METHODS[method]):
            names[rule.role].add(method.rpartition("/")[2])
    assert told["ROLE_MEMBER"] == names[Role.MEMBER]
    assert told["ROLE_ADMIN"] == names[Role.ADMIN]
    assert told[""] == names[None]
    looking = ("Get", "List", "Read", "Wait", "Watch", "Export", "Search")
    assert all(name.startswith(looking) for name in names[Role.VIEWER])
