"""Writes an RPC's response as JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from google.api import field_behavior_pb2
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor

from trunkline_gateway.api.transcode.bindings import Binding
from trunkline_gateway.api.transcode.shapes import shape_of

Write = Callable[[Any], bytes]

_Secrets = dict[str, "_Secrets | None"]
"""The INPUT_ONLY fields of a message type by JSON name (None), and the fields that lead to some."""


def writer(binding: Binding) -> Write:
    """Return what writes the responses of a binding.

    Names are lowerCamelCase. Empty fields are written too, so that a reader needs no defaults, but for
    messages that are not set (proto3 JSON leaves them out) and for INPUT_ONLY fields: an empty `secret`
    would say that there is none.
    """
    secrets = _secrets(binding.response_class.DESCRIPTOR)
    only = binding.response_body.json_name if binding.response_body is not None else None

    def write(response: Any) -> bytes:
        value: Any = json_format.MessageToDict(response, always_print_fields_with_no_presence=True)
        if secrets:
            _hide(value, secrets)
        return orjson.dumps(value if only is None else value.get(only))

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
