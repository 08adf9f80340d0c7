"""Who is asking is proved, never claimed; a caller reaches its own tenant only, and what its kind and role may."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from base64 import b64decode
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import jwt
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from trunkline.tenant.v1 import call_pb2, call_service_pb2
from trunkline_runtime.config import ConfigError
from trunkline_runtime.errors import NotFound, TrunklineError, Unauthenticated, Unavailable, from_rpc_error
from trunkline_runtime.identity import keys
from trunkline_runtime.identity.access import Rule
from trunkline_runtime.identity.callers import ANONYMOUS, OPERATOR, Caller, CallerKind, Role, current_caller
from trunkline_runtime.identity.tokens import LIFETIME_SECONDS, TokenSigner
from trunkline_runtime.rpc.authenticator import CachingAuthenticator, TenantServiceAuthenticator
from trunkline_runtime.rpc.channels import Channels, acting_for, unconfined
from trunkline_runtime.rpc.guard import confine
from trunkline_runtime.testing import KEY_FOLDER

MINE = "tenants/acme/calls/abc"
C = grpc.StatusCode


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_service_token_says_the_service_and_its_tenant() -> None:
    signer = TokenSigner(KEY_FOLDER, "gateway")
    assert signer.verify(signer.service_token()) == Caller(CallerKind.SERVICE, "gateway")
    assert signer.verify(signer.service_token("acme")).tenant == "acme"


@pytest.mark.parametrize("kind", [CallerKind.USER, CallerKind.API_KEY])
def test_a_tenant_token_is_the_user_or_the_api_key_of_that_tenant_and_role(kind: CallerKind) -> None:
    caller = Caller(kind, "x1", "acme", Role.MEMBER)
    token = TokenSigner(KEY_FOLDER, "gateway").tenant_token(caller)
    assert TokenSigner(KEY_FOLDER, "audio").verify(token) == caller


@pytest.mark.parametrize(
    "caller",
    [
        OPERATOR,
        ANONYMOUS,
        Caller(CallerKind.SERVICE, "audio", "acme"),
        Caller(CallerKind.USER, None, "acme", Role.VIEWER),
        Caller(CallerKind.USER, "u1", None, Role.VIEWER),
        Caller(CallerKind.USER, "u1", "acme"),
    ],
    ids=str,
)
def test_a_tenant_token_is_for_nobody_else(caller: Caller) -> None:
    with pytest.raises(ValueError, match="a tenant token is for"):
        TokenSigner(KEY_FOLDER, "gateway").tenant_token(caller)


def test_tokens_are_kept_until_they_are_near_their_end() -> None:
    clock = Clock()
    signer = TokenSigner(KEY_FOLDER, "gateway", clock=clock)
    first = signer.service_token()
    clock.now += LIFETIME_SECONDS / 2
    assert signer.service_token() == first
    clock.now += LIFETIME_SECONDS / 2 - 30
    assert signer.service_token() != first
    assert signer.verify(signer.service_token()).subject == "gateway"


def test_an_expired_token_is_refused_even_where_it_was_seen_before() -> None:
    clock = Clock()
    signer = TokenSigner(KEY_FOLDER, "gateway", clock=clock)
    token = signer.service_token()
    assert signer.verify(token).subject == "gateway"
    clock.now += LIFETIME_SECONDS + 31
    with pytest.raises(Unauthenticated) as error:
        signer.verify(token)
    assert error.value.reason == "TOKEN_EXPIRED"


def forged(by: str = "gateway", *, kid: str | None = None, **changes: Any) -> str:
    """A token with these claims, rightly signed with a service's key."""
    now = int(time.time())
    claims = {"kind": "service", "sub": by, "tenant": "", "iss": by, "iat": now, "exp": now + 100, **changes}
    key = jwt.PyJWK(json.loads((KEY_FOLDER / f"{by}.key").read_text()))
    kept = {k: v for k, v in claims.items() if v is not None}
    return jwt.encode(kept, key.key, algorithm="EdDSA", headers={"kid": kid or key.key_id})


def unsigned(algorithm: str, key: Any) -> str:
    kid = json.loads((KEY_FOLDER / "gateway.key").read_text())["kid"]
    claims = {"kind": "service", "sub": "gateway", "iss": "gateway", "exp": int(time.time()) + 100}
    return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": kid})


