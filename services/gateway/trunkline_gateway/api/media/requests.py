"""A request about the bytes of recordings: who makes it, and whether they may."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import orjson
from google.protobuf import json_format
from trunkline_runtime.errors import InvalidArgument
from trunkline_runtime.identity.callers import ANONYMOUS, Caller

from trunkline_gateway.api.problems import JSON
from trunkline_gateway.api.transcode.intake import Gone, Metadata
from trunkline_gateway.api.transcode.reader import merge, parse_json
from trunkline_gateway.api.transcode.shapes import meant, shape_of
from trunkline_gateway.edge.answers import PASSED_ON, Receive, Scope, Send
from trunkline_gateway.http_errors import Header

Answer = tuple[int, bytes | None, tuple[Header, ...]]
"""The status, the body and the headers of an answer; without a body it was sent already."""

MESSAGE_BYTES = 512 * 1024
"""The most bytes in one message to the audio service."""
_UNDERSCORED = re.compile("_([a-z])")


@dataclass(slots=True)
class MediaHttpRequest:
    """One request. `tenant` and `recording` are ids as the path has them, `recording` empty for an upload."""

    scope: Scope
    headers: Mapping[bytes, bytes]
    receive: Receive
    send: Send
    request_id: str
    tenant: str
    recording: str
    caller: Caller = ANONYMOUS
    authorization: str = ""

    @property
    def method(self) -> str:
        """GET and so on."""
        return str(self.scope["method"])

    @property
    def metadata(self) -> Metadata:
        """What the services are shown."""
        return (("authorization", self.authorization), ("x-request-id", self.request_id))

    def query(self, *allowed: str) -> dict[str, str]:
        """Return the parameters, by their JSON names. Raises InvalidArgument for others, and for what stands twice."""
        found: dict[str, str] = {}
        try:
            pairs = parse_qsl(
                self.scope["query_string"].decode("ascii"),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=20,
            )
        except ValueError:
            raise InvalidArgument("query", "cannot be read") from None
        for stated, value in pairs:
            name = json_name(stated)
            if name not in allowed:
                said = f"is not a parameter{meant(name, allowed)}; allowed: {', '.join(allowed)}"
                raise InvalidArgument(stated[:200], said, reason="UNKNOWN_PARAMETER")
            if name in found:
                raise InvalidArgument(stated, "is given more than once", reason="GIVEN_TWICE")
            found[name] = value
        return found

    async def body(self) -> AsyncIterator[bytes]:
        """Give the body as it comes, in pieces of at most MESSAGE_BYTES. Raises Gone when the client hangs up."""
        extension = self.scope.get("extensions", {}).get(PASSED_ON)
        if extension is not None:
            extension["begin"]()
        more = True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Gone
            chunk: bytes = message.get("body", b"")
            for start in range(0, len(chunk), MESSAGE_BYTES):
                yield chunk[start : start + MESSAGE_BYTES]
            more = message.get("more_body", False)


def json_name(name: str) -> str:
    """Return the JSON name of a field that may be written in either way."""
    return _UNDERSCORED.sub(lambda found: found[1].upper(), name)


def filled(message: Any, fields: Mapping[str, Any]) -> Any:
    """Set fields of a message by their JSON names. Raises InvalidArgument."""
    shape_of(message.DESCRIPTOR).check(fields)
    merge(dict(fields), message)
    return message


def json_answer(message: Any, status: int = 200, *headers: Header) -> Answer:
    """Return the answer that shows a message."""
    shown = json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
    return status, orjson.dumps(shown), (JSON, *headers)


def members(body: bytes, *allowed: str) -> dict[str, Any]:
    """Return the members of a JSON object, by their JSON names; none of an empty body. Raises InvalidArgument."""
    if not body.strip():
        return {}
    value = parse_json(body)
    if not isinstance(value, dict):
        raise InvalidArgument("body", "must be a JSON object", reason="BAD_JSON")
    for name in value:
        if json_name(name) not in allowed:
            said = f"is not a field{meant(name, allowed)}; allowed: {', '.join(allowed)}"
            raise InvalidArgument(name[:200], said, reason="UNKNOWN_FIELD")
    return {json_name(name): member for name, member in value.items()}
