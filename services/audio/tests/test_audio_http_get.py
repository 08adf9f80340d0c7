"""One GET: what counts as an answer and as its end, what cannot be sent, and whose certificate is taken."""

import asyncio
import contextlib
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from trunkline_audio.media.http_get import CannotConnect, CheckedAddress, NoAnswer, get, tls_context

NAME = "recordings.test"


@contextlib.asynccontextmanager
async def saying(answer, tls=None):
    """A server that reads a request's head, says these bytes and closes."""
    asked = []

    async def serve(reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            for part in answer if isinstance(answer, list) else [answer]:
                writer.write(part)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        server.close()


async def body(port, *, name=None, tls=None, headers=None, target="/a?b=%20"):
    answer = await get(
        CheckedAddress("127.0.0.1", port, name),
        target,
        headers or {},
        tls=tls or tls_context(),
        connect_seconds=2,
        read_seconds=2,
    )
    try:
        return answer.status, b"".join([chunk async for chunk in answer.chunks()])
    finally:
        answer.close()


WHOLE = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
    "until it closes": b"HTTP/1.0 200 OK\r\n\r\nabc",
    "after a promise": b"HTTP/1.1 103 Early\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    "with more behind it": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 404 X\r\n\r\nrubbish",
    "in pieces": [b"HTTP/1.1 2", b"00 OK\r\nContent-Le", b"ngth: 3\r\n\r\na", b"bc"],
}


@pytest.mark.parametrize("answer", WHOLE.values(), ids=WHOLE)
async def test_the_body_is_whole(answer):
    async with saying(answer) as (port, _):
        assert await body(port) == (200, b"abc")


NONE = {
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "too short": b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc",
    "no last chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "only a promise": b"HTTP/1.1 103 Early\r\n\r\n",
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 1_000_000,
}


@pytest.mark.parametrize("answer", NONE.values(), ids=NONE)
async def test_it_is_no_answer(answer):
    async with saying(answer) as (port, _):
        with pytest.raises(NoAnswer):
            await body(port)


async def test_the_request_is_sent_as_given():
    async with saying(WHOLE["length"]) as (port, asked):
        await body(port, headers={"Host": NAME, "Authorization": "Token token=ä"})
    expected = (
        f"GET /a?b=%20 HTTP/1.1\r\nHost: {NAME}\r\nAuthorization: Token token=ä\r\nConnection: close\r\n\r\n"
    )
    assert asked == [expected.encode("latin-1")]


@pytest.mark.parametrize(
    "headers",
    [{"A": "b\r\nHost: evil"}, {"A": "b\n"}, {"A": "b\0"}, {"A b": "c"}, {"A:": "b"}, {"": "b"}, {"A": "€"}],
)
async def test_a_header_that_would_be_two_is_not_sent(headers):
    async with saying(WHOLE["length"]) as (port, asked):
        with pytest.raises(ValueError, match=r"cannot be sent|codec"):
            await body(port, headers=headers)
    assert asked == []


def certificate(folder, name):
    """A certificate that vouches for itself; contexts of a server that shows it and a client that takes it."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.pem").write_bytes(private + pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.pem")
    client = ssl.create_default_context(cadata=pem.decode())
    return server, client


async def test_tls_is_with_the_host_that_was_named_and_nobody_else(tmp_path):
    server, client = certificate(tmp_path, NAME)
    async with saying(WHOLE["length"], server) as (port, asked):
        assert await body(port, name=NAME, tls=client) == (200, b"abc")
        with pytest.raises(CannotConnect, match="SSLCertVerificationError"):
            await body(port, name="other.test", tls=client)
        with pytest.raises(CannotConnect, match="SSLCertVerificationError"):
            await body(port, name=NAME)
    assert len(asked) == 1


async def test_chunks_of_one_byte_are_pieces_of_what_is_read():
    """Each piece costs the service as much as a large one, and a host may send half a billion of them."""
    told = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 10_000 + b"0\r\n\r\n"
    async with saying(told) as (port, _):
        place = CheckedAddress("127.0.0.1", port, None)
        answer = await get(place, "/", {}, tls=tls_context(), connect_seconds=2, read_seconds=2)
        try:
            pieces = [piece async for piece in answer.chunks()]
        finally:
            answer.close()
    assert b"".join(pieces) == b"a" * 10_000
    assert len(pieces) < 1_000
