"""Uploads and downloads over HTTP: a real gateway's front, a real audio service, and sockets between them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import audio_sounds as sounds
import gateway_echo as echo
import httpx
import pytest
from audio_decoders import lent
from hypothesis import given
from hypothesis import strategies as st
from trunkline_audio import app as audio
from trunkline_audio.config import AudioConfig
from trunkline_audio.engines.base import SpeechCapabilities
from trunkline_audio.recordings.plans import TenantPlan
from trunkline_audio.schema import metadata
from trunkline_cli.suite.web import trusted
from trunkline_gateway.api.credentials import Shown
from trunkline_gateway.api.media.app import media_api
from trunkline_gateway.api.media.ranges import Unsatisfiable, asked_range, sent_part
from trunkline_gateway.edge.limits import EdgeLimits
from trunkline_runtime.errors import Unauthenticated
from trunkline_runtime.identity.access import TABLE
from trunkline_runtime.identity.callers import Caller, CallerKind, Role
from trunkline_runtime.identity.links import LinkSigner
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.rpc.channels import Channels
from trunkline_runtime.testing import KEY_FOLDER

from tests.integration.migrated_file import migrated_file

CALL = sounds.wav(sounds.tone(2), sounds.tone(2, hertz=600))
DIGEST = hashlib.sha256(CALL).hexdigest()
UPLOAD = "/v1/tenants/acme/recordings:upload"
HERE = "/v1/tenants/acme/recordings/up-1"
WAV = {"content-type": "audio/wav"}
ROLES = {b"member": ("acme", Role.MEMBER), b"viewer": ("acme", Role.VIEWER), b"other": ("globex", Role.ADMIN)}


@dataclass
class World:
    client: httpx.AsyncClient
    anybody: httpx.AsyncClient
    port: int
    now: list[datetime]
    blobs: Path
    gateway: TokenSigner
    audio_address: str

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.blobs)) for path in self.blobs.rglob("*") if path.is_file())

    async def started(self, **metadata: Any) -> str:
        answer = await self.client.post(UPLOAD, params={"uploadType": "resumable"}, json=metadata)
        assert answer.status_code == 200, answer.text
        return answer.headers["location"]

    async def put(self, url: str, body: bytes, part: str) -> httpx.Response:
        return await self.client.put(url, content=body, headers={"content-range": part})


async def free(_tenant: str) -> TenantPlan:
    return TenantPlan()


async def nobody(_call: str, _recording: str, _stays: bool) -> None:
    pass


@asynccontextmanager
async def auditing(tmp_path: Path, **settings: Any) -> AsyncIterator[Any]:
    config = AudioConfig(
        **{
            "grpc_address": "127.0.0.1:0",
            "metrics_address": "",
            "store_url": await migrated_file(tmp_path / "audio.db", metadata, "trunkline_audio.migrations"),
            "keys": KEY_FOLDER,
            "blobs_folder": tmp_path / "blobs",
            "scratch_folder": tmp_path / "scratch",
            "decoders": 1,
            "drain_notice_seconds": 0.0,
            **settings,
        }
    )
    async with (
        audio.build(config, decoders=lent(), engines={"deaf": Deaf()}, forget=nobody, plan_of=free) as parts,
        parts.running() as server,
    ):
        yield server


class Deaf:
    """An engine that nobody asks."""

    name = "deaf"
    problem = ""
    capabilities = SpeechCapabilities()

    async def __aenter__(self) -> Deaf:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


@asynccontextmanager
async def serving(tmp_path: Path, limits: EdgeLimits | None = None, **settings: Any) -> AsyncIterator[World]:
    signer = TokenSigner(KEY_FOLDER, "gateway")
    channels = Channels(signer)
    now = [datetime.now(UTC)]

    async def authenticate(header: bytes | None) -> Shown:
        role = ROLES.get((header or b"").removeprefix(b"Bearer "))
        if role is None:
            raise Unauthenticated("who are you?", reason="CREDENTIALS_MISSING")
        caller = Caller(CallerKind.API_KEY, "k", *role)
        return Shown(caller, f"Bearer {signer.tenant_token(caller)}")

    async with auditing(tmp_path, **settings) as server:
        app = media_api(
            echo_404,
            channels.get(server.address),
            authenticate=authenticate,
            signer=signer,
            links=LinkSigner(KEY_FOLDER, "audio", reader="gateway"),
            rules=TABLE,
            public_url="https://calls.example",
            now=lambda: now[0],
        )
        async with echo.listening(app, limits) as http:
            base = {
                "base_url": f"http://127.0.0.1:{http.port}",
                "trust_env": False,
                "timeout": 30,
                "verify": trusted(),
            }
            async with (
                httpx.AsyncClient(headers={"authorization": "Bearer member"}, **base) as client,
                httpx.AsyncClient(**base) as anybody,
            ):
                try:
                    yield World(client, anybody, http.port, now, tmp_path / "blobs", signer, server.address)
                finally:
                    await channels.close()


async def echo_404(_scope: Any, receive: Any, send: Any) -> None:
    while (message := await receive()).get("more_body"):
        if message["type"] == "http.disconnect":
            return
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def reason(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["details"][0]["reason"]


async def test_one_post_is_a_recording(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        answer = await world.client.post(
            UPLOAD,
            params={"recordingId": "up-1", "call": "tenants/acme/calls/c1", "sha256": DIGEST},
            content=CALL,
            headers=WAV,
        )
        assert answer.status_code == 200, answer.text
        made = answer.json()
        assert (made["recording"]["name"], made["existing"]) == ("tenants/acme/recordings/up-1", False)
        assert made["recording"]["call"] == "tenants/acme/calls/c1"
        again = await world.client.post(UPLOAD, content=CALL, headers=WAV)
        assert again.json() == {**made, "existing": True}
        got = await world.client.get(f"{HERE}:download")
        assert (got.status_code, got.content) == (200, CALL)
        assert got.headers["content-type"] == "audio/wav"
        assert got.headers["content-disposition"] == 'attachment; filename="up-1.wav"'
        assert got.headers["etag"] == f'"{DIGEST}"'

        async def chunks() -> AsyncIterator[bytes]:
            for at in range(0, len(CALL), 10_000):
                yield CALL[at : at + 10_000]

        chunked = await world.client.post(UPLOAD, content=chunks(), headers=WAV)
        assert chunked.json()["existing"]


async def test_what_is_no_recording_is_refused_by_name(tmp_path: Path) -> None:
    async with serving(tmp_path, upload_max_bytes=100_000) as world:

        async def post(body: bytes, **params: str) -> tuple[int, str]:
            return reason(await world.client.post(UPLOAD, params=params, content=body, headers=WAV))

        assert await post(b"<!doctype html>") == (400, "NOT_AUDIO")
        assert await post(b"") == (400, "RECORDING_EMPTY")
        assert await post(bytes(100_001)) == (400, "RECORDING_TOO_LARGE")
        assert await post(CALL, sha256="0" * 64) == (400, "SHA256_MISMATCH")
        assert (await post(CALL, colour="red"))[0] == 400
        assert (await post(CALL, uploadType="multipart"))[0] == 400
        assert (await post(CALL, headerlessFormat="LOUD"))[0] == 400
        packed = await world.client.post(UPLOAD, content=CALL, headers={**WAV, "content-encoding": "gzip"})
        assert packed.status_code == 415
        assert world.files() == []


async def test_a_refusal_says_what_is_allowed(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:

        async def said(method: str = "POST", url: str = UPLOAD, **more: Any) -> tuple[int, str]:
            answer = await world.client.request(method, url, **more)
            return answer.status_code, answer.json()["error"]["message"]

        def bytes_with(**params: str) -> Any:
            return said(content=CALL, headers=WAV, params=params)

        formats = "HEADERLESS_FORMAT_MULAW, HEADERLESS_FORMAT_ALAW, HEADERLESS_FORMAT_GSM"
        start = {"url": f"{UPLOAD}?uploadType=resumable"}
        for status, message in (
            await bytes_with(headerlessFormat="mulaw"),
            await said(json={"headerless_format": "mulaw"}, **start),
        ):
            assert (status, message.partition(": ")[2]) == (400, f"'mulaw' is not one of {formats}")
        for status, message in (
            await bytes_with(expireTime="tomorrow"),
            await said(json={"expireTime": "tomorrow"}, **start),
        ):
            assert (status, message) == (400, "expireTime: must be a time such as 2026-11-01T00:00:00Z")
        fields = "recordingId, call, headerlessFormat, expireTime, sha256"
        assert await bytes_with(recordinId="x") == (
            400, f"recordinId: is not a parameter; did you mean recordingId?; allowed: uploadType, {fields}",
        )  # fmt: skip
        assert await said(json={"recordingid": "x"}, **start) == (
            400, f"recordingid: is not a field; did you mean recordingId?; allowed: {fields}, sizeBytes",
        )  # fmt: skip
        for status, message in (
            await bytes_with(expireTime="2020-01-01T00:00:00Z"),
            await said(json={"expireTime": "2020-01-01T00:00:00Z"}, **start),
        ):
            assert (status, message.partition("xpire_time: ")[2]) == (400, "must be in the future")
        form = {"files": {"file": ("call.wav", CALL)}}
        assert (await said(**form))[0] == 415
        assert "--data-binary" in (await said(**form))[1]
        status, message = await said(content=CALL)
        assert (status, "such as audio/mpeg" in message) == (415, True)
        status, message = await said(content=CALL * 3, headers={"content-type": "application/json"})
        assert (status, "such as audio/mpeg" in message) == (413, True)
        status, message = await said("PUT", f"{UPLOAD}?recordingId=up-1", content=CALL)
        assert (status, message.partition(":")[0], "POST" in message) == (400, "uploadId", True)
        empty = {"x-upload-content-length": "0"}
        assert await said(json={}, headers=empty, **start) == (
            400, "x-upload-content-length: must state at least one byte",
        )  # fmt: skip
        url = await world.started(recordingId="up-1")
        for part, wrong in (
            ("bytes 0-2/9", f"content-range: states 3 bytes, and the body has {len(CALL)}"),
            ("bytes */0", "content-range: must state at least one byte"),
        ):
            assert await said("PUT", url, content=CALL, headers={"content-range": part}) == (400, wrong)
        status, message = await said("PUT", url, content=CALL, headers={"content-range": "0-8/9"})
        assert (status, "FIRST-LAST/SIZE" in message) == (400, True)
        snake = await world.client.post(UPLOAD, params={"recording_id": "up-2"}, content=CALL, headers=WAV)
        assert snake.json()["recording"]["name"] == "tenants/acme/recordings/up-2"


async def test_an_id_that_is_no_text_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        for wanted in (b'"\\ud800"', b'"\xc3\xa4"', b"5"):
            answer = await world.client.post(
                UPLOAD,
                params={"uploadType": "resumable"},
                content=b'{"recordingId": %s}' % wanted,
                headers={"content-type": "application/json"},
            )
            assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


async def test_only_those_who_may_are_let_in(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        await world.client.post(UPLOAD, params={"recordingId": "up-1"}, content=CALL, headers=WAV)

        async def asked(key: str, method: str, path: str) -> int:
            headers = {**WAV, "authorization": f"Bearer {key}"}
            body = CALL if method == "POST" else None
            return (await world.anybody.request(method, path, headers=headers, content=body)).status_code

        assert await asked("nobody", "POST", UPLOAD) == 401
        assert await asked("viewer", "POST", UPLOAD) == 403
        assert await asked("other", "POST", UPLOAD) == 404
        assert await asked("nobody", "GET", f"{HERE}:download") == 401
        assert await asked("viewer", "GET", f"{HERE}:download") == 200
        foreign = await asked("other", "GET", f"{HERE}:download")
        nothing = await asked("other", "GET", "/v1/tenants/acme/recordings/none:download")
        assert (foreign, nothing) == (404, 404)
        assert await asked("member", "PATCH", UPLOAD) == 405
        assert await asked("member", "POST", f"{HERE}:download") == 405


async def test_parts_are_put_together(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        url = await world.started(recordingId="up-1", sha256=DIGEST)
        assert url == f"http://127.0.0.1:{world.port}{UPLOAD}?uploadId=up-1"
        size = len(CALL)
        empty = await world.put(url, b"", f"bytes */{size}")
        assert (empty.status_code, empty.headers.get("range")) == (308, None)
        first = await world.put(url, CALL[:30_000], "bytes 0-29999/*")
        assert (first.status_code, first.headers["range"]) == (308, "bytes=0-29999")
        too_far = await world.put(url, CALL[40_000:], f"bytes 40000-{size - 1}/{size}")
        assert (too_far.status_code, too_far.headers["range"]) == (308, "bytes=0-29999")
        last = await world.put(url, CALL[30_000:], f"bytes 30000-{size - 1}/{size}")
        assert last.status_code == 200, last.text
        assert last.json()["recording"]["sha256"] == DIGEST
        known = await world.put(url, b"", f"bytes */{size}")
        assert known.json() == last.json()
        assert world.files() == ["t.acme/r.up-1"]


async def test_a_put_without_a_range_is_the_whole(tmp_path: Path) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(CALL), 10_000):
            yield CALL[at : at + 10_000]

    async with serving(tmp_path) as world:
        told = await world.client.put(await world.started(recordingId="up-1"), content=CALL)
        assert told.json()["recording"]["sha256"] == DIGEST
        untold = await world.client.put(await world.started(recordingId="up-2"), content=chunks())
        assert untold.json()["existing"]


async def test_an_upload_goes_on_after_both_services_restarted(tmp_path: Path) -> None:
    size = len(CALL)
    async with serving(tmp_path) as world:
        url = await world.started(recordingId="up-1")
        await world.put(url, CALL[:30_000], f"bytes 0-29999/{size}")
    async with serving(tmp_path) as world:
        url = f"{UPLOAD}?uploadId=up-1"
        there = await world.put(url, b"", f"bytes */{size}")
        assert (there.status_code, there.headers["range"]) == (308, "bytes=0-29999")
        last = await world.put(url, CALL[30_000:], f"bytes 30000-{size - 1}/{size}")
        assert last.json()["recording"]["sha256"] == DIGEST


async def test_what_came_before_the_sender_hung_up_is_kept(tmp_path: Path) -> None:
    size = len(CALL)
    async with serving(tmp_path) as world:
        url = await world.started(recordingId="up-1")
        _, writer = await asyncio.open_connection("127.0.0.1", world.port)
        head = (
            f"PUT {UPLOAD}?uploadId=up-1 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer member\r\n"
            f"content-length: {size}\r\ncontent-range: bytes 0-{size - 1}/{size}\r\n\r\n"
        )
        writer.write(head.encode() + CALL[:20_000])
        await writer.drain()
        await asyncio.sleep(0.2)
        writer.close()
        async with asyncio.timeout(10):
            while "range" not in (there := await world.put(url, b"", f"bytes */{size}")).headers:
                await asyncio.sleep(0.05)
        offset = int(there.headers["range"].rpartition("-")[2]) + 1
        assert 0 < offset <= 20_000
        last = await world.put(url, CALL[offset:], f"bytes {offset}-{size - 1}/{size}")
        assert last.json()["recording"]["sha256"] == DIGEST


async def test_an_upload_is_cancelled(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        url = await world.started(recordingId="up-1")
        await world.put(url, CALL[:30_000], "bytes 0-29999/*")
        assert (await world.client.delete(url)).status_code == 204
        assert world.files() == []
        assert (await world.put(url, b"", "bytes */*")).status_code == 404
        bad = await world.put(await world.started(), b"abc", "bytes 5-2/9")
        assert reason(bad) == (400, "BAD_CONTENT_RANGE")
        short = await world.put(await world.started(), b"abc", "bytes 0-8/9")
        assert reason(short) == (400, "BAD_CONTENT_RANGE")


async def test_googles_own_library_uploads(tmp_path: Path) -> None:
    """The sender is google-resumable-media, over a requests session."""
    media = pytest.importorskip("google.resumable_media.requests")
    import io

    import requests

    async with serving(tmp_path) as world:
        session = requests.Session()
        session.trust_env = False
        session.headers["authorization"] = "Bearer member"
        at = f"http://127.0.0.1:{world.port}{UPLOAD}?uploadType=resumable"
        body = CALL * 10 + bytes(700_000)

        def send() -> Any:
            upload = media.ResumableUpload(at, 256 * 1024)
            upload.initiate(session, io.BytesIO(body), {"recordingId": "up-1"}, "audio/wav")
            while not upload.finished:
                answer = upload.transmit_next_chunk(session)
            return answer.json()

        done = await asyncio.to_thread(send)
        assert done["recording"]["sha256"] == hashlib.sha256(body).hexdigest()


async def test_ranges_conditions_and_heads(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        await world.client.post(UPLOAD, params={"recordingId": "up-1"}, content=CALL, headers=WAV)
        size, path = len(CALL), f"{HERE}:download"

        async def get(method: str = "GET", **headers: str) -> httpx.Response:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return await world.client.request(method, path, headers=named)

        for asked, start, end in (
            ("bytes=0-0", 0, 1), ("bytes=10-19", 10, 20), (f"bytes={size - 3}-", size - 3, size),
            ("bytes=-5", size - 5, size), (f"bytes=5-{size * 2}", 5, size), (f"bytes=-{size * 2}", 0, size),
        ):  # fmt: skip
            part = await get(range=asked)
            assert (part.status_code, part.content) == (206, CALL[start:end]), asked
            assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
            assert part.headers["content-length"] == str(end - start)
        beyond = await get(range=f"bytes={size}-")
        assert reason(beyond) == (416, "RANGE_NOT_SATISFIABLE")
        assert beyond.headers["content-range"] == f"bytes */{size}"
        for odd in ("bytes=5-2", "bytes=0-1,4-5", "lines=1-2", "bytes=-"):
            assert (await get(range=odd)).status_code == 200, odd
        assert (await get(range="bytes=0-4", if_range=f'"{DIGEST}"')).status_code == 206
        assert (await get(range="bytes=0-4", if_range='"other"')).status_code == 200
        assert (await get(if_none_match=f'"x", "{DIGEST}"')).status_code == 304
        head = await get("HEAD", range="bytes=0-4")
        assert (head.status_code, head.headers["content-length"], head.content) == (200, str(size), b"")


async def test_a_link_needs_no_key_and_ends(tmp_path: Path) -> None:
    from trunkline.audio.v1 import recording_service_pb2 as pb
    from trunkline.audio.v1.recording_service_pb2_grpc import RecordingServiceStub

    async with serving(tmp_path) as world:
        await world.client.post(UPLOAD, params={"recordingId": "up-1"}, content=CALL, headers=WAV)
        await world.client.post(
            UPLOAD, params={"recordingId": "up-2"}, content=sounds.wav(sounds.tone(1)), headers=WAV
        )
        channels = Channels(world.gateway)
        stub = RecordingServiceStub(channels.get(world.audio_address))
        request = pb.CreateDownloadLinkRequest(name="tenants/acme/recordings/up-1")
        request.lifetime.FromSeconds(60)
        path = (await stub.CreateDownloadLink(request)).path
        whole = await world.anybody.get(path)
        assert (whole.status_code, whole.content) == (200, CALL)
        part = await world.anybody.get(path, headers={"range": "bytes=5-9"})
        assert (part.status_code, part.content) == (206, CALL[5:10])
        token = path.partition("link=")[2]
        other = "A" if token[-9] != "A" else "B"
        for changed in (token[:-2], token[:-9] + other + token[-8:], "x" + token, "", "a.b.c", "x" * 5_000):
            assert reason(await world.anybody.get(f"{HERE}:download?link={changed}")) == (403, "LINK_INVALID")
        # A link is one recording's: whether another is there, it does not tell.
        for other in ("up-2", "none"):
            answer = await world.anybody.get(path.replace("up-1:", f"{other}:"))
            assert reason(answer) == (403, "LINK_INVALID")
        assert (await world.anybody.get(path.replace("acme", "globex"))).status_code == 403
        service = world.gateway.service_token("acme")
        assert (await world.anybody.get(f"{HERE}:download?link={service}")).status_code == 403
        assert (await world.anybody.post(path)).status_code == 405
        world.now[0] += timedelta(hours=1)
        assert reason(await world.anybody.get(path)) == (410, "LINK_EXPIRED")
        world.now[0] -= timedelta(hours=1)
        await stub.DeleteRecording(pb.DeleteRecordingRequest(name="tenants/acme/recordings/up-1"))
        assert reason(await world.anybody.get(path)) == (410, "LINK_GONE")
        await world.client.post(UPLOAD, params={"recordingId": "up-1"}, content=CALL, headers=WAV)
        assert reason(await world.anybody.get(path)) == (410, "LINK_GONE"), "another recording of the same id"
        await channels.close()


async def test_a_large_body_is_passed_on_within_the_edges_bounds(tmp_path: Path) -> None:
    """Of bodies that are held the edge takes 1 MB here; this one is 4 MB."""
    body = CALL + bytes(4 << 20)
    limits = EdgeLimits(body_bytes=1 << 20, body_bytes_per_address=1 << 20)
    async with serving(tmp_path, limits) as world:
        done = await world.client.post(UPLOAD, content=body, headers=WAV)
        assert done.json()["recording"]["sizeBytes"] == str(len(body))
        # Another path's body is held, and counted as before.
        try:
            refused = (await world.client.post("/v1/other", content=body)).status_code
        except httpx.TransportError:  # its answer came while the body was still being written
            refused = 503
        assert refused == 503


async def test_a_sender_that_stops_is_ended(tmp_path: Path) -> None:
    limits = EdgeLimits(quiet_seconds=0.5)
    async with serving(tmp_path, limits) as world:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        head = f"POST {UPLOAD} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer member\r\ncontent-type: audio/wav\r\n"
        writer.write(f"{head}content-length: {len(CALL)}\r\n\r\n".encode() + CALL[:30_000])
        async with asyncio.timeout(15):
            assert b"BODY_TOO_SLOW" in await reader.read()
        writer.close()
        async with asyncio.timeout(10):
            while world.files():
                await asyncio.sleep(0.05)


@given(
    st.binary(max_size=40) | st.from_regex(rb"bytes=[0-9]{0,20}-[0-9]{0,20}", fullmatch=True),
    st.integers(0, 100),
)
def test_a_range_is_within_the_bytes_or_none(header: bytes, size: int) -> None:
    try:
        found = asked_range(header, size)
    except Unsatisfiable:
        return
    if found is not None:
        assert 0 <= found[0] < found[1] <= size


@given(
    st.binary(max_size=60)
    | st.from_regex(rb"bytes ([0-9]{1,20}-[0-9]{1,20}|\*)/([0-9]{1,20}|\*)", fullmatch=True)
)
def test_a_part_lies_within_its_whole_or_says_nothing(header: bytes) -> None:
    part = sent_part(header)
    if part is not None and not part.asks:
        assert part.start >= 0
        assert part.length > 0
        assert not part.total or part.start + part.length <= part.total
