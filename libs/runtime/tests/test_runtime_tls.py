"""Mutual TLS between services: who is let in, who is not, what the log says of it, and certificates that change."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs
from trunkline.tenant.v1 import call_pb2, call_service_pb2
from trunkline_runtime.config import CommonConfig, ConfigError
from trunkline_runtime.errors import PermissionDenied, from_rpc_error
from trunkline_runtime.identity.authority import Authority
from trunkline_runtime.identity.callers import Caller, CallerKind, Role
from trunkline_runtime.identity.certificates import CertificateFolder
from trunkline_runtime.identity.peers import PEERS
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.rpc.channels import Channels
from trunkline_runtime.rpc.tls import Tls
from trunkline_runtime.testing import KEY_FOLDER

REQUEST = call_service_pb2.GetCallRequest(name="tenants/acme/calls/abc")
C = grpc.StatusCode


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path / "tls")
    made.renew()
    return made


@contextlib.asynccontextmanager
async def calling(
    suite: Any, folder: Path, *, of: str = "gateway", at: str = "tenant"
) -> AsyncIterator[Callable[..., Any]]:
    """Give what calls a method of the suite with a service's certificate and token."""
    tls = Tls(CertificateFolder(folder, of, "X"), of, {suite.server.address: at})
    channels = Channels(TokenSigner(KEY_FOLDER, of), tls)

    async def call(method: str = "One", **options: Any) -> Any:
        return await suite.method(method, channels.get(suite.server.address))(REQUEST, timeout=5, **options)

    try:
        yield call
    finally:
        await channels.close()


@pytest.fixture
async def suite(start_suite: Any, tmp_path: Path, authority: Authority) -> Any:
    return await start_suite(tls_folder=tmp_path / "tls" / "tenant")


async def test_a_service_with_its_certificate_is_let_in(suite: Any, tmp_path: Path) -> None:
    async with calling(suite, tmp_path / "tls" / "gateway") as call:
        assert (await call()).name == REQUEST.name
        assert (await call("Internal")).name == REQUEST.name


async def test_the_worker_speaks_for_the_gateway_but_carries_nobody(suite: Any, tmp_path: Path) -> None:
    signer = TokenSigner(KEY_FOLDER, "gateway")
    user = Caller(CallerKind.USER, "u1", tenant="acme", role=Role.ADMIN)
    carried = (("authorization", f"Bearer {signer.tenant_token(user)}"),)
    async with calling(suite, tmp_path / "tls" / "gateway") as call:
        assert (await call(metadata=carried)).name == REQUEST.name
        assert (await call(metadata=(("authorization", "Bearer tl_operator"),))).name == REQUEST.name
    async with calling(suite, tmp_path / "tls" / "worker") as call:
        assert (await call()).name == REQUEST.name
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call(metadata=carried)
    error = from_rpc_error(raised.value)
    assert isinstance(error, PermissionDenied)
    assert error.reason == "PEER_NOT_CALLER"


async def test_a_service_may_call_what_the_access_table_says(suite: Any, tmp_path: Path) -> None:
    async with calling(suite, tmp_path / "tls" / "audio", of="audio") as call:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call("Admin")
    assert from_rpc_error(raised.value).reason == "CALLER_NOT_ALLOWED"


async def test_a_stolen_token_is_worth_nothing_without_its_certificate(suite: Any, tmp_path: Path) -> None:
    stolen = TokenSigner(KEY_FOLDER, "gateway").service_token()
    async with calling(suite, tmp_path / "tls" / "audio", of="audio") as call:
        with capture_logs() as logged, pytest.raises(grpc.aio.AioRpcError) as raised:
            await call("Internal", metadata=(("authorization", f"Bearer {stolen}"),))
    assert from_rpc_error(raised.value).reason == "PEER_NOT_CALLER"
    line = next(line for line in logged if line["event"] == "peer_refused")
    assert line["certificate"] == "audio.trunkline.internal"
    assert line["caller"] == "service:gateway"


def test_envoy_speaks_for_itself_when_it_asks_and_a_person_for_nobody() -> None:
    own, other = (Caller(CallerKind.SERVICE, name) for name in ("edge", "gateway"))
    assert PEERS["edge"].may_show(own)
    assert not PEERS["edge"].may_show(other)
    assert not PEERS["operator"].may_show(own)


