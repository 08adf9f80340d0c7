"""Who is asking is proved, never claimed; a caller reaches its own tenant only, and what its kind and role may."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import grpc.aio
import jwt
import pytest
import structlog
from trunkline.tenant.v1 import call_pb2, call_service_pb2
from trunkline_runtime.config import ConfigError
from trunkline_runtime.errors import NotFound, TrunklineError, Unauthenticated, Unavailable, from_rpc_error
from trunkline_runtime.identity.callers import ANONYMOUS, OPERATOR, Caller, CallerKind, Role, current_caller
from trunkline_runtime.identity.tokens import LIFETIME_SECONDS, TokenSigner, key_bytes
from trunkline_runtime.rpc.authenticator import CachingAuthenticator, TenantServiceAuthenticator
from trunkline_runtime.rpc.channels import Channels, acting_for, unconfined

KEY = "0f" * 32
MINE = "tenants/acme/calls/abc"
C = grpc.StatusCode


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_service_token_says_the_service_and_its_tenant() -> None:
    signer = TokenSigner(KEY, "gateway")
    assert signer.verify(signer.service_token()) == Caller(CallerKind.SERVICE, service="gateway")
    assert signer.verify(signer.service_token("acme")).tenant == "acme"


def test_a_tenant_token_is_an_api_key_of_that_tenant_and_role() -> None:
    signer = TokenSigner(KEY, "gateway")
    caller = TokenSigner(KEY, "audio").verify(signer.tenant_token("acme", Role.MEMBER, key_id="k1"))
    assert caller == Caller(CallerKind.API_KEY, tenant="acme", role=Role.MEMBER, key_id="k1")


def test_tokens_are_kept_until_they_are_near_their_end() -> None:
    clock = Clock()
    signer = TokenSigner(KEY, "gateway", clock=clock)
    first = signer.service_token()
    clock.now += LIFETIME_SECONDS / 2
    assert signer.service_token() == first
    clock.now += LIFETIME_SECONDS / 2 - 30
    assert signer.service_token() != first
    assert signer.verify(signer.service_token()).service == "gateway"


def test_an_expired_token_is_refused_even_where_it_was_seen_before() -> None:
    clock = Clock()
    signer = TokenSigner(KEY, "gateway", clock=clock)
    token = signer.service_token()
    assert signer.verify(token).service == "gateway"
    clock.now += LIFETIME_SECONDS + 31
    with pytest.raises(Unauthenticated) as error:
        signer.verify(token)
    assert error.value.reason == "TOKEN_EXPIRED"


def forged(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    claims = {
        "kind": "service",
        "sub": "gateway",
        "tenant": "",
        "iss": "trunkline",
        "iat": now,
        "exp": now + 100,
        **changes,
    }
    return {k: v for k, v in claims.items() if v is not None}


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x.y.z",
        jwt.encode(forged(), b"another key of thirty-two bytes!!", algorithm="HS256"),
        jwt.encode(forged(), None, algorithm="none"),
        jwt.encode(forged(), bytes.fromhex(KEY) * 2, algorithm="HS512"),
        jwt.encode(forged(iss="somebody"), bytes.fromhex(KEY), algorithm="HS256"),
        jwt.encode(forged(kind="operator"), bytes.fromhex(KEY), algorithm="HS256"),
        jwt.encode(forged(kind="tenant"), bytes.fromhex(KEY), algorithm="HS256"),
        jwt.encode(forged(kind="tenant", tenant="acme", role="OWNER"), bytes.fromhex(KEY), algorithm="HS256"),
        jwt.encode(forged(exp=None), bytes.fromhex(KEY), algorithm="HS256"),
        jwt.encode(forged(exp=1), bytes.fromhex(KEY), algorithm="HS256"),
    ],
    ids=[
        "empty",
        "garbage",
        "other-key",
        "none",
        "hs512",
        "issuer",
        "kind",
        "no-tenant",
        "role",
        "no-exp",
        "expired",
    ],
)
def test_a_token_that_is_not_ours_is_refused(token: str) -> None:
    with pytest.raises(Unauthenticated):
        TokenSigner(KEY, "tenant").verify(token)


def test_a_changed_token_is_refused() -> None:
    signer = TokenSigner(KEY, "gateway")
    head, body, signature = signer.service_token("acme").split(".")
    other = signer.service_token("other").split(".")[1]
    with pytest.raises(Unauthenticated):
        signer.verify(".".join([head, other, signature]))
    assert signer.verify(".".join([head, body, signature])).tenant == "acme"


def test_suite_keys_are_long_enough_and_readable() -> None:
    assert key_bytes("ab" * 32) == b"\xab" * 32
    assert key_bytes("q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s") == b"\xab" * 32
    for bad in ("", "ab" * 31, "not a key!", "short"):
        with pytest.raises(ConfigError, match="suite key"):
            TokenSigner(bad, "gateway")


# What a server makes of callers


async def refused(suite: Any, method: str, name: str = MINE, **metadata: str) -> TrunklineError:
    """Call with exactly this metadata, from a channel that adds nothing, and return the error."""
    async with grpc.aio.insecure_channel(suite.server.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await suite.method(method, channel)(
                call_service_pb2.GetCallRequest(name=name), metadata=tuple(metadata.items()), timeout=5
            )
        return from_rpc_error(error.value)


async def allowed(suite: Any, method: str, authorization: str, name: str = MINE) -> str:
    async with grpc.aio.insecure_channel(suite.server.address) as channel:
        answer = await suite.method(method, channel)(
            call_service_pb2.GetCallRequest(name=name),
            metadata=(("authorization", authorization),),
            timeout=5,
        )
        return answer.name


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({}, "CREDENTIALS_MISSING"),
        ({"x-tenant": "acme", "x-service": "gateway", "x-operator": "true"}, "CREDENTIALS_MISSING"),
        ({"authorization": "tl_admin"}, "CREDENTIALS_MALFORMED"),
        ({"authorization": "Basic tl_admin"}, "CREDENTIALS_MALFORMED"),
        ({"authorization": "Bearer "}, "CREDENTIALS_MALFORMED"),
        ({"authorization": "Bearer tl_nobody"}, "CREDENTIALS_INVALID"),
        ({"authorization": "Bearer eyJ.e30.x"}, "TOKEN_INVALID"),
    ],
)
async def test_bare_metadata_is_never_trusted(suite: Any, metadata: dict[str, str], reason: str) -> None:
    error = await refused(suite, "One", **metadata)
    assert (error.code, error.reason) == (C.UNAUTHENTICATED, reason)


async def test_a_key_reads_its_own_tenant(suite: Any) -> None:
    assert await allowed(suite, "One", "Bearer tl_viewer") == MINE
    assert await allowed(suite, "One", "bearer tl_viewer") == MINE
    assert await allowed(suite, "Admin", "Bearer tl_admin") == MINE


@pytest.mark.parametrize("method", ["One", "Many", "Written"])
async def test_a_foreign_name_looks_as_if_it_were_not_there(suite: Any, method: str) -> None:
    with structlog.testing.capture_logs() as logs:
        async with grpc.aio.insecure_channel(suite.server.address) as channel:
            call = suite.method(method, channel)(
                call_service_pb2.GetCallRequest(name=MINE),
                metadata=(("authorization", "Bearer tl_other"),),
                timeout=5,
            )
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await (call if method == "One" else call.read())
    error = from_rpc_error(raised.value)
    there_is_none = NotFound(MINE)
    assert (type(error), error.message, error.reason) == (
        NotFound,
        there_is_none.message,
        there_is_none.reason,
    )
    denied = [line for line in logs if line["event"] == "cross_tenant_denied"]
    assert [(d["resource"], d["caller_tenant"]) for d in denied] == [(MINE, "other")]


async def test_a_foreign_name_in_a_stream_of_requests_is_refused_in_either_style(suite: Any) -> None:
    async def read_by_context(_requests: Any, context: Any) -> Any:
        names = []
        while (message := await context.read()) is not grpc.aio.EOF:
            names.append(message.name)
        return call_pb2.Call(name=",".join(names))

    async def call() -> str:
        async with grpc.aio.insecure_channel(suite.server.address) as channel:
            requests = [call_service_pb2.GetCallRequest(name=n) for n in (MINE, "tenants/other/calls/abc")]
            answer = await suite.method("Gather", channel)(
                iter(requests), metadata=(("authorization", "Bearer tl_viewer"),), timeout=5
            )
            return answer.name

    for handler in (None, read_by_context):
        if handler is not None:
            suite.handlers["Gather"] = handler
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call()
        assert raised.value.code() is C.NOT_FOUND


@pytest.mark.parametrize(
    ("who", "method", "name", "code", "reason"),
    [
        ("tl_viewer", "Admin", MINE, C.PERMISSION_DENIED, "ROLE_TOO_LOW"),
        ("tl_admin", "Internal", MINE, C.PERMISSION_DENIED, "CALLER_NOT_ALLOWED"),
        ("tl_operator", "Internal", MINE, C.PERMISSION_DENIED, "CALLER_NOT_ALLOWED"),
        ("tl_operator", "Unlisted", MINE, C.PERMISSION_DENIED, "METHOD_NOT_LISTED"),
        ("tl_viewer", "One", "tenants/-/calls/abc", C.NOT_FOUND, "NOT_FOUND"),
        ("tl_viewer", "One", "whatever", C.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
        ("tl_viewer", "One", "", C.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
    ],
)
async def test_what_is_not_allowed(
    suite: Any, who: str, method: str, name: str, code: grpc.StatusCode, reason: str
) -> None:
    error = await refused(suite, method, name, authorization=f"Bearer {who}")
    assert (error.code, error.reason) == (code, reason)


async def test_an_operator_reaches_every_tenant(suite: Any) -> None:
    assert (
        await allowed(suite, "Admin", "Bearer tl_operator", "tenants/other/calls/abc")
        == "tenants/other/calls/abc"
    )


async def test_services_are_told_apart(suite: Any) -> None:
    gateway, audio = suite.signer("gateway"), suite.signer("audio")
    assert await allowed(suite, "Internal", f"Bearer {gateway.service_token()}") == MINE
    error = await refused(suite, "Internal", authorization=f"Bearer {audio.service_token()}")
    assert error.reason == "CALLER_NOT_ALLOWED"


async def test_a_service_that_is_confined_to_a_tenant_is_held_to_it(suite: Any) -> None:
    token = f"Bearer {suite.signer().service_token('acme')}"
    assert await allowed(suite, "One", token) == MINE
    assert (await refused(suite, "One", "tenants/other/calls/abc", authorization=token)).code is C.NOT_FOUND
    assert (await refused(suite, "Internal", authorization=token)).reason == "CALLER_CONFINED"


async def test_the_handler_knows_its_caller(suite: Any) -> None:
    seen: list[Caller] = []

    async def note(_request: Any, _context: Any) -> Any:
        seen.append(current_caller())
        return call_pb2.Call()

    suite.handlers["One"] = note
    await suite.call()
    with acting_for("acme"):
        await suite.call()
        with unconfined():
            await suite.call()
    await suite.call(metadata=(("authorization", "Bearer tl_operator"),))
    gateway = Caller(CallerKind.SERVICE, service="gateway")
    assert seen == [
        gateway,
        Caller(CallerKind.SERVICE, service="gateway", tenant="acme"),
        gateway,
        OPERATOR,
    ]
    assert current_caller() == ANONYMOUS


# The authenticator that asks the tenant service


class Asked:
    """Counts questions; answers when it is told to."""

    def __init__(self) -> None:
        self.count = 0
        self.answer: Caller | Exception = OPERATOR
        self.ready = asyncio.Event()
        self.ready.set()

    async def authenticate(self, token: str) -> Caller:
        self.count += 1
        await self.ready.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_answers_are_kept_for_less_than_5_seconds_and_refusals_for_5() -> None:
    clock, asked = Clock(), Asked()
    authenticator = CachingAuthenticator(asked, clock=clock)
    for _ in range(3):
        assert await authenticator.authenticate("tl_a") is OPERATOR
    assert asked.count == 1
    clock.now += 4
    asked.answer = Unauthenticated("no", reason="CREDENTIALS_INVALID")
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await authenticator.authenticate("tl_a")
    assert asked.count == 2
    clock.now += 5
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate("tl_a")
    assert asked.count == 3


async def test_an_answer_is_as_old_as_its_question() -> None:
    """A key that is revoked while the answer is on its way does not work for longer because of that."""
    clock, asked = Clock(), Asked()
    authenticator = CachingAuthenticator(asked, clock=clock)
    asked.ready.clear()
    slow = asyncio.create_task(authenticator.authenticate("tl_a"))
    while asked.count < 1:
        await asyncio.sleep(0)
    clock.now += 3
    asked.ready.set()
    await slow
    clock.now += 1.5
    asked.answer = Unauthenticated("revoked", reason="CREDENTIALS_INVALID")
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate("tl_a")


async def test_what_cannot_be_told_is_asked_again_at_once() -> None:
    asked = Asked()
    asked.answer = Unavailable("down")
    authenticator = CachingAuthenticator(asked, clock=Clock())
    with pytest.raises(Unavailable):
        await authenticator.authenticate("tl_a")
    asked.answer = OPERATOR
    assert await authenticator.authenticate("tl_a") is OPERATOR


async def test_of_many_with_the_same_token_one_asks_and_no_other_is_harmed_by_a_caller_that_leaves() -> None:
    asked = Asked()
    asked.ready.clear()
    authenticator = CachingAuthenticator(asked, clock=Clock())
    tasks = [asyncio.create_task(authenticator.authenticate("tl_a")) for _ in range(10)]
    other = asyncio.create_task(authenticator.authenticate("tl_b"))
    while asked.count < 2:
        await asyncio.sleep(0)
    tasks[0].cancel()
    asked.ready.set()
    assert await asyncio.gather(*tasks[1:], other) == [OPERATOR] * 10
    assert asked.count == 2
    assert tasks[0].cancelled()


class FakeApiKeys:
    """The tenant service's ApiKeyService, as far as it is asked here."""

    def __init__(self) -> None:
        self.callers: list[Caller] = []

    async def Authenticate(self, request: Any, _context: Any) -> Any:
        from trunkline.tenant.v1 import api_key_pb2, api_key_service_pb2

        self.callers.append(current_caller())
        if request.token == "tl_operator":
            return api_key_service_pb2.AuthenticateResponse(operator=True)
        if request.token == "tl_key_member":
            return api_key_service_pb2.AuthenticateResponse(
                tenant="tenants/acme", role=api_key_pb2.ROLE_MEMBER, api_key="tenants/acme/apiKeys/k7"
            )
        if request.token == "tl_key_revoked":
            raise Unauthenticated("the API key was revoked", reason="KEY_REVOKED")
        raise Unauthenticated("nobody", reason="UNKNOWN_KEY")


