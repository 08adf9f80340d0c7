"""Envoy's configuration: the real Envoy takes it, and it says what it must."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from pathlib import Path

import pytest
from trunkline_cli.edge import bootstrap, commands, layout, routes
from trunkline_cli.edge.listeners import LOGGED
from trunkline_cli.screen import Misuse
from trunkline_runtime.identity import access
from trunkline_runtime.identity.access.rules import COUNTED_ROUTES

from tests.envoys import needed


def edge_of(folder: Path, **more: object) -> layout.Edge:
    made = layout.Edge(
        endpoints=layout.standard_endpoints(), certificate=folder / "tls.crt", key=folder / "tls.key", **more
    )
    commands.certify(made)
    return made


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_the_real_envoy_takes_the_configuration(tmp_path: Path, kind: str) -> None:
    edge = edge_of(tmp_path)
    made = bootstrap.static(edge) if kind == "static" else bootstrap.dynamic(edge, "127.0.0.1:18000")
    file = tmp_path / "envoy.json"
    file.write_text(bootstrap.written(made))
    done = subprocess.run(
        [needed(), "--mode", "validate", "-c", file], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower()


def test_the_configuration_holds_no_secret_and_logs_none(tmp_path: Path) -> None:
    text = bootstrap.written(bootstrap.static(edge_of(tmp_path)))
    assert f"Bearer %ENVIRONMENT({layout.TOKEN_VARIABLE})%" in text
    assert "tl_" not in text
    assert "PRIVATE KEY" not in text
    logged = " ".join(LOGGED.values()).lower()
    for secret in ("authorization", "signature", "cookie", "query", "req(:path)"):
        assert secret not in logged


def test_the_admin_address_is_on_loopback(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="loopback"):
        bootstrap.static(edge_of(tmp_path, admin="0.0.0.0:9901"))


def test_a_webhook_asks_nobody_and_everything_else_is_asked_about(tmp_path: Path) -> None:
    host = routes.route_configuration(edge_of(tmp_path)).virtual_hosts[0]
    forwarded = [route for route in host.routes if route.route is not None]
    for route in forwarded:
        asked = bool(route.route.rate_limits)
        settings = route.typed_per_filter_config[routes.AUTHZ].unpack()
        assert asked == (route.name in ("api", "watch", "media", "grpc"))
        assert bool(settings.disabled) is not asked
        assert route.route.retry_policy is not None or route.name == "ready"


def test_what_is_counted_is_what_limits_can_be_told_of_and_the_narrowest_first(tmp_path: Path) -> None:
    host = routes.route_configuration(edge_of(tmp_path)).virtual_hosts[0]
    limits = [route.route.rate_limits for route in host.routes if route.route and route.route.rate_limits]
    counted = {limit.actions[0].generic_key.descriptor_value for three in limits for limit in three}
    assert counted == set(COUNTED_ROUTES)
    for three in limits:
        last = [limit.actions[-1] for limit in three]
        assert last[0].remote_address is not None
        assert [action.metadata.descriptor_key for action in last[1:]] == ["user", "plan"]


def test_every_internal_method_is_refused_before_its_service_is_reached(tmp_path: Path) -> None:
    host = routes.route_configuration(edge_of(tmp_path)).virtual_hosts[0]
    names = [route.match.path for route in host.routes if route.name == "internal"]
    assert "/trunkline.gateway.v1.JobService/ClaimJobs" in names
    assert set(names) == {n for n, rule in access.TABLE.items() if rule.role is None and not rule.operators}
    order = [route.name for route in host.routes]
    assert order.index("internal") < order.index("grpc")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expecting"), ("[]", "object"), ('{"port": 1}', "no such field"), ('{"listen": "x"}', "host:port"),
        ('{"endpoints": {"tenant": []}}', "exactly"), ('{"connections": "many"}', "number"), ('{"ca": 5}', "path"),
        ('{"listen": 8443}', "listen must be host:port in quot"), ('{"connections": 0}', "number from 1"),
        ('{"connections": 1.5}', "whole number"), ('{"head_seconds": 0}', "number from 0.1"),
        ('{"policy_seconds": NaN}', "number"), ('{"trusted_hops": true}', "whole number from 0"),
        ("[" * 100_000, "deeply"), (json.dumps({"endpoints": dict.fromkeys(layout.standard_endpoints(), 5)}), "list"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_told_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "edge.json"
    file.write_text(text)
    with pytest.raises(Misuse, match=message):
        layout.read(file)


def test_every_number_of_a_file_has_a_least_value(tmp_path: Path) -> None:
    file = tmp_path / "edge.json"
    for field in dataclasses.fields(layout.Edge):
        if isinstance(field.default, (int, float)):
            file.write_text(json.dumps({field.name: -1}))
            with pytest.raises(Misuse, match=f"{field.name} must be .* number from"):
                layout.read(file)


def test_a_file_describes_the_edge(tmp_path: Path) -> None:
    told = {"listen": "127.0.0.1:0", "endpoints": layout.standard_endpoints("10.0.0.1"), "head_seconds": 2}
    file = tmp_path / "edge.json"
    file.write_text(json.dumps(told))
    edge = layout.read(file)
    assert (edge.listen, edge.head_seconds, edge.endpoints["ai"]) == ("127.0.0.1:0", 2, ("10.0.0.1:50053",))
    assert layout.read(None).endpoints == layout.standard_endpoints()


def test_a_certificate_that_ended_is_made_anew(tmp_path: Path) -> None:
    edge = layout.Edge(certificate=tmp_path / "tls.crt", key=tmp_path / "tls.key")
    commands.certify(edge, days=0)
    before = edge.certificate.read_bytes()
    commands.certify(edge)
    after = edge.certificate.read_bytes()
    assert after != before
    commands.certify(edge)
    assert edge.certificate.read_bytes() == after
    edge.certificate.write_text("of somebody else's")
    commands.certify(edge)
    assert edge.certificate.read_text() == "of somebody else's"


def test_a_certificate_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    edge = edge_of(tmp_path)
    before = edge.certificate.read_bytes()
    commands.certify(edge)
    assert edge.certificate.read_bytes() == before
    assert os.stat(edge.key).st_mode & 0o077 == 0