@pytest.mark.parametrize("holder", ["edge", "operator"])
async def test_a_proxy_or_a_person_carries_keys_but_is_no_service(
    suite: Any, tmp_path: Path, holder: str
) -> None:
    stolen = TokenSigner(KEY_FOLDER, "gateway").service_token()
    for token, reason in (("tl_admin", None), ("tl_operator", None), (stolen, "PEER_NOT_CALLER")):
        async with open_channel(suite, tmp_path / "tls" / holder) as channel:
            ask = suite.method("One", channel)(
                REQUEST, timeout=5, metadata=(("authorization", f"Bearer {token}"),)
            )
            if reason is None:
                assert (await ask).name == REQUEST.name
                continue
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await ask
            assert from_rpc_error(raised.value).reason == reason


@contextlib.asynccontextmanager
async def open_channel(suite: Any, folder: Path) -> AsyncIterator[grpc.aio.Channel]:
    """A channel as another program makes it."""
    files = [(folder / name).read_bytes() for name in ("ca.crt", "tls.key", "tls.crt")]
    options = [("grpc.ssl_target_name_override", "tenant.trunkline.internal")]
    credentials = grpc.ssl_channel_credentials(*files)
    async with grpc.aio.secure_channel(suite.server.address, credentials, options=options) as channel:
        yield channel


async def test_a_certificate_that_names_nobody_or_two_is_refused(
    suite: Any, tmp_path: Path, authority: Authority
) -> None:
    authority.issue("stranger")
    authority.issue("gateway", hosts=["tenant.trunkline.internal"])
    for holder in ("stranger", "gateway"):
        async with open_channel(suite, tmp_path / "tls" / holder) as channel:
            token = (("authorization", "Bearer tl_operator"),)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await suite.method("One", channel)(REQUEST, timeout=5, metadata=token)
        assert from_rpc_error(raised.value).reason == "PEER_UNKNOWN"


async def test_no_certificate_or_no_tls_is_no_connection(suite: Any, tmp_path: Path) -> None:
    authorities = (tmp_path / "tls" / "ca.crt").read_bytes()
    options = [("grpc.ssl_target_name_override", "tenant.trunkline.internal")]
    bare = grpc.aio.secure_channel(
        suite.server.address, grpc.ssl_channel_credentials(authorities), options=options
    )
    for channel in (bare, grpc.aio.insecure_channel(suite.server.address)):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert raised.value.code() is C.UNAVAILABLE
        await channel.close()


async def refused(suite: Any, folder: Path, **options: Any) -> dict[str, Any]:
    """The log line of a client whose connection is refused."""
    async with calling(suite, folder, **options) as call:
        with capture_logs() as logged, pytest.raises(grpc.aio.AioRpcError) as raised:
            await call()
    assert raised.value.code() is C.UNAVAILABLE
    assert any("refused" in line["event"] for line in logged), raised.value.details()
    return next(line for line in logged if "refused" in line["event"])


async def test_a_client_of_another_authority_is_refused_and_told(suite: Any, tmp_path: Path) -> None:
    folder = Authority(tmp_path / "other").issue("gateway")
    # It trusts the right one, so that only its own certificate is wrong.
    (folder / "ca.crt").write_bytes((tmp_path / "tls" / "ca.crt").read_bytes())
    line = await refused(suite, folder)
    assert line["event"] == "certificate_refused_by_peer"
    assert line["peer"] == "tenant"


async def test_a_server_of_another_authority_is_refused(suite: Any, tmp_path: Path) -> None:
    line = await refused(suite, Authority(tmp_path / "other").issue("gateway"))
    assert line["event"] == "peer_certificate_refused"


async def test_an_expired_certificate_is_refused_on_either_side(
    suite: Any, start_suite: Any, tmp_path: Path, authority: Authority
) -> None:
    with capture_logs() as logged:
        authority.issue("gateway", days=-1)
        line = await refused(suite, tmp_path / "tls" / "gateway")
        authority.issue("gateway")
        authority.issue("tenant", days=-1)
        late = await start_suite(tls_folder=tmp_path / "tls" / "tenant")
    assert line["event"] == "certificate_refused_by_peer"
    assert [line["event"] for line in logged].count("certificate_not_valid") >= 2
    assert "expired" in late.server.ready()[1]
    line = await refused(late, tmp_path / "tls" / "gateway")
    assert line["event"] == "peer_certificate_refused"
    assert "expired" in line["error"]


async def test_one_service_cannot_serve_as_another(suite: Any, tmp_path: Path) -> None:
    line = await refused(suite, tmp_path / "tls" / "gateway", at="ai")
    assert line["event"] == "peer_certificate_refused"


