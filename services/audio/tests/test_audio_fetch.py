"""Fetching: only where it may go, only as much as it may take, and "not yet" told from "never"."""

import asyncio
import re
import socket
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from importlib import metadata

import pytest
from audio_provider import Answer, provider
from trunkline_audio.media.addresses import KEPT_SECONDS, AddressPolicy, Resolver
from trunkline_audio.media.fetch import Fetcher, FetchError, FetchFailure, FetchLimits

LOOPBACK = AddressPolicy(["127.0.0.0/8"])


def resolving(**hosts):
    """A resolver for invented hosts; `calls` counts, a list of lists answers one after the other."""
    calls = []

    async def resolve(host, port):
        calls.append(host)
        name = host.replace(".", "_")
        if name not in hosts:
            raise socket.gaierror("unknown")
        found = hosts[name]
        if found and isinstance(found[0], list):
            return found.pop(0)
        return found

    resolve.calls = calls
    return resolve


async def get(url, headers=None, policy=LOOPBACK, resolver=None, **limits):
    options = {} if resolver is None else {"resolver": resolver}
    fetcher = Fetcher(policy, FetchLimits(**{"total_seconds": 10, **limits}), **options)
    async with fetcher.fetch(url, headers or {}) as fetched:
        return b"".join([chunk async for chunk in fetched.chunks()])


async def failure(*args, **kwargs):
    with pytest.raises(FetchError) as caught:
        await get(*args, **kwargs)
    return caught.value


REFUSED = [
    "127.0.0.1", "127.8.9.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254",
    "100.64.0.1",
    "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1", "2002:7f00:1::",
    "2002:a00:1::1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2001:0:7f00:1::80ff:fffe",
    "fec0::1", "feff::1", "64:ff9b:1::808:808", "192.0.0.1", "192.0.0.9", "192.0.0.171", "192.88.99.1",
    "::ffff:192.0.0.9", "2002:c058:6301::", "64:ff9b::c000:9", "::ffff:192.88.99.1", "2001:2::1", "2001:20::1",
    "100::1", "100:0:0:1::1", "3fff::1", "5f00::1", "4000::1", "192.31.196.1", "2620:4f:8000::1",
]  # fmt: skip


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_is_not_public_is_refused(address):
    assert not AddressPolicy().permits(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_a_public_address_is_permitted(address):
    assert AddressPolicy().permits(address)


def test_only_the_networks_that_were_named_are_let_through():
    policy = AddressPolicy(["10.0.0.0/8", "fd00::/8"])
    assert policy.permits("10.2.3.4")
    assert policy.permits("::ffff:10.2.3.4")
    assert policy.permits("fd00::1")
    assert not policy.permits("127.0.0.1")
    assert not policy.permits("192.168.0.1")


async def test_the_bytes_and_the_headers_arrive():
    async with provider() as there:
        there.answers["/a.wav"] = Answer(body=b"sound" * 1000)
        body = await get(
            there.url("/a.wav?token=1"),
            {"Authorization": "Basic x", "Host": "evil", "Range": "0-1", "User-Agent": "evil"},
        )
        assert body == b"sound" * 1000
        (path, headers) = there.requests[0]
        assert path == "/a.wav?token=1"
        assert headers["authorization"] == "Basic x"
        assert headers["host"] == f"127.0.0.1:{there.port}"
        assert "range" not in headers
        assert headers["user-agent"] == f"trunkline/{metadata.version('trunkline-runtime')}"


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:{port}/a", "http://2130706433:{port}/a", "http://0x7f.1:{port}/a", "http://[::ffff:127.0.0.1]:{port}/a",
     "http://localhost:{port}/a"],
)  # fmt: skip
async def test_loopback_is_refused_in_every_spelling_without_a_connection(url):
    async with provider() as there:
        there.answers["/a"] = Answer(body=b"secret")
        error = await failure(url.format(port=there.port), policy=AddressPolicy())
        assert error.failure is FetchFailure.ADDRESS_REFUSED
        assert there.requests == []


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://h/x", "gopher://h/", "http:///x", "data:,x", "//h/x", "x"]
)
async def test_only_http_and_https_are_fetched(url):
    assert (await failure(url)).failure in {FetchFailure.ADDRESS_REFUSED, FetchFailure.BAD_ANSWER}


