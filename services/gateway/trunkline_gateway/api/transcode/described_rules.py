"""The limits of a field as JSON Schema says them, read from the protovalidate rules that requests are checked by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from buf.validate import validate_pb2
from google.api import field_behavior_pb2 as behaviour
from google.protobuf import duration_pb2
from google.protobuf.descriptor import FieldDescriptor
from trunkline_runtime.api.paging import MOST_PAGE_SIZE
from trunkline_runtime.rpc.operations import MOST_FILTER

Schema = dict[str, Any]

_NUMBERS = frozenset({"int32", "int64", "uint32", "uint64", "float", "double"})
_BOUNDS = {
    "gte": "minimum",
    "gt": "exclusiveMinimum",
    "lte": "maximum",
    "lt": "exclusiveMaximum",
}
# What no schema can say; the description of the field does.
_FORMATS = {"page_token": "page-token", "filter": "filter"}


def behaviours(field: FieldDescriptor) -> frozenset[int]:
    """Return the google.api.field_behavior values of a field."""
    return frozenset(field.GetOptions().Extensions[behaviour.field_behavior])


# Of messages that are Google's: what their servicers check.
_LIST, _WAIT = "google.longrunning.ListOperationsRequest", "google.longrunning.WaitOperationRequest"
_GOOGLES: Mapping[str, Any] = {
    f"{_LIST}.page_size": validate_pb2.FieldRules(int32=validate_pb2.Int32Rules(gte=0, lte=MOST_PAGE_SIZE)),
    f"{_LIST}.filter": validate_pb2.FieldRules(string=validate_pb2.StringRules(max_len=MOST_FILTER)),
    f"{_WAIT}.timeout": validate_pb2.FieldRules(
        duration=validate_pb2.DurationRules(
            gte=duration_pb2.Duration(), lte=duration_pb2.Duration(seconds=315_576_000_000)
        )
    ),
}


def rules_of(field: FieldDescriptor) -> Any:
    """Return the buf.validate.FieldRules of a field."""
    if field.full_name in _GOOGLES:
        return _GOOGLES[field.full_name]
    return field.GetOptions().Extensions[validate_pb2.field]


def is_needed(field: FieldDescriptor) -> bool:
    """Tell whether a request must state a field."""
    return behaviour.REQUIRED in behaviours(field) or bool(rules_of(field).required)


def limits_of(field: FieldDescriptor) -> Schema:
    """Return the limits of a list, of its length only, or of a single value."""
    rules = rules_of(field)
    if not field.is_repeated:
        return limits(rules, field)
    found: Schema = {}
    if rules.repeated.HasField("min_items"):
        found["minItems"] = rules.repeated.min_items
    if rules.repeated.HasField("max_items"):
        found["maxItems"] = rules.repeated.max_items
    return found


def limits_of_item(field: FieldDescriptor) -> Schema:
    """Return the limits of a list's items."""
    return limits(rules_of(field).repeated.items, field)


def limits(rules: Any, field: FieldDescriptor) -> Schema:
    """Return what rules say of one value."""
    kind = rules.WhichOneof("type")
    found: Schema = {}
    if kind == "string":
        found = _text(rules.string)
    elif kind in _NUMBERS:
        number = getattr(rules, kind)
        found = {name: getattr(number, rule) for rule, name in _BOUNDS.items() if number.HasField(rule)}
        if found and rules.ignore == validate_pb2.IGNORE_IF_ZERO_VALUE:
            found = {"anyOf": [{"const": 0}, found]}
    elif kind == "duration":
        found = _duration(rules.duration)
    if field.name in _FORMATS and field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        found["format"] = _FORMATS[field.name]
    return found


def forbidden_values(rules: Any) -> frozenset[int]:
    """Return the numbers of an enum that are refused."""
    return frozenset(rules.enum.not_in) if rules.WhichOneof("type") == "enum" else frozenset()


def _text(rules: Any) -> Schema:
    found: Schema = {}
    if rules.HasField("min_len"):
        found["minLength"] = rules.min_len
    if rules.HasField("max_len"):
        found["maxLength"] = rules.max_len
    if rules.HasField("pattern"):
        found["pattern"] = rules.pattern
    if getattr(rules, "in"):
        found["enum"] = list(getattr(rules, "in"))
    return found


def _duration(rules: Any) -> Schema:
    """Write bounds of whole seconds, which is all that our rules have, as a pattern."""
    least = rules.gte.seconds if rules.HasField("gte") else rules.gt.seconds if rules.HasField("gt") else None
    if not rules.HasField("lte") or least != 0:
        return {}
    most = rules.lte.seconds
    pattern = rf"(?:{up_to(most - 1)})(?:\.[0-9]{{1,9}})?|{most}(?:\.0{{1,9}})?"
    more_than = r"(?!0(?:\.0{1,9})?s$)" if rules.HasField("gt") else ""
    return {"pattern": f"^{more_than}(?:{pattern})s$"}


def up_to(most: int) -> str:
    """Return a pattern of the whole numbers from 0 to `most`, without zeros before them."""
    digits = str(most)
    parts = ["0"] if most else []
    parts += [f"[1-9][0-9]{{{length - 1}}}" for length in range(1, len(digits))]
    for at, digit in enumerate(digits):
        least = 1 if at == 0 else 0
        if int(digit) > least:
            rest = len(digits) - at - 1
            parts.append(f"{digits[:at]}[{least}-{int(digit) - 1}]" + (f"[0-9]{{{rest}}}" if rest else ""))
    return "|".join([*parts, digits])