async def test_both_ends_go_over_to_new_certificates_and_a_new_authority_without_a_failed_call(
    start_suite: Any, tmp_path: Path, authority: Authority
) -> None:
    suite = await start_suite(
        tls_folder=tmp_path / "tls" / "tenant",
        max_connection_age_seconds=1.0,
        max_connection_age_grace_seconds=5.0,
    )
    shown: set[bytes] = set()

    async def note(request: Any, context: Any) -> Any:
        shown.update(context.auth_context()["x509_pem_cert"])
        return call_pb2.Call(name=request.name)

    suite.handlers["One"] = note
    folders = [tmp_path / "tls" / name for name in ("tenant", "gateway")]
    old = (tmp_path / "tls" / "ca.crt").read_bytes()
    new = Authority(tmp_path / "new")
    new.renew(("tenant", "gateway"))
    both = old + (tmp_path / "new" / "ca.crt").read_bytes()
    async with calling(suite, folders[1]) as call:

        async def until(count: int) -> None:
            async with asyncio.timeout(15):
                while len(shown) < count:
                    await call()
                    await asyncio.sleep(0.005)

        await until(1)
        authority.renew(("tenant", "gateway"), force=True)
        await until(2)
        for folder in folders:  # first both are trusted, then the new one shows
            (folder / "ca.crt").write_bytes(both)
        await asyncio.sleep(1.1)  # a client looks at its files once a second
        for folder in folders:
            for name in ("tls.key", "tls.crt"):
                (folder / name).write_bytes((tmp_path / "new" / folder.name / name).read_bytes())
        await until(3)
        for folder in folders:
            (folder / "ca.crt").write_bytes((tmp_path / "new" / "ca.crt").read_bytes())
        await asyncio.sleep(1.1)
        assert (await call()).name == REQUEST.name


async def test_a_stream_goes_on_while_the_certificate_changes(
    suite: Any, tmp_path: Path, authority: Authority
) -> None:
    gate = asyncio.Event()

    async def many(request: Any, _context: Any) -> Any:
        yield call_pb2.Call(name="first")
        await gate.wait()
        yield call_pb2.Call(name="second")

    suite.handlers["Many"] = many
    tls = Tls(
        CertificateFolder(tmp_path / "tls" / "gateway", "gateway", "X"),
        "gateway",
        {suite.server.address: "tenant"},
    )
    channels = Channels(TokenSigner(KEY_FOLDER, "gateway"), tls)
    channel = channels.get(suite.server.address)
    stream = suite.method("Many", channel)(REQUEST)
    assert (await stream.read()).name == "first"
    authority.issue("gateway")
    await asyncio.sleep(1.1)
    assert (await suite.method("One", channel)(REQUEST)).name == REQUEST.name
    gate.set()
    assert (await stream.read()).name == "second"
    await channels.close()


async def test_probes_are_answered_in_plaintext_and_nothing_else_is(
    start_suite: Any, tmp_path: Path, authority: Authority
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        probe = f"127.0.0.1:{listener.getsockname()[1]}"
    suite = await start_suite(tls_folder=tmp_path / "tls" / "tenant", probe_address=probe)
    async with grpc.aio.insecure_channel(probe) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await suite.method("One", channel)(REQUEST, timeout=5)
        assert raised.value.code() is C.UNIMPLEMENTED
        await suite.server.stop(0)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda f: (f / "tls.key").write_bytes((f.parent / "ai" / "tls.key").read_bytes()),
            "is not the key of",
        ),
        (lambda f: (f / "tls.crt").write_text("none"), "must be PEM"),
        (lambda f: (f / "ca.crt").unlink(), "No such file"),
        (
            lambda f: [
                (f / n).write_bytes((f.parent / "ai" / n).read_bytes()) for n in ("tls.key", "tls.crt")
            ],
            "must have the DNS name tenant.trunkline.internal; its names are ai.trunkline.internal",
        ),
    ],
)
def test_a_folder_that_cannot_be_used_is_a_wrong_setting(
    tmp_path: Path, authority: Authority, spoil: Any, said: str
) -> None:
    folder = tmp_path / "tls" / "tenant"
    spoil(folder)
    with pytest.raises(ConfigError, match=r"^TRUNKLINE_TENANT_TLS_FOLDER: .*" + said):
        Tls.of(CommonConfig(tls_folder=folder), "tenant")