async def test_a_name_with_one_private_address_is_refused_whole():
    error = await failure(
        "http://mixed/", policy=AddressPolicy(), resolver=resolving(mixed=["8.8.8.8", "10.0.0.1"])
    )
    assert error.failure is FetchFailure.ADDRESS_REFUSED


async def test_the_address_that_was_checked_is_the_one_connected_to():
    """DNS rebinding: a second look-up would give the attacker's second answer; there is none."""
    async with provider() as there:
        there.answers["/a"] = Answer(body=b"public")
        resolver = resolving(rebind_test=[["127.0.0.1"], ["127.0.0.2"]])
        assert await get(there.url("/a", "rebind.test"), resolver=resolver) == b"public"
        assert resolver.calls == ["rebind.test"]
        assert there.requests[0][1]["host"] == f"rebind.test:{there.port}"


async def test_names_that_nobody_answers_for_hold_up_nothing_else(monkeypatch):
    """Their lookups last as long as their owner likes; the event loop's threads read and write everybody's bytes."""
    answered = threading.Event()

    def silent(*asked, **_more):
        answered.wait(20)
        raise socket.gaierror("no answer")

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    fetcher = Fetcher(LOOPBACK, FetchLimits(total_seconds=20))

    async def fetch():
        async with fetcher.fetch("http://tarpit.test/", {}):
            pass

    waiting = [asyncio.create_task(fetch()) for _ in range(40)]
    await asyncio.sleep(0.1)
    try:
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "read"), 10) == "read"
    finally:
        answered.set()
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        fetcher.close()
    assert {error.failure for error in ended} == {FetchFailure.UNREACHABLE}


async def test_a_name_is_looked_up_again_after_some_seconds(monkeypatch):
    now, asked = 0.0, []

    def answers(host, port, **_more):
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"192.0.2.{len(asked)}", port))]

    monkeypatch.setattr(socket, "getaddrinfo", answers)
    resolver = Resolver(1, clock=lambda: now)
    try:
        assert await resolver("host.test", 443) == await resolver("host.test", 443) == ["192.0.2.1"]
        assert await resolver("other.test", 443) == ["192.0.2.2"]
        now += KEPT_SECONDS
        assert await resolver("host.test", 443) == ["192.0.2.3"]
    finally:
        resolver.close()
    assert asked == ["host.test", "other.test", "host.test"]


async def test_each_redirect_is_checked_again():
    async with provider() as there:
        there.answers["/a"] = Answer(302, headers={"Location": f"http://inside:{there.port}/secret"})
        there.answers["/secret"] = Answer(body=b"secret")
        resolver = resolving(outside=["127.0.0.1"], inside=["127.0.0.2"])
        error = await failure(
            there.url("/a", "outside"), policy=AddressPolicy(["127.0.0.1/32"]), resolver=resolver
        )
        assert error.failure is FetchFailure.ADDRESS_REFUSED
        assert [path for path, _ in there.requests] == ["/a"]


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://x/y"])
async def test_a_redirect_to_another_scheme_is_refused(target):
    async with provider() as there:
        there.answers["/a"] = Answer(302, headers={"Location": target})
        assert (await failure(there.url("/a"))).failure is FetchFailure.ADDRESS_REFUSED


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_headers_follow_on_the_same_host_and_are_dropped_on_another(status):
    async with provider() as there:
        there.answers["/a"] = Answer(status, headers={"Location": "/b"})
        there.answers["/b"] = Answer(status, headers={"Location": f"http://other:{there.port}/c"})
        there.answers["/c"] = Answer(status, headers={"Location": f"http://first:{there.port}/d"})
        there.answers["/d"] = Answer(body=b"sound")
        resolver = resolving(first=["127.0.0.1"], other=["127.0.0.1"])
        assert await get(there.url("/a", "first"), {"X-Key": "k"}, resolver=resolver) == b"sound"
        assert [(path, headers.get("x-key")) for path, headers in there.requests] == [
            ("/a", "k"), ("/b", "k"), ("/c", None), ("/d", None),
        ]  # fmt: skip


