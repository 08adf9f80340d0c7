"""The transcoder as an HTTP client sees it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gateway_echo as echo
import httpx
import pytest
from trunkline.gateway.v1 import event_service_pb2
from trunkline.tenant.v1 import call_service_pb2, tenant_pb2, tenant_service_pb2
from trunkline_gateway.api.credentials import Credentials
from trunkline_gateway.api.transcode import writer
from trunkline_gateway.api.transcode.bindings import RuleError, bindings_of, router_of
from trunkline_gateway.api.transcode.router import RouteConflict
from trunkline_gateway.api.transcode.transcoder import Transcoder
from trunkline_gateway.hooks.limits import Buckets
from trunkline_runtime.errors import NotFound, Unauthenticated, Unavailable
from trunkline_runtime.identity import access
from trunkline_runtime.identity.access import Rule
from trunkline_runtime.identity.callers import OPERATOR, Caller, CallerKind, Role
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.observe import tracing
from trunkline_runtime.testing import KEY_FOLDER

JSON = {"content-type": "application/json"}
World = tuple[httpx.AsyncClient, echo.Backend]
SIGNER = TokenSigner(KEY_FOLDER, "gateway")


class Keys:
    """Knows some tokens."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def authenticate(self, token: str) -> Caller:
        self.asked.append(token)
        if token == "tl_down":
            raise Unavailable("not now", retry_after=1.0)
        if token == "tl_bug":
            raise RuntimeError("password in /srv")
        known = {
            "tl_viewer": Caller(CallerKind.API_KEY, tenant="acme", role=Role.VIEWER, subject="k1"),
            "tl_member": Caller(CallerKind.API_KEY, tenant="acme", role=Role.MEMBER, subject="k2"),
            "tl_other": Caller(CallerKind.API_KEY, tenant="other", role=Role.VIEWER, subject="k3"),
            "tl_user": Caller(CallerKind.USER, tenant="acme", role=Role.VIEWER, subject="u1"),
            "tl_operator": OPERATOR,
        }
        if token not in known:
            raise Unauthenticated("the credentials are not valid", reason="CREDENTIALS_INVALID")
        return known[token]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    pool = echo.echo_service().file.pool
    services = [echo.echo_service(), pool.FindServiceByName(f"{echo.PACKAGE}.MoreService")]
    async with echo.transcoding(services, most_body_bytes=5000) as pair:
        yield pair


@pytest.fixture
async def guarded() -> AsyncIterator[World]:
    rules = {
        echo.ECHO + "GetThing": Rule(Role.VIEWER, resource="name"),
        echo.ECHO + "DeleteThing": Rule(Role.ADMIN, resource="name"),
        echo.ECHO + "UpdateThing": Rule(Role.VIEWER, resource="thing.name"),
        echo.ECHO + "ListThings": Rule(Role.VIEWER),
    }
    credentials = Credentials(Keys(), SIGNER)
    async with echo.transcoding([echo.echo_service()], credentials, rules=rules) as pair:
        yield pair


def violation(answer: httpx.Response) -> tuple[str, str]:
    """The field that a 400 names, and what it says of it."""
    assert answer.status_code == 400, answer.text
    (bad,) = [d for d in answer.json()["error"]["details"] if d["@type"].endswith("BadRequest")]
    (one,) = bad["fieldViolations"]
    return one["field"], one["description"]


# Who asks


@pytest.mark.parametrize(
    ("header", "reason", "challenge"),
    [
        (None, "CREDENTIALS_MISSING", 'Bearer realm="trunkline"'),
        ("Basic dXNlcjpwYXNz", "CREDENTIALS_MALFORMED", 'Bearer realm="trunkline", error="invalid_token"'),
        ("Bearer", "CREDENTIALS_MALFORMED", 'Bearer realm="trunkline", error="invalid_token"'),
        ("Bearer tl_nobody", "CREDENTIALS_INVALID", 'Bearer realm="trunkline", error="invalid_token"'),
        ("Bearer " + SIGNER.service_token(), "CREDENTIALS_INVALID", 'Bearer realm="trunkline", error="invalid_token"'),
        ("Bearer tl_" + "x" * 300, "CREDENTIALS_INVALID", 'Bearer realm="trunkline", error="invalid_token"'),
    ],
)  # fmt: skip
async def test_who_shows_no_valid_key_is_401(
    guarded: World, header: str | None, reason: str, challenge: str
) -> None:
    client, backend = guarded
    answer = await client.get("/v1/things/a", headers={"authorization": header} if header else {})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == challenge
    assert answer.json()["error"]["details"][0]["reason"] == reason
    assert not backend.asked


