"""The control plane: the real Envoy follows it, tells it what it can't take, and serves on without it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
import pytest
from envoy_data_plane.envoy.config.core.v3 import Node
from envoy_data_plane.envoy.service.discovery.v3 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)
from envoy_data_plane.google.rpc import Status
from trunkline_cli.edge import bootstrap, commands, endpoints, layout
from trunkline_cli.edge.control import CDS, EDS, LDS, RDS, ControlPlane, snapshot

from tests.envoys import Envoy, needed

pytestmark = pytest.mark.timeout(300)  # Envoy's types take their time on a busy machine


@contextlib.asynccontextmanager
async def upstream(name: str) -> AsyncIterator[str]:
    """A gateway that answers everything with its name; yields its address."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                body = name.encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@contextlib.asynccontextmanager
async def serving(plane: ControlPlane, port: int = 0) -> AsyncIterator[int]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    plane.add_to(server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


def edge_of(folder: Path, gateway: str) -> layout.Edge:
    made = layout.Edge(
        listen="127.0.0.1:0",
        admin="127.0.0.1:0",
        certificate=folder / "tls.crt",
        key=folder / "tls.key",
        endpoints={**layout.standard_endpoints(), layout.GATEWAY_HTTP: (gateway,)},
    )
    commands.certify(made)
    return made


async def until(look: Callable[[], Any], seconds: float = 30.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end
        await asyncio.sleep(0.02)
    return found


@pytest.mark.parametrize("delta", [True, False], ids=["delta", "world"])
async def test_the_real_envoy_follows_and_serves_on_alone(tmp_path: Path, delta: bool) -> None:
    needed()
    async with contextlib.AsyncExitStack() as stack:
        first, second = [await stack.enter_async_context(upstream(name)) for name in ("first", "second")]
        edge = edge_of(tmp_path, first)
        plane = ControlPlane(snapshot(edge))
        down = await stack.enter_async_context(contextlib.AsyncExitStack())
        port = await down.enter_async_context(serving(plane))
        config = bootstrap.written(bootstrap.dynamic(edge, f"127.0.0.1:{port}", delta=delta))
        envoy = stack.enter_context(Envoy(tmp_path, config, edge.certificate))
        await asyncio.to_thread(envoy.ready)
        client = await asyncio.to_thread(lambda: stack.enter_context(envoy.client()))

        async def answer() -> str:
            return await asyncio.to_thread(lambda: client.post("/hooks/a/b", content=b"{}").text)

        async def follows(name: str) -> None:
            end = time.monotonic() + 30
            while await answer() != name:
                assert time.monotonic() < end

        await follows("first")
        for kind in (CDS, EDS, LDS, RDS):
            await until(
                lambda kind=kind: plane.states.get(("edge", kind)) and plane.states["edge", kind].acknowledged
            )
        before = plane.states["edge", EDS].acknowledged

        moved = dataclasses.replace(edge, endpoints={**edge.endpoints, layout.GATEWAY_HTTP: (second,)})
        plane.publish(snapshot(moved, (edge, plane.snapshot)))
        await follows("second")  # how soon, the bench `edge` measures
        await until(lambda: plane.states["edge", EDS].acknowledged != before)

        # What it can't take is told, and what it had stays.
        wrong = dataclasses.replace(moved, certificate=tmp_path / "nowhere.crt")
        plane.publish(snapshot(wrong))
        refused = await until(lambda: plane.states["edge", LDS].refused)
        assert "nowhere.crt" in refused
        assert await answer() == "second"
        plane.publish(snapshot(moved))
        await until(lambda: not plane.states["edge", LDS].refused)

        # Without a control plane it serves on, and it follows the next one.
        await down.aclose()
        for _ in range(10):
            assert await answer() == "second"
        other = ControlPlane(snapshot(edge))
        await stack.enter_async_context(serving(other, port))
        await follows("first")


def stub(channel: grpc.aio.Channel, method: str, request: Any, answer: Any) -> Any:
    return channel.stream_stream(method, request_serializer=bytes, response_deserializer=answer.parse)()


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[tuple[ControlPlane, grpc.aio.Channel, layout.Edge]]:
    edge = edge_of(tmp_path, "127.0.0.1:1")
    made = ControlPlane(snapshot(edge))
    async with serving(made) as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield made, channel, edge


def moved_to(edge: layout.Edge, address: str) -> layout.Edge:
    return dataclasses.replace(edge, endpoints={**edge.endpoints, "tenant": (address,)})


async def test_each_type_has_a_service_of_its_own(plane: Any) -> None:
    made, channel, _ = plane
    for service, what, kind in (
        ("cluster", "Clusters", CDS), ("endpoint", "Endpoints", EDS), ("listener", "Listeners", LDS),
        ("route", "Routes", RDS),
    ):  # fmt: skip
        name = f"/envoy.service.{service}.v3.{service.title()}DiscoveryService/Stream{what}"
        stream = stub(channel, name, DiscoveryRequest, DiscoveryResponse)
        names = sorted(made.snapshot[kind])
        await stream.write(DiscoveryRequest(node=Node(id="n"), resource_names=names))
        answer = await stream.read()
        assert (answer.type_url, len(answer.resources)) == (kind, len(names))
        stream.cancel()


async def test_the_world_is_sent_again_only_when_it_changes_and_a_refusal_is_not_answered(plane: Any) -> None:
    made, channel, edge = plane
    name = "/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints"
    stream = stub(channel, name, DiscoveryRequest, DiscoveryResponse)
    await stream.write(DiscoveryRequest(node=Node(id="n"), resource_names=["tenant"]))
    first = await stream.read()
    ack = DiscoveryRequest(
        version_info=first.version_info, response_nonce=first.nonce, resource_names=["tenant"]
    )
    await stream.write(ack)
    await until(lambda: made.states.get(("n", EDS)))
    assert made.states["n", EDS].acknowledged == first.version_info
    # Another cluster's endpoints are none of its business.
    made.publish(snapshot(dataclasses.replace(edge, endpoints={**edge.endpoints, "ai": ("127.0.0.1:9",)})))
    made.publish(snapshot(moved_to(edge, "127.0.0.1:7")))
    second = await stream.read()
    assert second.version_info != first.version_info
    await stream.write(
        DiscoveryRequest(
            version_info=first.version_info,
            response_nonce=second.nonce,
            resource_names=["tenant"],
            error_detail=Status(code=3, message="no"),
        )
    )
    await until(lambda: made.states["n", EDS].refused == "no")
    # A stale nonce says nothing.
    await stream.write(DiscoveryRequest(response_nonce=first.nonce, resource_names=["tenant"]))
    made.publish(snapshot(moved_to(edge, "127.0.0.1:8")))
    third = await stream.read()
    assert third.version_info not in (first.version_info, second.version_info)
    stream.cancel()


async def test_delta_sends_what_changed_what_is_gone_and_nothing_that_is_known(plane: Any) -> None:
    made, channel, edge = plane
    name = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
    stream = stub(channel, name, DeltaDiscoveryRequest, DeltaDiscoveryResponse)
    known = {one: version.digest for one, version in made.snapshot[EDS].items() if one != "ai"}
    await stream.write(
        DeltaDiscoveryRequest(
            node=Node(id="n"),
            type_url=EDS,
            resource_names_subscribe=["tenant", "ai", "nobody"],
            initial_resource_versions={"tenant": known["tenant"]},
        )
    )
    first = await stream.read()
    assert [one.name for one in first.resources] == ["ai"]
    assert first.removed_resources == ["nobody"]
    await stream.write(DeltaDiscoveryRequest(type_url=EDS, response_nonce=first.nonce))
    made.publish(snapshot(moved_to(edge, "127.0.0.1:7")))
    second = await stream.read()
    assert [one.name for one in second.resources] == ["tenant"]
    # Whoever asks again is told again.
    await stream.write(DeltaDiscoveryRequest(type_url=EDS, resource_names_subscribe=["ai"]))
    assert [one.name for one in (await stream.read()).resources] == ["ai"]
    await stream.write(DeltaDiscoveryRequest(type_url=EDS, resource_names_unsubscribe=["tenant"]))
    stream.cancel()


async def test_a_file_is_followed_and_damage_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "edge.json"
    file.write_text(json.dumps({"connections": 1}))
    edges = endpoints.watched(file, sleep=lambda _: asyncio.sleep(0.01))
    assert (await anext(edges)).connections == 1
    coming = asyncio.ensure_future(anext(edges))
    for text in ("{", '{"port": 1}', "[" * 100_000, '{"listen": 8443}', '{"endpoints": {"ai": 5}}'):
        file.write_text(text)
        await asyncio.sleep(0.1)
        assert not coming.done()
    file.write_text(json.dumps({"connections": 22}))
    assert (await coming).connections == 22
    await edges.aclose()


async def test_an_edge_that_nothing_can_be_made_of_changes_nothing(plane: Any) -> None:
    made, _, edge = plane
    before, moved = made.snapshot, moved_to(edge, "127.0.0.1:7")

    async def edges() -> AsyncIterator[layout.Edge]:
        yield moved_to(edge, "127.0.0.1:x")
        assert made.snapshot is before
        yield moved

    await made.follow(edges(), edge)
    assert made.snapshot == snapshot(moved)


def piece(name: str, service: str, port: str, number: int, *hosts: tuple[str, bool]) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
        "ports": [{"name": port, "port": number}],
        "endpoints": [{"addresses": [host], "conditions": {"ready": ready}} for host, ready in hosts],
    }


@pytest.mark.parametrize(
    "damaged",
    [
        "[" * 100_000, "[]", '{"items": 5}', '{"items": [{"metadata": {"name": "t"}, "ports": 5}], "metadata": {}}',
        '{"items": [{"metadata": null}]}',
    ],
)  # fmt: skip
async def test_an_answer_that_is_damaged_is_asked_for_again(tmp_path: Path, damaged: str) -> None:
    answers = [damaged, '{"metadata": {"resourceVersion": "7"}, "items": []}']
    client = httpx.AsyncClient(
        transport=httpx.MockTransport(lambda _: httpx.Response(200, text=answers.pop(0))),
        base_url="http://api",
    )
    async with client:
        edges = endpoints.of_kubernetes(layout.Edge(), "trunkline", client, sleep=lambda _: asyncio.sleep(0))
        assert (await anext(edges)).endpoints["tenant"] == ()
        await edges.aclose()
    assert answers == []


def test_outside_of_a_pod_the_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(commands.Misuse, match=r"nowhere/ca\.crt: No such file.*pod"):
        endpoints.cluster_client(tmp_path / "nowhere")


async def test_endpoint_slices_are_listed_watched_and_listed_again_after_a_failure(tmp_path: Path) -> None:
    tenant = piece("t1", "tenant", "grpc", 50051, ("10.0.0.1", True), ("10.0.0.2", False))
    gateway = piece("g1", "gateway-http", "http", 8080, ("fd00::1", True))
    grown = piece("t1", "tenant", "grpc", 50051, ("10.0.0.1", True), ("10.0.0.2", True))
    events = [{"type": "MODIFIED", "object": grown}, {"type": "DELETED", "object": gateway}]
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.query.decode())
        if "watch=1" in asked[-1]:
            return httpx.Response(200, text="\n".join(map(json.dumps, events)))
        if len(asked) == 3:
            return httpx.Response(500)
        return httpx.Response(200, json={"metadata": {"resourceVersion": "7"}, "items": [tenant, gateway]})

    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://api")
    async with client:
        edges = endpoints.of_kubernetes(edge_of(tmp_path, "127.0.0.1:1"), "trunkline", client, sleep=sleep)
        one = await anext(edges)
        assert one.endpoints["tenant"] == ("10.0.0.1:50051",)
        assert one.endpoints[layout.GATEWAY_HTTP] == ("[fd00::1]:8080",)
        assert (await anext(edges)).endpoints["tenant"] == ("10.0.0.1:50051", "10.0.0.2:50051")
        assert (await anext(edges)).endpoints[layout.GATEWAY_HTTP] == ()
        assert (await anext(edges)).endpoints["tenant"] == ("10.0.0.1:50051",)
        await edges.aclose()
    assert slept == [1.0]
    assert "resourceVersion=7" in asked[1]


def test_the_control_plane_is_not_served_to_the_network(tmp_path: Path) -> None:
    with pytest.raises(commands.Misuse, match="loopback"):
        commands.serve(tmp_path / "edge.json", "0.0.0.0:18000", None)