async def test_headers_follow_to_no_other_port_scheme_or_spelling_of_the_host():
    async with provider() as there, provider() as beside:
        beside.answers["/b"] = Answer(body=b"sound")
        there.answers["/a"] = Answer(302, headers={"Location": beside.url("/b", "first")})
        resolver = resolving(first=["127.0.0.1"])
        assert await get(there.url("/a", "first"), {"X-Key": "k"}, resolver=resolver) == b"sound"
        assert "x-key" not in beside.requests[0][1]


async def test_what_an_answer_names_gets_the_headers_at_the_origin_that_was_ordered_only():
    async with provider() as there:
        there.answers["/same"] = Answer(302, headers={"Location": "/index"})
        there.answers["/other"] = Answer(302, headers={"Location": f"http://other:{there.port}/index"})
        there.answers["/index"] = Answer(body=b"{}")
        fetcher = Fetcher(
            LOOPBACK, FetchLimits(), resolver=resolving(first=["127.0.0.1"], other=["127.0.0.1"])
        )
        first, other = there.url("/sound", "first"), there.url("/sound", "other")
        for path, url, sent in [
            ("/same", first, {"X-Key": "k"}),
            ("/same", other, {}),
            ("/other", other, {}),  # another host asks for itself
            ("/other", first, {}),  # and does not choose what the credential opens
        ]:
            async with fetcher.fetch(there.url(path, "first"), {"X-Key": "k"}) as index:
                assert index.headers_for(index.resolved(url)) == sent, (path, url)


async def test_redirects_end():
    async with provider() as there:
        there.answers["/a"] = Answer(302, headers={"Location": "/a"})
        assert (await failure(there.url("/a"), max_redirects=3)).failure is FetchFailure.BAD_ANSWER
        assert len(there.requests) == 4


STATUSES = {
    202: "NOT_READY", 204: "NOT_READY", 404: "NOT_READY", 409: "NOT_READY", 425: "NOT_READY",
    429: "NOT_READY", 503: "NOT_READY", 408: "UNREACHABLE", 500: "UNREACHABLE", 502: "UNREACHABLE",
    504: "UNREACHABLE", 421: "UNREACHABLE", 423: "UNREACHABLE", 501: "UNREACHABLE", 511: "UNREACHABLE",
    526: "UNREACHABLE", 529: "UNREACHABLE", 599: "UNREACHABLE",
    401: "FORBIDDEN", 403: "FORBIDDEN", 410: "GONE", 451: "GONE", 400: "BAD_ANSWER", 418: "BAD_ANSWER",
    206: "BAD_ANSWER", 304: "BAD_ANSWER", 101: "BAD_ANSWER", 201: "BAD_ANSWER", 300: "BAD_ANSWER",
    600: "BAD_ANSWER", 999: "BAD_ANSWER",
}  # fmt: skip


@pytest.mark.parametrize(("status", "kind"), STATUSES.items())
async def test_each_status_means_retry_or_never(status, kind):
    async with provider() as there:
        there.answers["/a"] = Answer(status, headers={"Retry-After": "7"} if status == 429 else {})
        error = await failure(there.url("/a"))
        assert error.failure is FetchFailure[kind]
        assert error.failure.transient is (kind in {"NOT_READY", "UNREACHABLE"})
        assert error.retry_after == (7 if status == 429 else None)


@pytest.mark.parametrize("status", [100, 102, 103, 199, "099", "000", "1000", "abc", "20"])
async def test_a_status_that_is_no_answer_is_a_permanent_failure(status):
    async with provider() as there:
        there.answers["/a"] = Answer(status, headers={"Transfer-Encoding": "none"})
        assert (await failure(there.url("/a"))).failure is FetchFailure.BAD_ANSWER


async def test_a_switch_of_protocols_is_a_permanent_failure_that_says_so():
    async with provider() as there:
        headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
        there.answers["/a"] = Answer(101, body=b"\x81\x05hello", headers=headers)
        error = await failure(there.url("/a"))
        assert error.failure is FetchFailure.BAD_ANSWER
        assert "101" in str(error)


async def test_a_retry_date_is_understood():
    async with provider() as there:
        until = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
        there.answers["/a"] = Answer(503, headers={"Retry-After": until})
        assert (await failure(there.url("/a"))).retry_after == pytest.approx(90, abs=30)


