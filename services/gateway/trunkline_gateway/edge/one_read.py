"""Webhooks that came in one read. Most do, and to read one here takes half as long as a parser's calls take.

What is read here is what httptools reads from the same bytes, or nothing: whatever is unusual is left to the parser.
`test_gateway_one_read.py` compares the two.
"""

from __future__ import annotations

import re
from typing import NamedTuple

HOOK_PATH = r"/hooks/([a-z0-9-]{2,40})/([A-Za-z0-9_.-]{1,64})/?"
"""A pattern: the path of a source's webhooks, with the source's id and the event's type."""

BEGINNING = b"POST /hooks/"

# Providers send about a dozen fields; of more, the parser keeps count.
_MOST_FIELDS = 64
# Possessive, so that a head that fails late is not walked back through.
_HEAD = re.compile(
    rf"POST ({HOOK_PATH}) HTTP/1\.1\r\n"
    rf"((?:[A-Za-z0-9-]{{1,64}}+: (?! )[ -~]++(?<! )\r\n){{1,{_MOST_FIELDS}}}+)\r\n",
    re.ASCII,
)
_FIELD = re.compile(r"^([^:\n]+): ([^\n]+)\r\n", re.MULTILINE)
# What changes how a request is read, or how its connection goes on.
_UNUSUAL = frozenset({"expect", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"})
_GOES_ON = "keep-alive"


class WebhookRequest(NamedTuple):
    """A webhook's request."""

    target: str
    """The path and the query."""
    source_id: str
    event_type: str
    headers: dict[str, str]
    """By their names in lower case; of repeated ones the last."""
    body: bytes | None
    """None until it is read."""


def read_webhook(data: bytes) -> WebhookRequest | None:
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
    return WebhookRequest(target, source_id, event_type, headers, body)
