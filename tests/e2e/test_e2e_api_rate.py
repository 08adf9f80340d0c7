"""The limits of how often a tenant's keys may ask, by the second and by the hour, at /v1 of the real gateway."""

from __future__ import annotations

from pathlib import Path

from trunkline_cli.suite.processes import Suite
from trunkline_cli.suite.seed import api, seed_tenant

from tests.forked import launch


def test_a_tenants_keys_are_held_to_the_set_rate_and_operators_are_not(tmp_path: Path) -> None:
    settings = {"TRUNKLINE_GATEWAY_API_PER_SECOND": "1", "TRUNKLINE_GATEWAY_API_BURST": "5"}
    suite = Suite(tmp_path / "suite", free_ports=True, launch=launch, env=settings)
    try:
        suite.start("tenant", "gateway")
        tenant = seed_tenant(suite.http_url, suite.operator_token, "acme", "http://127.0.0.1:9")
        with api(suite.http_url, tenant.api_key) as keys:
            answers = [keys.get("/v1/tenants/acme") for _ in range(15)]
        assert [answer.status_code for answer in answers[:5]] == [200] * 5
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.json()["error"]["details"][0]["reason"] == "API_RATE"
        assert refused.headers["retry-after"] == "1"
        with api(suite.http_url, suite.operator_token) as operator:
            assert {operator.get("/v1/tenants/acme").status_code for _ in range(15)} == {200}
    finally:
        suite.stop()


def test_the_hourly_limit_holds_without_an_envoy(tmp_path: Path) -> None:
    settings = {"TRUNKLINE_TENANT_RATE_TENANT_PER_HOUR": "6"}
    suite = Suite(tmp_path / "suite", free_ports=True, launch=launch, env=settings)
    try:
        suite.start("tenant", "gateway")
        tenant = seed_tenant(suite.http_url, suite.operator_token, "acme", "http://127.0.0.1:9")
        with api(suite.http_url, tenant.api_key) as keys:
            answers = [keys.get("/v1/tenants/acme") for _ in range(8)]
        passed = [answer.status_code for answer in answers].count(200)
        assert 4 <= passed <= 6  # the tenant's key asked once or twice before
        assert [answer.status_code for answer in answers] == [200] * passed + [429] * (8 - passed)
        told = [answer.headers["ratelimit-remaining"] for answer in answers]
        assert told == [str(left) for left in reversed(range(passed))] + ["0"] * (8 - passed)
        assert {answer.headers["ratelimit-limit"] for answer in answers} == {"6"}
        refused = answers[-1]
        assert refused.json()["error"]["details"][0]["reason"] == "RATE_LIMIT"
        assert int(refused.headers["retry-after"]) >= 1
        with api(suite.http_url, suite.operator_token) as operator:
            assert {operator.get("/v1/tenants/acme").status_code for _ in range(8)} == {200}
    finally:
        suite.stop()