PUBLIC = b64decode(json.loads((KEY_FOLDER / "gateway.key").read_text())["x"] + "=", altchars=b"-_")


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x.y.z",
        unsigned("EdDSA", Ed25519PrivateKey.generate()),
        unsigned("none", None),
        unsigned("HS256", PUBLIC),
        forged(kid="gateway-0"),
        forged(iss="trunkline"),
        forged(kind="operator"),
        forged(kind="anonymous"),
        forged(kind="user", role="ADMIN"),
        forged(kind="user", tenant="acme", role="ADMIN", sub=""),
        forged(kind="user", tenant="acme", role="ADMIN", sub=None),
        forged(kind="api_key", tenant="acme"),
        forged(kind="api_key", tenant="acme", role="OWNER"),
        forged("audio", sub="gateway"),
        forged("audio", sub="gateway", iss="gateway"),
        forged("ai", kind="api_key", tenant="acme", role="ADMIN"),
        forged("ai", kind="user", tenant="acme", role="ADMIN"),
        forged(exp=None),
        forged(exp=1),
    ],
    ids=[
        "empty",
        "garbage",
        "other-key",
        "none",
        "public-key",
        "unknown-key",
        "issuer",
        "operator",
        "anonymous",
        "no-tenant",
        "empty-subject",
        "no-subject",
        "no-role",
        "role",
        "another-service",
        "another-issuer",
        "vouches-for-a-key",
        "vouches-for-a-user",
        "no-exp",
        "expired",
    ],
)
def test_a_token_that_is_not_ours_is_refused(token: str) -> None:
    with pytest.raises(Unauthenticated):
        TokenSigner(KEY_FOLDER, "tenant").verify(token)


def test_a_changed_token_is_refused() -> None:
    signer = TokenSigner(KEY_FOLDER, "gateway")
    head, body, signature = signer.service_token("acme").split(".")
    other = signer.service_token("other").split(".")[1]
    with pytest.raises(Unauthenticated):
        signer.verify(".".join([head, other, signature]))
    assert signer.verify(".".join([head, body, signature])).tenant == "acme"


def test_a_service_needs_its_own_private_key_and_public_keys_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"audio\.key"):
        TokenSigner(tmp_path, "audio")
    for name in ("audio.key", "trusted.json"):
        shutil.copy(KEY_FOLDER / name, tmp_path)
    assert '"d"' not in (tmp_path / "trusted.json").read_text()
    audio = TokenSigner(tmp_path, "audio")
    assert TokenSigner(KEY_FOLDER, "tenant").verify(audio.service_token()).subject == "audio"
    assert audio.verify(TokenSigner(KEY_FOLDER, "gateway").service_token()).subject == "gateway"
    for text in ("", "{}", '{"keys": [{}]}', (tmp_path / "audio.key").read_text()):
        (tmp_path / "trusted.json").write_text(text)
        with pytest.raises(ConfigError, match=r"trusted\.json must hold Ed25519 keys"):
            TokenSigner(tmp_path, "audio")
    shutil.copy(KEY_FOLDER / "trusted.json", tmp_path / "audio.key")
    with pytest.raises(ConfigError, match=r"audio\.key must hold"):
        TokenSigner(tmp_path, "audio")


def test_a_key_is_rotated_while_services_run(tmp_path: Path) -> None:
    folder = keys.create(tmp_path / "keys")
    clock = Clock()
    gateway, tenant = (TokenSigner(folder, name, clock=clock) for name in ("gateway", "tenant"))
    before, kept = gateway.service_token(), tenant.service_token()
    keys.rotate(folder, "gateway")
    after = gateway.service_token("acme")
    assert jwt.get_unverified_header(after)["kid"] != jwt.get_unverified_header(before)["kid"]
    for token in (before, after):
        assert tenant.verify(token).subject == "gateway"
    keys.rotate(folder, "gateway")
    assert tenant.verify(gateway.service_token("other")).tenant == "other"
    with pytest.raises(Unauthenticated):
        tenant.verify(before)  # two rotations back, though it was verified once
    assert gateway.verify(kept).subject == "tenant"


def test_a_broken_file_of_keys_leaves_those_that_were_read(tmp_path: Path) -> None:
    folder = keys.create(tmp_path / "keys")
    gateway, tenant = (TokenSigner(folder, name) for name in ("gateway", "tenant"))
    for path in folder.iterdir():
        path.write_text("{")
    assert tenant.verify(gateway.service_token()).subject == "gateway"


def test_a_file_of_keys_that_is_copied_with_its_times_is_read_again(tmp_path: Path) -> None:
    folder, other = keys.create(tmp_path / "keys"), keys.create(tmp_path / "other")
    gateway = TokenSigner(folder, "gateway")
    path = folder / "gateway.key"
    there = path.stat()
    path.write_text((other / "gateway.key").read_text())
    os.utime(path, ns=(there.st_atime_ns, there.st_mtime_ns))
    kid = jwt.get_unverified_header(gateway.service_token())["kid"]
    assert kid == json.loads((other / "gateway.key").read_text())["kid"]


