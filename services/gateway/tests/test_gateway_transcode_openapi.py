"""The OpenAPI document says what is served, all of it and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from buf.validate import validate_pb2
from trunkline.tenant.v1 import rate_service_pb2, source_service_pb2
from trunkline_gateway.api.allowances import Allowances
from trunkline_gateway.api.app import build_transcoder, public_bindings
from trunkline_gateway.api.openapi.document import document
from trunkline_gateway.api.transcode.bindings import router_of
from trunkline_gateway.api.transcode.described_rules import limits, up_to
from trunkline_gateway.api.transcode.router import RouteMatch
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.rpc.channels import Channels
from trunkline_runtime.testing import KEY_FOLDER

BINDINGS = public_bindings()


def operations(described: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def test_every_operation_is_a_route_and_every_route_an_operation() -> None:
    router, found = router_of(BINDINGS), []
    for path, method, operation in operations(document(BINDINGS)):
        match = router.find(method, re.sub(r"\{\w+\}", "ab-1", path))
        assert isinstance(match, RouteMatch)
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
    assert body["schema"] == {"$ref": "#/components/schemas/trunkline.tenant.v1.Source.Change"}


def test_what_is_written_once_or_only_read_is_marked() -> None:
    schemas = document(BINDINGS)["components"]["schemas"]
    source = schemas["trunkline.tenant.v1.Source"]["properties"]
    assert source["createTime"] == {"type": "string", "format": "date-time", "readOnly": True}
    assert source["state"] == {"$ref": "#/components/schemas/trunkline.tenant.v1.SourceState"}
    written = schemas["trunkline.tenant.v1.Source.Write"]["properties"]
    assert written["secret"] == {"type": ["string", "null"], "maxLength": 512, "writeOnly": True}
    assert "createTime" not in written


def test_limits_are_those_that_validate() -> None:
    described = document(BINDINGS)
    replay = described["components"]["schemas"]["trunkline.gateway.v1.ReplayEventsRequest.Write"][
        "properties"
    ]
    assert replay["ratePerSecond"] == {
        "type": ["number", "null"], "format": "double",
        "anyOf": [{"const": 0}, {"minimum": 0.01, "maximum": 1000}],
    }  # fmt: skip
    assert replay["filter"]["maxLength"] == 2000
    listed = described["paths"]["/v1/tenants/{tenantsId}/calls"]["get"]["parameters"]
    size = next(p["schema"] for p in listed if p["name"] == "pageSize")
    assert (size["minimum"], size["maximum"]) == (0, 500)
    key = described["components"]["schemas"]["trunkline.tenant.v1.ApiKey.Write"]
    assert key["required"] == ["role"]
    assert key["properties"]["role"]["enum"] == ["ROLE_VIEWER", "ROLE_MEMBER", "ROLE_ADMIN", 1, 2, 3]


def test_what_the_path_sets_is_not_in_the_body_and_a_body_is_required_where_it_can_say_something() -> None:
    described = document(BINDINGS)
    schemas = described["components"]["schemas"]
    needed = {}
    for path, _, operation in operations(described):
        if "requestBody" not in operation:
            continue
        (body,) = operation["requestBody"]["content"].values()
        schema = schemas[body["schema"]["$ref"].rsplit("/", 1)[1]]
        assert not {"name", "parent"} & set(schema["properties"]), path
        needed[operation["operationId"]] = operation["requestBody"]["required"]
    assert needed["EventService_ReplayEvents"]
    assert [name for name, is_needed in needed.items() if not is_needed] == [
        "EventService_CancelEvent",
        "EventService_AcceptRejection",
        "Operations_CancelOperation",
    ]


@pytest.mark.parametrize(
    ("most", "taken", "refused"),
    [
        (
            86_400,
            ["0s", "1s", "86399.999999999s", "86400s", "86400.000s"],
            ["86400.1s", "86401s", "-1s", "01s"],
        ),
        (9, ["0s", "8.5s", "9s"], ["9.5s", "10s", "s"]),
    ],
)
def test_the_bounds_of_a_duration_are_a_pattern(most: int, taken: list[str], refused: list[str]) -> None:
    rules = validate_pb2.FieldRules(duration={"gte": {"seconds": 0}, "lte": {"seconds": most}})
    field = source_service_pb2.RotateSourceSecretRequest.DESCRIPTOR.fields_by_name["overlap"]
    pattern = limits(rules, field)["pattern"]
    assert [text for text in taken + refused if re.search(pattern, text)] == taken


def test_a_pattern_of_numbers_fits_all_of_them_and_no_other() -> None:
    for most in (0, 7, 10, 99, 100, 500, 1_234):
        pattern = re.compile(up_to(most))
        assert [n for n in range(2_000) if pattern.fullmatch(str(n))] == list(range(most + 1))


class Nobody:
    """Addresses of services that aren't there, and an authenticator that may not be asked."""

    tenant_address = audio_address = ai_address = "127.0.0.1:1"

    async def authenticate(self, token: str) -> Any:
        raise AssertionError(f"nobody asks who holds {token}")


async def test_it_is_served_to_anybody_and_by_get_only() -> None:
    signer = TokenSigner(KEY_FOLDER, "gateway")
    channels = Channels(signer)
    app = build_transcoder(channels, signer, Nobody(), Nobody(), own_address=lambda: "127.0.0.1:1")
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        answer = await client.get("/v1/openapi.json")
        posted = await client.post("/v1/openapi.json", json={})
    await channels.close()
    assert answer.json() == json.loads(json.dumps(document(BINDINGS)))
    assert answer.headers["x-request-id"]
    assert (posted.status_code, posted.headers["allow"]) == (405, "GET")


async def test_it_counts_against_its_address_and_a_client_that_has_it_is_told_so() -> None:
    asked = []

    async def take(request: rate_service_pb2.TakeRequestsRequest) -> rate_service_pb2.TakeRequestsResponse:
        asked.append((request.kind, request.subject))
        left = 3 - len(asked)
        answer = rate_service_pb2.TakeRequestsResponse(
            limit=2, granted=int(left > 0), remaining=max(0, left - 1)
        )
        answer.reset.FromSeconds(60)
        return answer

    signer = TokenSigner(KEY_FOLDER, "gateway")
    channels = Channels(signer)
    allowances = Allowances(take, clock=lambda: 1.0)
    app = build_transcoder(
        channels, signer, Nobody(), Nobody(), own_address=lambda: "127.0.0.1:1", allowances=allowances
    )
    transport = httpx.ASGITransport(app=app, client=("192.0.2.1", 9))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        first = await client.get("/v1/openapi.json")
        again = await client.get("/v1/openapi.json", headers={"If-None-Match": first.headers["etag"]})
        over = await client.get("/v1/openapi.json")
    await channels.close()
    assert (first.status_code, first.headers["ratelimit-remaining"]) == (200, "1")
    assert (again.status_code, again.content) == (304, b"")
    assert "content-length" not in again.headers
    assert again.headers["etag"] == first.headers["etag"]
    assert (over.status_code, over.headers["retry-after"]) == (429, "60")
    assert set(asked) == {(rate_service_pb2.RATE_KIND_ADDRESS, "192.0.2.1")}
