"""Checks requests by the protovalidate rules that stand in the protos, and that their times can be times."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from trunkline_runtime.api.sentences import sentence
from trunkline_runtime.api.times import odd_times
from trunkline_runtime.errors import InvalidArgument


def validator() -> Callable[[Any], None]:
    """Return a check that raises InvalidArgument naming every field that breaks a rule or is no time.

    Rules are compiled at a message's first use in the process and kept.
    """
    collect = _collector()

    def validate(message: Any) -> None:
        if not isinstance(message, Message):
            return  # of another suite's proto, which has no rules of ours
        problems = odd_times(message)  # the rules of a time can only be asked of one
        if not problems:
            problems = [(_path(v.proto.field), sentence(v, message)) for v in collect(message)]
        if problems:
            raise InvalidArgument.many(problems)

    return validate


@functools.cache
def _collector() -> Callable[[Any], Any]:
    """Return the process's own: to compile the rules of one message takes up to 10 ms."""
    from protovalidate import Validator  # noqa: PLC0415 -- heavy; only servers need it

    return Validator().collect_violations


def _path(path: Any) -> str:
    """Write a field path as google.rpc.BadRequest does: `call.facts[2].name`."""
    if path is None:
        return ""
    text = ""
    for element in path.elements:
        text += f".{element.field_name}" if text else element.field_name
        text += _subscript(element)
    return text


def _subscript(element: Any) -> str:
    subscript = element.subscript
    if subscript is None:
        return ""
    value = getattr(subscript, "value", subscript)
    return f"[{value!r}]" if isinstance(value, str) else f"[{value}]"