def test_keys_are_made_once_and_are_private(tmp_path: Path) -> None:
    assert keys.main([str(tmp_path / "keys")]) == 0
    made = {path.name: path.read_text() for path in (tmp_path / "keys").iterdir()}
    assert made.keys() == {"trusted.json", *(f"{service}.key" for service in keys.SERVICES)}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "keys").iterdir()} == {0o600}
    keys.main([str(tmp_path / "keys")])
    assert made == {path.name: path.read_text() for path in (tmp_path / "keys").iterdir()}
    keys.main([str(tmp_path / "keys"), "--rotate", "audio"])
    changed = [name for name in made if made[name] != (tmp_path / "keys" / name).read_text()]
    assert sorted(changed) == ["audio.key", "trusted.json"]


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


async def read_by_context(_requests: Any, context: Any) -> Any:
    names = []
    while (message := await context.read()) is not grpc.aio.EOF:
        names.append(message.name)
    return call_pb2.Call(name=",".join(names))


async def stream(suite: Any, method: str, who: str, *names: str) -> list[str]:
    """Send messages with these names in a stream, and return the names that came back.

    A write that comes after the server's answer may fail inside the client, which then tells that in place of the
    answer: it is asked again.
    """
    for _ in range(5):
        try:
            return await _stream(suite, method, who, *names)
        except grpc.aio.AioRpcError as error:
            if error.details() != "Internal error from Core":
                raise
    raise AssertionError("the client failed each time")


async def _stream(suite: Any, method: str, who: str, *names: str) -> list[str]:
    async with grpc.aio.insecure_channel(suite.server.address) as channel:
        call = suite.method(method, channel)(
            iter([call_service_pb2.GetCallRequest(name=name) for name in names]),
            metadata=(("authorization", f"Bearer {who}"),),
            timeout=5,
        )
        return (await call).name.split(",") if method == "Gather" else [answer.name async for answer in call]


@pytest.fixture(params=["Gather", "Chat", "read by context"])
def streaming(suite: Any, request: Any) -> str:
    """A method that takes a stream of requests, in either style of handler."""
    if request.param != "read by context":
        return request.param
    suite.handlers["Gather"] = read_by_context
    return "Gather"


FOREIGN = "tenants/other/calls/abc"


def test_a_later_message_of_a_stream_may_leave_the_name_out() -> None:
    rule = Rule(Role.VIEWER, "name")
    assert confine(OPERATOR, "m", rule, call_service_pb2.GetCallRequest(), tenant="acme") == "acme"


@pytest.mark.parametrize(
    ("who", "names", "code"),
    [
        ("tl_viewer", (MINE, FOREIGN), C.NOT_FOUND),
        ("tl_viewer", (FOREIGN, MINE), C.NOT_FOUND),
        ("tl_operator", (MINE, FOREIGN), C.INVALID_ARGUMENT),
        ("tl_operator", (FOREIGN, FOREIGN, MINE), C.INVALID_ARGUMENT),
        ("tl_viewer", ("", MINE), C.INVALID_ARGUMENT),
        ("tl_viewer", (), C.INVALID_ARGUMENT),
    ],
)
async def test_a_stream_of_requests_is_confined_by_its_first_message(
    suite: Any, streaming: str, who: str, names: tuple[str, ...], code: grpc.StatusCode
) -> None:
    assert await stream(suite, streaming, who, MINE, MINE) == [MINE, MINE]
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stream(suite, streaming, who, *names)
    assert raised.value.code() is code


