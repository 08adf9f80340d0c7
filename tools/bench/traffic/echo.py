"""The baseline of the ingest bench: a bare ASGI echo on the same server, in a process of its own.

On uvicorn's protocol as it is shipped: that the gateway's answers leave in one write is the gateway's own doing. With
`one-write` as a second argument it is on the gateway's protocol, for who wants to know what that alone is worth.
"""

from __future__ import annotations

import sys
from typing import Any

import uvloop
from trunkline_gateway.edge.front import HttpServer
from trunkline_gateway.edge.stock import HttpToolsProtocol

BODY = b'{"receiptId":"' + b"0" * 32 + b'"}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Read the body and answer 202."""
    message = await receive()
    while message.get("more_body"):
        message = await receive()
    await send({"type": "http.response.start", "status": 202, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})


async def main() -> None:
    """Serve on the address that was given, until killed."""
    address, *one_write = sys.argv[1:]
    protocol = None if one_write else HttpToolsProtocol
    await HttpServer(echo, address, 1.0, protocol=protocol).run_until_stopped()


if __name__ == "__main__":
    uvloop.run(main())
