"""A wire to a real server: a TCP proxy that passes each piece of an answer as a test says."""

import asyncio
import contextlib
from urllib.parse import urlsplit

PIECE_BYTES = 64


async def nothing(_passed):
    """Pass no byte of any answer."""
    return False


@contextlib.asynccontextmanager
async def wire(url, passes):
    """Give the URL of a wire to the server at `url`.

    `passes` is awaited before each piece of an answer, with the count of bytes that passed before; a piece for which
    it returns false is dropped. The wire ends at both ends when one of them ends.
    """
    target = urlsplit(url)

    async def serve(reader, writer):
        from_server, to_server = await asyncio.open_connection(target.hostname, target.port)
        await asyncio.gather(_carry(reader, to_server), _carry(from_server, writer, passes))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def _carry(reader, writer, passes=None):
    passed = 0
    with contextlib.closing(writer), contextlib.suppress(ConnectionError):
        while piece := await reader.read(PIECE_BYTES):
            if passes is None or await passes(passed):
                writer.write(piece)
                await writer.drain()
                passed += len(piece)