@pytest.mark.parametrize(
    ("who", "method", "name", "code", "reason"),
    [
        ("tl_viewer", "Admin", MINE, C.PERMISSION_DENIED, "ROLE_TOO_LOW"),
        ("tl_viewing", "Admin", MINE, C.PERMISSION_DENIED, "ROLE_TOO_LOW"),
        ("tl_admin", "Internal", MINE, C.PERMISSION_DENIED, "CALLER_NOT_ALLOWED"),
        ("tl_administering", "Internal", MINE, C.PERMISSION_DENIED, "CALLER_NOT_ALLOWED"),
        ("tl_viewing", "One", "tenants/other/calls/abc", C.NOT_FOUND, "NOT_FOUND"),
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


async def test_a_user_may_what_its_role_may_in_its_own_tenant(suite: Any) -> None:
    seen: list[Caller] = []

    async def note(_request: Any, _context: Any) -> Any:
        seen.append(current_caller())
        return call_pb2.Call()

    suite.handlers["One"] = suite.handlers["Admin"] = note
    token = suite.signer("gateway").tenant_token(Caller(CallerKind.USER, "u7", "acme", Role.VIEWER))
    for authorization in ("tl_viewing", token):
        await suite.call(metadata=(("authorization", f"Bearer {authorization}"),))
    await suite.call("Admin", metadata=(("authorization", "Bearer tl_administering"),))
    assert [str(caller) for caller in seen] == ["user:u1", "user:u7", "user:u2"]


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
    gateway = Caller(CallerKind.SERVICE, "gateway")
    assert seen == [
        gateway,
        Caller(CallerKind.SERVICE, "gateway", tenant="acme"),
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


class Guarded(Asked):
    """Knows one token; any other waits to be told that nobody holds it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0

    async def authenticate(self, token: str) -> Caller:
        if token == "tl_good":
            return OPERATOR
        self.count += 1
        self.now += 1
        self.most = max(self.most, self.now)
        await self.ready.wait()
        self.now -= 1
        raise Unauthenticated("no", reason="CREDENTIALS_INVALID")


async def test_guesses_are_asked_about_a_few_at_a_time_and_a_known_token_does_not_wait_for_them() -> None:
    clock, asked = Clock(), Guarded()
    authenticator = CachingAuthenticator(asked, clock=clock)
    assert await authenticator.authenticate("tl_good") is OPERATOR
    clock.now += 10
    asked.ready.clear()
    guesses = [asyncio.create_task(authenticator.authenticate(f"tl_{n}")) for n in range(1_000)]
    while asked.count < 8:
        await asyncio.sleep(0)
    assert await asyncio.wait_for(authenticator.authenticate("tl_good"), 5) is OPERATOR
    asked.ready.set()
    told = await asyncio.gather(*guesses, return_exceptions=True)
    assert (asked.most, asked.count) == (8, 200)
    busy = [one for one in told if isinstance(one, Unavailable)]
    assert {(one.reason, one.retry_after) for one in busy} == {("AUTHENTICATION_BUSY", 1.0)}
    assert len(busy) == 800
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate("tl_later")


async def test_a_token_that_is_no_longer_good_takes_turns_like_a_guess() -> None:
    clock, asked = Clock(), Asked()
    authenticator = CachingAuthenticator(asked, clock=clock)
    await authenticator.authenticate("tl_a")
    clock.now += 10
    asked.answer = Unauthenticated("revoked", reason="KEY_REVOKED")
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate("tl_a")
    clock.now += 10
    asked.ready.clear()
    waiting = [asyncio.create_task(authenticator.authenticate(f"tl_{n}")) for n in range(8)]
    while asked.count < 10:
        await asyncio.sleep(0)
    again = asyncio.create_task(authenticator.authenticate("tl_a"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert asked.count == 10
    asked.ready.set()
    await asyncio.gather(*waiting, again, return_exceptions=True)
    assert asked.count == 11


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


async def test_the_tenant_service_is_asked_by_default(tmp_path: Path) -> None:
    from trunkline.tenant.v1 import api_key_service_pb2_grpc
    from trunkline_runtime.config import CommonConfig
    from trunkline_runtime.rpc.server import Server

    asked = FakeApiKeys()
    server = Server(
        CommonConfig(keys=KEY_FOLDER, drain_seconds=0.5),
        service="tenant",
        signer=TokenSigner(KEY_FOLDER, "tenant"),
    )
    server.add(
        api_key_service_pb2_grpc.add_ApiKeyServiceServicer_to_server,
        asked,
        "trunkline.tenant.v1.ApiKeyService",
    )
    # The rest of the servicer's methods are not called here.
    for name in ("CreateApiKey", "GetApiKey", "ListApiKeys", "DeleteApiKey"):
        setattr(asked, name, asked.Authenticate)
    await server.start()
    channels = Channels(TokenSigner(KEY_FOLDER, "audio"))
    authenticator = TenantServiceAuthenticator(channels, server.address)
    try:
        with acting_for("acme"):
            assert await authenticator.authenticate("tl_operator") == OPERATOR
        assert await authenticator.authenticate("tl_key_member") == Caller(
            CallerKind.API_KEY, tenant="acme", role=Role.MEMBER, subject="k7"
        )
        for token, reason in (("tl_nobody", "CREDENTIALS_INVALID"), ("tl_key_revoked", "KEY_REVOKED")):
            with pytest.raises(Unauthenticated) as refused:
                await authenticator.authenticate(token)
            assert refused.value.reason == reason
        assert set(asked.callers) == {Caller(CallerKind.SERVICE, "audio")}
        # Refused for our own token, it says nothing about the key.
        wrong = Channels(TokenSigner(keys.create(tmp_path / "other"), "audio"))
        with pytest.raises(Unavailable):
            await TenantServiceAuthenticator(wrong, server.address).authenticate("tl_operator")
        await wrong.close()
    finally:
        await server.stop(0)
    with pytest.raises(Unavailable):
        await authenticator.authenticate("tl_operator")
    await channels.close()
