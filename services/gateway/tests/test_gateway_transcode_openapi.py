"""The OpenAPI document says what is served, all of it and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
from trunkline_gateway.transcode.app import PACKAGES, build_transcoder
from trunkline_gateway.transcode.bindings import bindings_of, router_of, services_of
from trunkline_gateway.transcode.openapi import document
from trunkline_gateway.transcode.router import Match
from trunkline_runtime.channels import Channels
from trunkline_runtime.tokens import TokenSigner

BINDINGS = bindings_of(services_of(PACKAGES))


def operations(described: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def test_every_operation_is_a_route_and_every_route_an_operation() -> None:
    router, found = router_of(BINDINGS), []
    for path, method, operation in operations(document(BINDINGS)):
        match = router.find(method, re.sub(r"\{\w+\}", "ab-1", path))
        assert isinstance(match, Match)
        assert operation["operationId"] == match.target.rpc.rsplit(".", 1)[1].replace("/", "_")
        found.append(match.target.rpc)
    assert sorted(found) == sorted(binding.rpc for binding in BINDINGS)


def test_references_lead_somewhere_and_path_parameters_are_in_the_path() -> None:
    described = document(BINDINGS)
    names = set(described["components"]["schemas"])
    assert set(re.findall(r'"#/components/schemas/([\w.]+)"', json.dumps(described))) <= names
    for path, _, operation in operations(described):
        named = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", path))


def test_a_list_tells_its_parameters_and_an_update_its_body_and_mask() -> None:
    paths = document(BINDINGS)["paths"]
    listed = paths["/v1/tenants/{tenantsId}/calls"]["get"]
    assert [p["name"] for p in listed["parameters"]] == [
        "tenantsId", "pageSize", "pageToken", "filter", "orderBy",
    ]  # fmt: skip
    update = paths["/v1/tenants/{tenantsId}/sources/{sourcesId}"]["patch"]
    assert [p["name"] for p in update["parameters"]] == ["tenantsId", "sourcesId", "updateMask"]
    (body,) = update["requestBody"]["content"].values()
    assert body["schema"] == {"$ref": "#/components/schemas/trunkline.tenant.v1.Source"}


def test_what_is_written_once_or_only_read_is_marked() -> None:
    source = document(BINDINGS)["components"]["schemas"]["trunkline.tenant.v1.Source"]["properties"]
    assert source["secret"]["writeOnly"]
    assert source["createTime"] == {"type": "string", "format": "date-time", "readOnly": True}
    assert source["state"] == {"$ref": "#/components/schemas/trunkline.tenant.v1.SourceState"}


async def test_it_is_served_to_anybody_and_by_get_only() -> None:
    class Nobody:
        tenant_address = audio_address = ai_address = "127.0.0.1:1"

        async def authenticate(self, token: str) -> Any:
            raise AssertionError(f"nobody asks who holds {token}")

    signer = TokenSigner("ab" * 32, "gateway")
    channels = Channels(signer)
    app = build_transcoder(channels, signer, Nobody(), Nobody(), own_address=lambda: "127.0.0.1:1")
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        answer = await client.get("/v1/openapi.json")
        posted = await client.post("/v1/openapi.json", json={})
    await channels.close()
    assert answer.json() == json.loads(json.dumps(document(BINDINGS)))
    assert answer.headers["x-request-id"]
    assert posted.status_code == 404
