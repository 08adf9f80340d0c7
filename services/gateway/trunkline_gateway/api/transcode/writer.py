"""Writes an RPC's responses: as JSON, a stream of them as lines of JSON or as events, or the bytes that they hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import orjson
from google.api import field_behavior_pb2
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor

from trunkline_gateway.api.problems import JSON
from trunkline_gateway.api.transcode.bindings import CURSOR, Binding
from trunkline_gateway.api.transcode.shapes import shape_of
from trunkline_gateway.http_errors import Header

Written = tuple[tuple[Header, ...], bytes]
"""What the headers say of an answer or a part of one, and its bytes."""
Write = Callable[[Any], Written]

EVENT_STREAM = b"text/event-stream"
_LINES: Header = (b"content-type", b"application/x-ndjson")
_EVENTS: tuple[Header, ...] = ((b"content-type", EVENT_STREAM), (b"cache-control", b"no-cache"))
_LINE_ENDS = re.compile(r"[\r\n\0]")
_ANY_TYPE = b"application/octet-stream"
_MOST_TYPE_CHARACTERS = 256
_TYPE = re.compile(r"[!-.0-~]+/[!-~][ -~]*")

_Secrets = dict[str, "_Secrets | None"]
"""The INPUT_ONLY fields of a message type by JSON name (None), and the fields that lead to some."""


def writer(binding: Binding, *, events: bool = False) -> Write:
    """Return what writes the responses of a binding.

    Names are lowerCamelCase. Empty fields are written too, so that a reader needs no defaults, but for
    messages that are not set (proto3 JSON leaves them out) and for INPUT_ONLY fields: an empty `secret`
    would say that there is none. Each message of a stream is a line, or, with `events`, a server-sent event.
    """
    if binding.gives_bytes:
        return _bytes_writer(binding)
    secrets = _secrets(binding.response_class.DESCRIPTOR)
    only = binding.response_body.json_name if binding.response_body is not None else None
    kind: tuple[Header, ...] = (_LINES,) if binding.streams else (JSON,)
    headers, option = _EVENTS if events else kind, orjson.OPT_APPEND_NEWLINE if binding.streams else None

    def write(response: Any) -> Written:
        value: Any = json_format.MessageToDict(response, always_print_fields_with_no_presence=True)
        if secrets:
            _hide(value, secrets)
        shown = value if only is None else value.get(only)
        body = orjson.dumps(shown, option=option)
        return headers, event(body, shown.get(CURSOR, "") if binding.resumes else "") if events else body

    return write


def event(line: bytes, identity: str = "", kind: str = "") -> bytes:
    """Return a line of JSON as a server-sent event; without an id or a kind where these are empty."""
    head = (f"event: {kind}\n" if kind else "") + (
        f"id: {_LINE_ENDS.sub('', identity)}\n" if identity else ""
    )
    return head.encode() + b"data: " + line + b"\n"


def _bytes_writer(binding: Binding) -> Write:
    only = binding.response_body.name if binding.response_body is not None else None

    def write(response: Any) -> Written:
        held = response if only is None else getattr(response, only)
        kind: str = held.content_type
        fits = len(kind) <= _MOST_TYPE_CHARACTERS and _TYPE.fullmatch(kind) is not None
        content_type = kind.encode() if fits else _ANY_TYPE
        # A browser must not take a tenant's file for a page of the gateway's.
        return ((b"content-type", content_type), (b"x-content-type-options", b"nosniff")), held.data

    return write


def _secrets(descriptor: Descriptor) -> _Secrets:
    plans: dict[Descriptor, _Secrets] = {}
    found = _plan(descriptor, plans)
    for plan in plans.values():
        for name in [n for n, inside in plan.items() if inside is not None and not _leads(inside)]:
            del plan[name]
    return found


def _plan(descriptor: Descriptor, plans: dict[Descriptor, _Secrets]) -> _Secrets:
    """Return the plan of a type; one that holds itself has a plan that holds itself."""
    if descriptor in plans:
        return plans[descriptor]
    plan = plans[descriptor] = {}
    shape = shape_of(descriptor)
    for name in descriptor.fields_by_name:
        field = shape[name]
        if field_behavior_pb2.INPUT_ONLY in field.behaviours:
            plan[field.json_name] = None
        elif field.inside is not None and field.message is not None:
            plan[field.json_name] = _plan(field.message, plans)
    return plan


def _leads(plan: _Secrets, above: tuple[int, ...] = ()) -> bool:
    below = (*above, id(plan))
    return any(
        inside is None or (id(inside) not in below and _leads(inside, below)) for inside in plan.values()
    )


def _hide(value: Any, secrets: _Secrets) -> None:
    for name, inside in secrets.items():
        if inside is None:
            if not value.get(name):
                value.pop(name, None)
            continue
        held = value.get(name)
        for one in held if isinstance(held, list) else [held] if held else []:
            _hide(one, inside)