async def test_the_tenant_service_is_asked_by_default() -> None:
    from trunkline.tenant.v1 import api_key_service_pb2_grpc
    from trunkline_runtime.config import CommonConfig
    from trunkline_runtime.rpc.server import Server

    keys = FakeApiKeys()
    server = Server(
        CommonConfig(suite_key=KEY, drain_seconds=0.5), service="tenant", signer=TokenSigner(KEY, "tenant")
    )
    server.add(
        api_key_service_pb2_grpc.add_ApiKeyServiceServicer_to_server,
        keys,
        "trunkline.tenant.v1.ApiKeyService",
    )
    # The rest of the servicer's methods are not called here.
    for name in ("CreateApiKey", "GetApiKey", "ListApiKeys", "DeleteApiKey"):
        setattr(keys, name, keys.Authenticate)
    await server.start()
    channels = Channels(TokenSigner(KEY, "audio"))
    authenticator = TenantServiceAuthenticator(channels, server.address)
    try:
        with acting_for("acme"):
            assert await authenticator.authenticate("tl_operator") == OPERATOR
        assert await authenticator.authenticate("tl_key_member") == Caller(
            CallerKind.API_KEY, tenant="acme", role=Role.MEMBER, key_id="k7"
        )
        for token, reason in (("tl_nobody", "CREDENTIALS_INVALID"), ("tl_key_revoked", "KEY_REVOKED")):
            with pytest.raises(Unauthenticated) as refused:
                await authenticator.authenticate(token)
            assert refused.value.reason == reason
        assert set(keys.callers) == {Caller(CallerKind.SERVICE, service="audio")}
        # Refused for our own token, it says nothing about the key.
        wrong = Channels(TokenSigner("ee" * 32, "audio"))
        with pytest.raises(Unavailable):
            await TenantServiceAuthenticator(wrong, server.address).authenticate("tl_operator")
        await wrong.close()
    finally:
        await server.stop(0)
    with pytest.raises(Unavailable):
        await authenticator.authenticate("tl_operator")
    await channels.close()