@pytest.mark.parametrize(
    "said",
    [
        "\u00b2",
        "Mon, 20 Nov 99999999999999999999 10:00:00 GMT",
        "Mon, 20 Nov 2026 99999999999:00",
        "Mon, 20 Nov 2026 10:00:00 +9999",
        "(" * 20_000,
    ],
)
async def test_an_odd_retry_after_is_none(said):
    async with provider() as there:
        there.answers["/a"] = Answer(503, headers={"Retry-After": said})
        error = await failure(there.url("/a"))
        assert (error.failure, error.retry_after) == (FetchFailure.NOT_READY, None)


async def test_an_empty_answer_may_be_filled_later():
    async with provider() as there:
        there.answers["/a"] = Answer(200)
        found = (await failure(there.url("/a"))).failure
        assert found is FetchFailure.EMPTY
        assert found.transient


@pytest.mark.parametrize("told", [True, False], ids=["told", "streamed"])
async def test_too_many_bytes_are_cut_off(told):
    async with provider() as there:
        there.answers["/a"] = Answer(body=b"x" * 5000)
        if not told:
            body = b"1388\r\n" + b"x" * 5000 + b"\r\n0\r\n\r\n"
            there.answers["/a"] = Answer(body=body, headers={"Transfer-Encoding": "chunked"})
        assert len(await get(there.url("/a"), max_bytes=5000)) == 5000
        assert (await failure(there.url("/a"), max_bytes=4999)).failure is FetchFailure.TOO_LARGE


async def test_an_answer_that_is_cut_short_is_no_recording():
    async with provider() as there:
        there.answers["/a"] = Answer(body=b"x" * 5000, cut=True)
        assert (await failure(there.url("/a"))).failure is FetchFailure.UNREACHABLE


async def trickling(reader, writer):
    """Send a byte now and then of a thousand that are announced."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"x")
        await asyncio.sleep(0.02)


async def test_a_download_that_trickles_is_given_up_and_says_how_far_it_came():
    async with await asyncio.start_server(trickling, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a"
        error = await failure(url, total_seconds=1.0)
        assert error.failure is FetchFailure.UNREACHABLE
        assert re.fullmatch(
            r"the fetch took more than 1 s: only [1-9]\d? of 1000 bytes in \d\.\d s", str(error)
        )
        fetcher = Fetcher(LOOPBACK, FetchLimits())
        with pytest.raises(FetchError, match=r"more than 0\.2 s"):
            async with fetcher.fetch(url, {}, 0.2) as fetched:
                _ = [chunk async for chunk in fetched.chunks()]


async def test_an_answer_that_ends_or_falls_silent_says_how_far_it_came():
    async with provider() as there:
        there.answers["/a"] = Answer(body=b"x" * 5000, cut=True)
        error = str(await failure(there.url("/a")))
        told = r"the answer was cut short \(closed too early\) after 2500 of 5000 bytes in \d\.\d s"
        assert re.match(told, error), error


async def test_a_compressed_answer_is_not_unpacked():
    async with provider() as there:
        there.answers["/a"] = Answer(body=b"x" * 50, headers={"Content-Encoding": "gzip"})
        assert (await failure(there.url("/a"))).failure is FetchFailure.BAD_ANSWER
        assert there.requests[0][1]["accept-encoding"] == "identity"


async def test_a_provider_that_hangs_is_given_up():
    async with provider() as there:
        never = asyncio.Event()

        async def hang():
            await never.wait()

        there.answers["/a"] = hang
        assert (await failure(there.url("/a"), total_seconds=0.2)).failure is FetchFailure.UNREACHABLE
        assert (await failure(there.url("/a"), read_seconds=0.2)).failure is FetchFailure.UNREACHABLE
        never.set()


async def test_a_host_that_does_not_exist_or_listen_may_come_back():
    assert (await failure("http://nowhere/", resolver=resolving())).failure is FetchFailure.UNREACHABLE
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        assert (await failure(f"http://127.0.0.1:{port}/")).failure is FetchFailure.UNREACHABLE


async def test_no_message_shows_the_url():
    async with provider() as there:
        for status in (404, 500, 403, 400):
            there.answers["/secret-path"] = Answer(status)
            assert "secret" not in str(await failure(there.url("/secret-path?key=secret")))
