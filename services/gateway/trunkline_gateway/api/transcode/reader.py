"""Makes an RPC's request of an HTTP request: the body first, then query parameters, then what the path says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl

from google.api import field_behavior_pb2
from google.protobuf import json_format
from trunkline_runtime.errors import InvalidArgument

from trunkline_gateway.api.transcode.bindings import Binding
from trunkline_gateway.api.transcode.shapes import leaf, meant, shape_of
from trunkline_gateway.json_bounds import MOST_DEPTH, TooMuch, check

_MOST_PARAMETERS = 200
_FAILED_FIELD = re.compile(r"Failed to parse (\w+) field: ")
_PLACE = re.compile(r" at [\w.\[\]\"]++$")
# An implied mask leaves them out: whoever sends back what GetX gave means the fields that can be changed.
_NOT_CHANGED = frozenset(
    {field_behavior_pb2.OUTPUT_ONLY, field_behavior_pb2.IDENTIFIER, field_behavior_pb2.IMMUTABLE}
)


def read(
    binding: Binding, values: dict[str, str], query: bytes, body: bytes, content_type: bytes = b""
) -> Any:
    """Return the request. Raises InvalidArgument that names the field, parameter or position."""
    request = binding.request_class()
    stated: Any = None
    if binding.takes_bytes:
        _hold(binding, request, body, content_type)
    elif binding.whole_body or binding.body is not None:
        stated = _body(binding, request, body)
    elif body.strip() not in (b"", b"{}"):
        raise InvalidArgument("body", "this method takes no body", reason="UNEXPECTED_BODY")
    masked = _query(binding, request, query)
    for path, text in values.items():
        _bind(binding, request, path, text)
    if binding.update_mask is not None and not masked and isinstance(stated, dict):
        request.update_mask.paths.extend(_implied_mask(binding, stated))
    return request


def _hold(binding: Binding, request: Any, body: bytes, content_type: bytes) -> None:
    """Put the body into the google.api.HttpBody that takes it."""
    held = request if binding.body is None else getattr(request, binding.body.name)
    held.SetInParent()
    held.content_type = content_type.decode("latin-1")
    held.data = body


def _body(binding: Binding, request: Any, body: bytes) -> Any:
    """Merge the body into the request, and return it as parsed; None when it is empty and may be."""
    if not body or body.isspace():
        if binding.needs_body:
            raise InvalidArgument(
                "body", "is required: a JSON object, or {} without parameters", reason="BODY_REQUIRED"
            )
        return None
    value = parse_json(body)
    field = binding.body
    if field is None:
        shape_of(request.DESCRIPTOR).check(value)
        merge(value, request)
        return value
    if value is None:
        raise InvalidArgument("body", "must not be null", reason="BODY_REQUIRED")
    if field.inside is not None and not field.repeated:
        _refuse_parameters(binding, request, value)
        field.inside.check(value, field.json_name)
        getattr(request, field.name).SetInParent()
    merge({field.json_name: value}, request)
    return value


def _refuse_parameters(binding: Binding, request: Any, value: Any) -> None:
    """Refuse a query parameter in the body. Raises InvalidArgument."""
    assert binding.body is not None
    inside, around = binding.body.inside, shape_of(request.DESCRIPTOR)
    assert inside is not None
    of_path = {fields[0] for fields in binding.variables.values()}
    for name in value if isinstance(value, dict) else ():
        field = around.get(name)
        if field is None or field is binding.body or inside.get(name) is not None:
            continue
        place = f"{binding.body.json_name}.{name}"
        where = "is set by the path" if field in of_path else f"is a query parameter: ?{field.json_name}=..."
        raise InvalidArgument(place, f"is not a field of the body; it {where}", reason="UNKNOWN_FIELD")


def parse_json(body: bytes) -> Any:
    """Return a JSON document. Raises InvalidArgument with line, column and what is wrong there."""
    try:
        value = _decode(body.decode())
        check(value, body)
    except UnicodeDecodeError as error:
        raise InvalidArgument("body", f"is not UTF-8 at byte {error.start}", reason="BAD_JSON") from None
    except json.JSONDecodeError as error:
        said = error.msg.removesuffix(" at")  # "Unterminated string starting at"
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidArgument("body", f"is not JSON: {said} at {where}", reason="BAD_JSON") from None
    except RecursionError:
        raise InvalidArgument(
            "body", f"must be nested at most {MOST_DEPTH} deep", reason="BAD_JSON"
        ) from None
    except TooMuch as error:
        raise InvalidArgument("body", str(error), reason="TOO_MUCH_JSON") from None
    except ValueError as error:
        raise InvalidArgument("body", f"is not JSON: {error}"[:200], reason="BAD_JSON") from None
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name[:100]!r} occurs twice in one object")
        found[name] = value
    return found


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is written as a string")


_decode: Callable[[str], Any] = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_constant).decode


def merge(value: Any, request: Any) -> None:
    """Set fields of a message from a JSON object. Raises InvalidArgument that names the field."""
    try:
        json_format.ParseDict(value, request)
    except (json_format.ParseError, ValueError, TypeError, AttributeError, RecursionError) as error:
        text = str(error)
        path = ".".join(_FAILED_FIELD.findall(text)) or "body"
        said = _PLACE.sub("", _FAILED_FIELD.sub("", text).partition("\n")[0])
        raise InvalidArgument(path[:200], said[:200] or "cannot be read", reason="BAD_VALUE") from None


def _query(binding: Binding, request: Any, query: bytes) -> bool:
    """Set what the query parameters say; return whether they gave the update mask."""
    if not query:
        return False
    masked = False
    shape = shape_of(request.DESCRIPTOR)
    for name, texts in _parameters(query).items():
        fields = shape.path(name)
        if fields is None:
            taken = {binding.body, *(fields[0] for fields in binding.variables.values())}
            others = [n for n in shape.names() if not binding.whole_body and shape[n] not in taken]
            said = f"is not a parameter{meant(name, others)}; allowed: {', '.join(others) or 'none'}"
            raise InvalidArgument(name[:200], said, reason="UNKNOWN_PARAMETER")
        if binding.whole_body or fields[0] is binding.body:
            raise InvalidArgument(name, "belongs in the body", reason="NOT_A_PARAMETER")
        if fields in binding.variables.values():
            raise InvalidArgument(name, "is set by the path", reason="NOT_A_PARAMETER")
        fields[-1].set(leaf(request, fields), texts, name)
        masked = masked or fields[0].name == "update_mask"
    return masked


def _parameters(query: bytes) -> dict[str, list[str]]:
    try:
        pairs: Iterable[tuple[str, str]] = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_PARAMETERS
        )
    except UnicodeDecodeError:
        raise InvalidArgument("query", "is not UTF-8", reason="BAD_QUERY") from None
    except ValueError:
        raise InvalidArgument(
            "query", f"has more than {_MOST_PARAMETERS} parameters", reason="BAD_QUERY"
        ) from None
    found: dict[str, list[str]] = {}
    for name, text in pairs:
        found.setdefault(name, []).append(text)
    return found


def _bind(binding: Binding, request: Any, path: str, text: str) -> None:
    fields = binding.variables[path]
    message, field = leaf(request, fields), fields[-1]
    before = getattr(message, field.name)
    field.set(message, [text], path)
    after = getattr(message, field.name)
    if before and before != after:
        raise InvalidArgument(path, "in the body differs from the path", reason="PATH_MISMATCH")


def _implied_mask(binding: Binding, stated: dict[str, Any]) -> list[str]:
    """Return the fields that a PATCH's body states and that can be changed: each is replaced as a whole."""
    inside = binding.body.inside if binding.body is not None else None
    assert inside is not None
    bound = {fields[1].name for fields in binding.variables.values() if fields[0] is binding.body}
    fields = [inside[name] for name in stated]
    return [
        field.name
        for field in fields
        if not field.behaviours & _NOT_CHANGED and field.name not in bound and field.name != "etag"
    ]