async def test_of_a_request_without_a_valid_key_nothing_is_exported(guarded: World) -> None:
    class Recorder:
        """An exporter that counts the spans of edges."""

        def __init__(self) -> None:
            self.edges: list[str] = []

        def samples(self, edge: str) -> bool:
            self.edges.append(edge)
            return False

        def shutdown(self) -> None:
            pass

    client, _ = guarded
    recorder = Recorder()
    end = tracing.export(recorder)  # type: ignore[arg-type]
    try:
        for key, status in (("tl_nobody", 401), ("tl_viewer", 200)):
            headers = {"authorization": f"Bearer {key}", "traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
            answer = await client.get("/v1/things/a", headers=headers)
            assert (status == 401) == (answer.status_code == 401), answer.text
            assert recorder.edges == ([] if status == 401 else ["api"])
    finally:
        end()


async def test_two_authorizations_are_none(guarded: World) -> None:
    client, _ = guarded
    headers = [("authorization", "Bearer tl_viewer"), ("authorization", "Bearer tl_operator")]
    assert (await client.get("/v1/things/a", headers=headers)).status_code == 401


async def test_that_nobody_can_tell_who_asks_is_503(guarded: World) -> None:
    client, _ = guarded
    answer = await client.get("/v1/things/a", headers={"authorization": "Bearer tl_down"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_a_tenants_caller_becomes_a_tenant_token_and_an_operators_is_handed_on(guarded: World) -> None:
    client, backend = guarded
    body = {"displayName": "x"}
    for token in ("tl_viewer", "tl_operator"):
        answer = await client.patch(
            "/v1/things/a", json=body, headers={"authorization": f"bearer {token}", "x-request-id": "r-1.x_Y"}
        )
        # things/a is of no tenant: the viewer is told so here, the operator too; neither reaches the service
        assert violation(answer)[0] == "thing.name"
    await client.get("/v1/things", headers={"authorization": "Bearer tl_operator"})
    assert backend.asked[-1][2]["authorization"] == "Bearer tl_operator"
    for token, kind, subject in (("tl_viewer", CallerKind.API_KEY, "k1"), ("tl_user", CallerKind.USER, "u1")):
        shown = await Credentials(Keys(), SIGNER)(f"Bearer {token}".encode())
        caller = SIGNER.verify(shown.authorization.removeprefix("Bearer "))
        assert caller == shown.caller == Caller(kind, subject, "acme", Role.VIEWER)


async def test_the_token_that_envoy_shows_for_a_key_is_as_good_as_the_key(guarded: World) -> None:
    caller = Caller(CallerKind.API_KEY, "k1", "acme", Role.VIEWER)
    minted = TokenSigner(KEY_FOLDER, "tenant").tenant_token(caller)
    shown = await Credentials(Keys(), SIGNER)(f"Bearer {minted}".encode())
    assert shown.caller == caller
    assert SIGNER.verify(shown.authorization.removeprefix("Bearer ")) == caller
    forged = minted[:-8] + ("A" * 8)
    for token in (forged, TokenSigner(KEY_FOLDER, "tenant").service_token("acme")):
        with pytest.raises(Unauthenticated):
            await Credentials(Keys(), SIGNER)(f"Bearer {token}".encode())


async def test_who_may_not_is_told_before_the_body_is_read(guarded: World) -> None:
    client, backend = guarded
    headers = {"authorization": "Bearer tl_viewer"}
    denied = await client.delete("/v1/things/a", headers=headers)
    assert (denied.status_code, denied.json()["error"]["details"][0]["reason"]) == (403, "ROLE_TOO_LOW")
    confined = await client.get("/v1/things", headers=headers)
    assert (confined.status_code, confined.json()["error"]["details"][0]["reason"]) == (
        403,
        "CALLER_CONFINED",
    )
    assert not backend.asked


# How much they may ask


class Rated:
    """A world whose tenants may ask for 2 a second, 4 at once; its clock is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.rates = Buckets(2.0, 4.0, lambda: self.now)

    async def statuses(self, client: httpx.AsyncClient, token: str, times: int) -> list[int]:
        headers = {"authorization": f"Bearer {token}"}
        return [(await client.get("/v1/things/a", headers=headers)).status_code for _ in range(times)]


@pytest.fixture
async def rated() -> AsyncIterator[tuple[Rated, World]]:
    rated = Rated()
    credentials = Credentials(Keys(), SIGNER)
    async with echo.transcoding([echo.echo_service()], credentials, rates=rated.rates) as pair:
        yield rated, pair


async def test_the_keys_of_a_tenant_may_ask_so_often_together_and_no_rpc_is_made_beyond(
    rated: tuple[Rated, World],
) -> None:
    world, (client, backend) = rated
    assert await world.statuses(client, "tl_viewer", 3) == [200] * 3
    assert await world.statuses(client, "tl_member", 2) == [200, 429]
    refused = await client.get("/v1/things/a", headers={"authorization": "Bearer tl_viewer"})
    error = refused.json()["error"]
    assert (refused.status_code, error["status"]) == (429, "RESOURCE_EXHAUSTED")
    assert error["details"][0]["reason"] == "API_RATE"
    assert refused.headers["retry-after"] == "1"
    assert len(backend.asked) == 4
    assert await world.statuses(client, "tl_other", 1) == [200], "another tenant has its own"
    assert await world.statuses(client, "tl_operator", 9) == [200] * 9, "operators are not held to it"
    world.now = 0.5
    assert await world.statuses(client, "tl_viewer", 2) == [200, 429], "a token has come back"


async def test_what_is_refused_before_there_is_an_rpc_is_counted_too(rated: tuple[Rated, World]) -> None:
    _, (client, _) = rated
    headers = {"authorization": "Bearer tl_viewer"}
    bad = [await client.get("/v1/things/a?nothing=1", headers=headers) for _ in range(5)]
    assert [answer.status_code for answer in bad] == [400] * 4 + [429]


async def test_an_answer_counts_as_one_more_request_for_every_64_kib(rated: tuple[Rated, World]) -> None:
    world, (client, backend) = rated
    backend.answers[echo.ECHO + "GetThing"] = echo.message("Thing", display_name="x" * (10 * 65536))
    assert await world.statuses(client, "tl_viewer", 2) == [200, 429]
    refused = await client.get("/v1/things/a", headers={"authorization": "Bearer tl_viewer"})
    # 4 at once, less 1 and 10, is -7: the 8 that are missing come within 4 seconds.
    assert refused.headers["retry-after"] == "4"
    backend.answers.clear()
    world.now = 3.9
    assert await world.statuses(client, "tl_viewer", 1) == [429]
    world.now = 4.0
    assert await world.statuses(client, "tl_viewer", 2) == [200, 429]


# Paths, methods, headers


async def test_an_unknown_path_is_404_and_needs_no_key(guarded: World) -> None:
    client, _ = guarded
    answer = await client.get("/v1/nothing")
    assert (answer.status_code, answer.json()["error"]["status"]) == (404, "NOT_FOUND")


async def test_a_path_that_ends_with_a_slash_is_told_what_is_wrong_with_it(world: World) -> None:
    client, _ = world
    for path in ("/v1/things/", "/v1/boxes/b/things/"):
        answer = await client.get(path)
        assert answer.status_code == 404
        assert "paths do not end with a /" in answer.json()["error"]["message"]
    assert "/" not in (await client.get("/v1/nothing")).json()["error"]["message"]


async def test_a_wrong_parameter_is_told_which_there_are(world: World) -> None:
    client, _ = world
    named, said = violation(await client.get("/v1/things/a?nope=1"))
    assert (named, said.partition(": ")[0]) == ("nope", "is not a parameter; allowed")
    _, said = violation(await client.get("/v1/things?page_sise=1"))
    assert said.startswith("is not a parameter; did you mean pageSize?; allowed: pageSize, big, ")


@pytest.mark.parametrize(
    ("parameter", "text", "allowed"),
    [
        ("page_size", "abc", "must be an integer from 0 to 500"),
        ("pageSize", "1.5", "must be an integer from 0 to 500"),
        ("big", "1e3", "must be an integer from -9223372036854775808 to 9223372036854775807"),
        ("flag", "yes", "must be true or false"),
        ("ratio", "half", "must be a number"),
        ("kind", "OVAL", "must be one of KIND_ROUND, KIND_SQUARE"),
        ("after", "yesterday", "must be a time such as 2026-11-01T00:00:00Z"),
        ("within", "90", "must be seconds such as 90s or 1.5s"),
        ("blob", "*", "must be base64"),
        ("sure", "1", "must be true or false"),
    ],
)
async def test_a_wrongly_typed_parameter_is_told_its_value_and_what_is_allowed(
    world: World, parameter: str, text: str, allowed: str
) -> None:
    client, backend = world
    named, said = violation(await client.get("/v1/things", params={parameter: text}))
    assert named == parameter
    assert said.startswith(allowed)
    assert said.endswith(f"; it is {text!r}")
    assert not backend.asked


async def test_a_wrong_method_is_405_and_says_which_are_right(world: World) -> None:
    client, _ = world
    answer = await client.put("/v1/things/a")
    assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE, GET, PATCH")


async def test_a_path_that_is_not_utf8_is_400_and_a_long_url_414(world: World) -> None:
    client, _ = world
    assert (await client.get("/v1/things/%FF")).status_code == 400
    assert (await client.get("/v1/things/a?x=" + "y" * 20_000)).status_code == 414


async def test_a_request_id_is_handed_on_and_returned(world: World) -> None:
    client, backend = world
    answer = await client.get("/v1/things/a", headers={"x-request-id": "r-1.x_Y"})
    assert answer.headers["x-request-id"] == backend.asked[-1][2]["x-request-id"] == "r-1.x_Y"


@pytest.mark.parametrize("bad", ["", "a b", "x" * 65, "a\u00e9"])
async def test_a_request_id_that_is_none_is_replaced(world: World, bad: str) -> None:
    client, backend = world
    answers = [
        await client.get(path, headers={"x-request-id": bad.encode()}) for path in ("/v1/things/a", "/v1/no")
    ]
    made = [answer.headers["x-request-id"] for answer in answers]
    assert bad not in made
    assert len(set(made)) == 2
    assert all(len(one) == 16 for one in made)
    assert backend.asked[0][2]["x-request-id"] == made[0]


# Bodies


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        (b'{\n "displayName": oops}', "body", "line 2, column 17"),
        (b"\xff{}", "body", "not UTF-8 at byte 0"),
        (b"[" * 5000, "body", ""),
        (b'{"sizeBytes": ' + b"9" * 800 + b"}", "thing.sizeBytes", ""),
        (b'{"ratio": NaN}', "body", "NaN"),
        (b'{"nope": 1}', "thing.nope", "is not a field"),
        (b'{"inner": {"inner": {"nope": 1}}}', "thing.inner.inner.nope", "is not a field"),
        (b'{"parts": [{}, {"nope": 1}]}', "thing.parts[1].nope", "is not a field"),
        (b'{"parts": {}}', "thing.parts", "JSON array"),
        (b'{"tags": "a"}', "thing.tags", "JSON array"),
        (b'{"inner": []}', "thing.inner", "JSON object"),
        (b'{"nope": 1}', "thing.nope", "; allowed: "),
        (b'{"displayNme": "a"}', "thing.displayNme", "is not a field; did you mean displayName?; allowed: "),
        (b'{"requestId": "a"}', "thing.requestId", "it is a query parameter: ?requestId=..."),
        (b'{"parent": "boxes/b"}', "thing.parent", "it is set by the path"),
        (b'{"displayName": 5}', "thing.displayName", "must be a string"),
        (b'{"displayName": {}}', "thing.displayName", "must be a string"),
        (b'{"inner": {"displayName": true}}', "thing.inner.displayName", "must be a string"),
        (b'{"kind": "KIND_OVAL"}', "thing.kind", "KIND_OVAL"),
        (b'{"displayName": "\\ud800"}', "thing.displayName", "surrogate"),
        (b'{"displayName": "a", "display_name": "b"}', "thing.display_name", "both of its names"),
        (b'{"createTime": "yesterday"}', "thing.createTime", "must be a time such as 2026-"),
        (b'{"createTime": 5}', "thing.createTime", "must be a time such as 2026-"),
        (b'{"etag": "a", "etag": "b"}', "body", "'etag' occurs twice"),
        (b'"text"', "thing", "JSON object"),
        (b"", "body", "is required"),
        (b"  ", "body", "is required"),
        (b"null", "body", "must not be null"),
        (b'{"ratio": "1.5"}', "thing.ratio", "must be a number"),
        (b'{"ratio": true}', "thing.ratio", "must be a number"),
        (b'{"kind": "1"}', "thing.kind", "is not one of"),
        (b'{"kind": false}', "thing.kind", "is not one of"),
    ],
)
async def test_a_wrong_body_is_400_and_says_where(world: World, body: bytes, field: str, said: str) -> None:
    client, backend = world
    answer = await client.post("/v1/boxes/b/things", content=body, headers=JSON)
    named, description = violation(answer)
    assert named == field
    assert said in description
    assert not backend.asked


@pytest.mark.parametrize(("depth", "status"), [(60, 200), (70, 400)])
async def test_messages_within_messages_end_somewhere(world: World, depth: int, status: int) -> None:
    client, _ = world
    body = b'{"inner":' * depth + b"{}" + b"}" * depth
    answer = await client.post("/v1/boxes/b/things", content=body, headers=JSON)
    assert answer.status_code == status


async def test_json_within_json_ends_somewhere(world: World) -> None:
    client, _ = world
    body = b'{"facts":' + b'{"a":' * 300 + b"1" + b"}" * 301
    named, said = violation(await client.post("/v1/boxes/b/things", content=body, headers=JSON))
    assert (named, said) == ("body", "must be nested at most 64 deep")


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_too_large_is_413(world: World, chunked: bool) -> None:
    client, backend = world

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b" " * 200

    content: Any = chunks() if chunked else b" " * 5001
    answer = await client.post("/v1/boxes/b/things", content=content, headers=JSON)
    assert answer.status_code == 413
    assert not backend.asked


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "text/plain"},
        {"content-type": "application/json; charset=latin-1"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
async def test_a_body_of_another_type_is_415(world: World, headers: dict[str, str]) -> None:
    client, _ = world
    answer = await client.post("/v1/boxes/b/things", content=b"{}", headers=headers)
    assert answer.status_code == 415


@pytest.mark.parametrize("kind", ["application/json", 'Application/JSON; charset="UTF-8"', None])
async def test_json_is_json(world: World, kind: str | None) -> None:
    client, backend = world
    answer = await client.post(
        "/v1/boxes/b/things", content=b'{"displayName":"x"}', headers={"content-type": kind} if kind else {}
    )
    assert answer.status_code == 200, answer.text
    assert backend.last()[1].thing.display_name == "x"


async def test_a_custom_method_without_its_body_does_nothing(world: World) -> None:
    client, backend = world
    for headers in ({}, JSON):
        answer = await client.post("/v1/things/a:poke", headers=headers)
        assert violation(answer)[0] == "body"
    assert not backend.asked
    assert (await client.post("/v1/things/a:poke", json={})).status_code == 200


async def test_a_method_without_a_body_takes_none(world: World) -> None:
    client, _ = world
    answer = await client.request("DELETE", "/v1/things/a", json={"etag": "x"})
    assert violation(answer)[0] == "body"


# Update masks


@pytest.mark.parametrize(
    ("query", "body", "mask"),
    [
        ("", {"displayName": "", "tags": []}, ["display_name", "tags"]),
        ("", {"display_name": "x", "inner": {"flag": True}}, ["display_name", "inner"]),
        ("", {"name": "things/a", "etag": "e", "createTime": None, "maker": "m", "flag": False}, ["flag"]),
        ("", {}, []),
        ("?updateMask=flag", {"displayName": "x"}, ["flag"]),
        ("?update_mask=displayName,inner.displayName", {}, ["display_name", "inner.display_name"]),
        ("?updateMask=*", {"displayName": "x"}, ["*"]),
    ],
)
async def test_a_patch_changes_what_its_mask_says_or_its_body_states(
    world: World, query: str, body: dict[str, Any], mask: list[str]
) -> None:
    client, backend = world
    answer = await client.patch("/v1/things/a" + query, json=body)
    assert answer.status_code == 200, answer.text
    _, request = backend.last()
    assert list(request.update_mask.paths) == mask
    assert request.thing.name == "things/a"


@pytest.mark.parametrize(
    ("method", "url", "body", "field"),
    [
        ("GET", "/v1/things?page_sise=5", None, "page_sise"),
        ("GET", "/v1/things?like.nope=5", None, "like.nope"),
        ("GET", "/v1/things/a?name=things/b", None, "name"),
        ("PATCH", "/v1/things/a?thing.flag=true", {}, "thing.flag"),
        ("PATCH", "/v1/things/a?updateMask=a&updateMask=b", {}, "updateMask"),
        ("POST", "/v1/things/a:poke?times=1", {}, "times"),
        ("GET", "/v1/things?" + "&".join(f"tags={i}" for i in range(300)), None, "query"),
        ("GET", "/v1/things?kind=KIND_OVAL", None, "kind"),
        ("GET", "/v1/things?one=a&two=1", None, "two"),
    ],
)
async def test_a_wrong_parameter_is_400_and_named(
    world: World, method: str, url: str, body: Any, field: str
) -> None:
    client, backend = world
    answer = await client.request(method, url, **({"json": body} if body is not None else {}))
    assert violation(answer)[0] == field
    assert not backend.asked


# Answers


async def test_empty_fields_are_written_but_for_secrets(world: World) -> None:
    client, backend = world
    backend.answers[echo.ECHO + "GetThing"] = echo.message("Thing", parts=[{"secret": "once"}, {}])
    shown = (await client.get("/v1/things/a")).json()
    assert (shown["displayName"], shown["kind"], shown["tags"]) == ("", "KIND_UNSPECIFIED", [])
    assert "secret" not in shown
    assert "createTime" not in shown
    assert [part.get("secret") for part in shown["parts"]] == ["once", None]


async def test_a_response_body_is_that_field_alone(world: World) -> None:
    client, backend = world
    backend.answers[f"/{echo.PACKAGE}.MoreService/GetTags"] = echo.message("Thing", tags=["a", "b"])
    assert (await client.get("/v1/things/a/tags")).json() == ["a", "b"]
    things = [echo.message("Thing", tags=["a"]), echo.message("Thing")]
    backend.answers[f"/{echo.PACKAGE}.MoreService/WatchTags"] = things
    assert (await client.get("/v1/things/a/tags:watch")).text == '["a"]\n[]\n'


async def test_a_large_answer_is_written_in_a_thread(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    client, backend = world
    threads: list[bool] = []
    original = writer.json_format.MessageToDict

    def spy(*args: Any, **kwargs: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return original(*args, **kwargs)

    monkeypatch.setattr(writer.json_format, "MessageToDict", spy)
    for size in (10, 100_000):
        backend.answers[echo.ECHO + "GetThing"] = echo.message("Thing", display_name="x" * size)
        assert (await client.get("/v1/things/a")).json()["displayName"] == "x" * size
    assert threads == [True, False]


async def test_what_nobody_expected_is_500_and_shows_nothing(guarded: World) -> None:
    client, _ = guarded
    answer = await client.get("/v1/things/a", headers={"authorization": "Bearer tl_bug"})
    assert (answer.status_code, answer.json()["error"]["message"]) == (500, "internal error")
    assert "password" not in answer.text


async def test_a_client_that_hangs_up_gets_no_answer_and_calls_nobody() -> None:
    app = Transcoder(router_of(bindings_of([echo.echo_service()])), _no_backend, echo.anybody, rules={})
    sent = await _run(
        app, [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    )
    assert sent == []


async def test_a_body_that_does_not_arrive_is_408() -> None:
    app = Transcoder(
        router_of(bindings_of([echo.echo_service()])), _no_backend, echo.anybody, rules={}, call_seconds=0.01
    )
    sent = await _run(app, [{"type": "http.request", "body": b"{", "more_body": True}])
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["error"]["status"] == "DEADLINE_EXCEEDED"


def _no_backend(package: str) -> Any:
    raise AssertionError(f"{package} was called")


async def _run(app: Transcoder, messages: list[dict[str, Any]]) -> list[Any]:
    """What the application sends for a POST whose client sends these, and then nothing."""
    sent: list[Any] = []

    async def receive() -> Any:
        if messages:
            return messages.pop(0)
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/v1/boxes/b/things", "raw_path": b"/v1/boxes/b/things",
        "query_string": b"", "headers": [(b"content-length", b"10")],
    }  # fmt: skip
    await app(scope, receive, send)
    return sent


# Rules


@pytest.mark.parametrize(
    ("rpc", "said"),
    [
        ('rpc R(stream M) returns (M) {option (google.api.http) = {get: "/v1/x"};}', "a stream of requests"),
        ('rpc R(M) returns (stream E) {option (google.api.http) = {get: "/v1/x"};}', "has error"),
        ('rpc R(M) returns (M) {option (google.api.http) = {get: "/v1/{nope}"};}', "no field nope"),
        ('rpc R(M) returns (M) {option (google.api.http) = {get: "/v1/{many}"};}', "not a single scalar"),
        ('rpc R(M) returns (M) {option (google.api.http) = {get: "/v1/{m}"};}', "not a single scalar"),
        ('rpc R(M) returns (M) {option (google.api.http) = {get: "/v1/{m"};}', "not closed"),
        ('rpc R(M) returns (M) {option (google.api.http) = {post: "/v1" body: "no"};}', "no field no"),
        (
            'rpc R(M) returns (M) {option (google.api.http) = {get: "/v1" response_body: "no"};}',
            "no field no",
        ),
        ('rpc R(M) returns (M) {option (google.api.http) = {body: "*"};}', "names no method"),
        (
            'rpc R(M) returns (M) {option (google.api.http) = {get: "/v1/a"}; }'
            'rpc S(M) returns (M) {option (google.api.http) = {get: "/v1/b" additional_bindings {get: "/v1/a"}};}',
            "GET /v1/a and /v1/a take the same requests",
        ),
    ],
)
def test_a_rule_that_cannot_be_served_is_an_error_at_the_start(rpc: str, said: str, tmp_path: Path) -> None:
    text = 'syntax = "proto3"; package bad.v1; import "google/api/annotations.proto";'
    text += (
        "message M {string name = 1; repeated string many = 2; M m = 3;} message E {M error = 1;} service BadService {"
        + rpc
        + "}"
    )
    (tmp_path / "bad.proto").write_text(text)
    pool = echo.pool_of(echo.compiled(tmp_path / "bad.proto"))
    with pytest.raises((RuleError, RouteConflict), match=said) as raised:
        router_of(bindings_of([pool.FindServiceByName("bad.v1.BadService")]))
    assert "R" in str(raised.value)


# Lists of nobody


TENANTS = "/trunkline.tenant.v1.TenantService/"
CALLS = "/trunkline.tenant.v1.CallService/"


@pytest.fixture
async def tenants() -> AsyncIterator[World]:
    services = [tenant_service_pb2.DESCRIPTOR.services_by_name["TenantService"],
                call_service_pb2.DESCRIPTOR.services_by_name["CallService"],
                event_service_pb2.DESCRIPTOR.services_by_name["EventService"]]  # fmt: skip
    async with echo.transcoding(services, Credentials(Keys(), SIGNER), rules=access.TABLE) as pair:
        yield pair


async def test_an_operators_list_of_no_tenant_is_not_found(tenants: World) -> None:
    client, backend = tenants
    shown = {"authorization": "Bearer tl_operator"}
    backend.answers[TENANTS + "GetTenant"] = NotFound("tenants/nobody")
    answer = await client.get("/v1/tenants/nobody/calls", headers=shown)
    assert answer.status_code == 404
    assert (await client.get("/v1/tenants/nobody", headers=shown)).json()["error"]["message"] == (
        answer.json()["error"]["message"]
    )
    asked = [(method, getattr(request, "name", "")) for method, request, _ in backend.asked]
    assert (TENANTS + "GetTenant", "tenants/nobody") in asked


async def test_an_operators_list_of_a_deleted_tenant_is_not_found(tenants: World) -> None:
    client, backend = tenants
    deleted = tenant_pb2.Tenant(name="tenants/gone", state=tenant_pb2.TENANT_STATE_DELETED)
    backend.answers[TENANTS + "GetTenant"] = deleted
    shown = {"authorization": "Bearer tl_operator"}
    answer = await client.get("/v1/tenants/gone/calls", headers=shown)
    assert (answer.status_code, answer.json()["error"]["status"]) == (404, "NOT_FOUND")
    assert "tenants/gone" in answer.json()["error"]["message"]
    assert (await client.get("/v1/tenants/gone", headers=shown)).status_code == 200


@pytest.mark.parametrize("what", ["events:replay", "events:purge", "rejections:accept"])
async def test_an_operator_cannot_work_on_a_list_of_no_tenant(tenants: World, what: str) -> None:
    client, backend = tenants
    backend.answers[TENANTS + "GetTenant"] = NotFound("tenants/nobody")
    shown = {"authorization": "Bearer tl_operator"}
    answer = await client.post(f"/v1/tenants/nobody/{what}", headers=shown, json={"filter": "source = s1"})
    assert (answer.status_code, answer.json()["error"]["status"]) == (404, "NOT_FOUND")
    assert [method for method, _, _ in backend.asked] == [TENANTS + "GetTenant"], "nothing was begun"


async def test_a_list_that_is_empty_or_a_tenants_own_is_what_it_is(tenants: World) -> None:
    client, backend = tenants
    answer = await client.get("/v1/tenants/acme/calls", headers={"authorization": "Bearer tl_operator"})
    assert (answer.status_code, answer.json()["calls"]) == (200, [])
    backend.asked.clear()
    await client.get("/v1/tenants/acme/calls", headers={"authorization": "Bearer tl_viewer"})
    backend.answers[CALLS + "ListCalls"] = call_service_pb2.ListCallsResponse(next_page_token="x")
    await client.get("/v1/tenants/acme/calls", headers={"authorization": "Bearer tl_operator"})
    assert [method for method, _, _ in backend.asked] == [CALLS + "ListCalls"] * 2, "nobody else is asked"


async def test_every_list_of_a_tenants_names_its_parent() -> None:
    """What tells a list: its name, and the field that says whose it is."""
    for name, rule in access.TABLE.items():
        if name.rpartition("/")[2].startswith("List") and rule.resource:
            googles = name.startswith("/google.longrunning.")
            assert rule.resource == ("name" if googles else "parent"), name
