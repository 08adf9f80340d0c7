"""Webhooks that came whole, in one read. Most do, and to read one here takes half as long as a parser's calls take.

What is read here is what httptools reads from the same bytes, or nothing: whatever is unusual is left to the parser.
`test_gateway_whole.py` compares the two.
"""

from __future__ import annotations

import re
from typing import NamedTuple

POSTED = "trunkline.posted"
"""The key of a webhook that was read here, in its scope: whoever answers takes it out, so that its body goes.

Such a scope has neither headers nor a query of its own, and nothing is received.
"""

MOST_BYTES = 32 * 1024
"""Of a request that is read here."""

BEGINNING = b"POST /hooks/"

_HEAD = re.compile(
    r"POST (/hooks/([a-z0-9-]{2,40})/([A-Za-z0-9_.-]{1,64})/?) HTTP/1\.1\r\n"
    r"((?:[A-Za-z0-9-]{1,64}+: (?! )[ -~]++(?<! )\r\n){1,64}+)\r\n",  # possessive: it never walks back
    re.ASCII,
)
_FIELD = re.compile(r"^([^:\n]+): ([^\n]+)\r\n", re.MULTILINE)
# What changes how a request is read, or how its connection goes on.
_UNUSUAL = frozenset({"expect", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"})
_GOES_ON = "keep-alive"


class Posted(NamedTuple):
    """A webhook as it was posted."""

    target: str
    """The path and the query."""
    source_id: str
    event_type: str
    headers: dict[str, str]
    """By their names in lower case; of repeated ones the last."""
    body: bytes | None
    """None of one whose body was not read yet."""


def posted(data: bytes) -> Posted | None:
    """Return the webhook that these bytes are, no more and no less; None where a parser is to read them."""
    end = data.find(b"\r\n\r\n") + 4
    if end < 4:
        return None
    try:
        head = data[:end].decode("ascii")
    except UnicodeDecodeError:
        return None
    found = _HEAD.fullmatch(head)
    if found is None:
        return None
    target, source_id, event_type, lines = found.groups()
    fields = _FIELD.findall(lines)
    headers = {name.lower(): value for name, value in fields}
    if len(headers) != len(fields) or not _UNUSUAL.isdisjoint(headers):
        return None
    body = data[end:]
    if headers.get("content-length") != str(len(body)):
        return None
    if headers.get("connection", _GOES_ON).lower() != _GOES_ON:
        return None
    return Posted(target, source_id, event_type, headers, body)
