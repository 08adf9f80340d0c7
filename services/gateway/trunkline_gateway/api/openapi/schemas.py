"""Messages as JSON Schema: what an answer holds, and what a request's body may hold."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from typing import Any

from google.api import field_behavior_pb2 as behaviour
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from trunkline_gateway.api.transcode.described_rules import (
    Schema,
    behaviours,
    forbidden_values,
    is_needed,
    limits_of,
    limits_of_item,
    rules_of,
)

_INT32, _UINT32 = 2**31 - 1, 2**32 - 1
_SCALARS: dict[int, Schema] = {
    FieldDescriptor.CPPTYPE_INT32: {
        "type": "integer",
        "format": "int32",
        "minimum": -_INT32 - 1,
        "maximum": _INT32,
    },
    FieldDescriptor.CPPTYPE_UINT32: {"type": "integer", "format": "int64", "minimum": 0, "maximum": _UINT32},
    FieldDescriptor.CPPTYPE_INT64: {"type": "string", "pattern": "^-?[0-9]+$"},
    FieldDescriptor.CPPTYPE_UINT64: {"type": "string", "pattern": "^[0-9]+$"},
    FieldDescriptor.CPPTYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.CPPTYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.CPPTYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.CPPTYPE_STRING: {"type": "string"},
}
_LARGE = {
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"},
    "google.protobuf.FieldMask": {"type": "string", "format": "google-fieldmask"},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Value": {},
    "google.protobuf.ListValue": {"type": "array"},
    "google.protobuf.Any": {"type": "object", "properties": {"@type": {"type": "string"}}},
    "google.protobuf.Empty": {"type": "object"},
}
_WRAPPER = re.compile(r"google\.protobuf\.\w+Value")


class Use(enum.Enum):
    """What a schema is for; its value ends the schema's name."""

    ANSWER = ""
    WRITE = ".Write"
    """A body that states the whole: what is required must be there."""
    CHANGE = ".Change"
    """A PATCH's body, which states only what it changes."""


class Schemas:
    """The schemas of a document, by name; a message is described once for each use."""

    def __init__(self) -> None:
        """Begin with none."""
        self.by_name: dict[str, Schema] = {}

    def message(self, message: Descriptor, use: Use, without: Iterable[str] = ()) -> Schema:
        """Return the schema of a message, or a reference to it; `without` are fields that the path sets."""
        name = message.full_name
        if name in _WELL_KNOWN:
            return _WELL_KNOWN[name]
        if _WRAPPER.fullmatch(name):
            return self._single(message.fields_by_name["value"], use, {})
        named = name + use.value
        if named not in self.by_name:
            schema: Schema = {"type": "object", "properties": {}}
            self.by_name[named] = schema
            fields = [field for field in message.fields if field.name not in set(without)]
            if use is not Use.ANSWER:
                fields = [field for field in fields if not _is_read_only(field)]
                schema["additionalProperties"] = False
            # A PATCH states each field as a whole.
            inside = Use.WRITE if use is Use.CHANGE else use
            schema["properties"] = {
                field.json_name: self._property(field, inside, needed=_must_be_stated(field, use))
                for field in fields
            }
            needed = [field.json_name for field in fields if _must_be_stated(field, use)]
            if needed:
                schema["required"] = needed
        return _ref(named)

    def parameter(self, field: FieldDescriptor) -> Schema:
        """Return the schema of a query parameter."""
        return self._field(field, Use.WRITE)

    def field(self, field: FieldDescriptor, use: Use) -> Schema:
        """Return the schema of a field that is a whole body."""
        return self._field(field, use)

    def _property(self, field: FieldDescriptor, use: Use, *, needed: bool) -> Schema:
        found = self._field(field, use)
        if use is Use.ANSWER:
            # What is written only may be shown once, when the server made it.
            return {**found, "readOnly": True} if _is_read_only(field) else found
        if behaviour.INPUT_ONLY in behaviours(field):
            found = {**found, "writeOnly": True}
        if field.cpp_type in _LARGE and not field.is_repeated:
            # Bodies may state them either way, answers never do.
            least, most = _LARGE[field.cpp_type]
            found = {"minimum": least, "maximum": most, **found, "type": ["string", "integer"]}
        if not needed:
            return _or_null(found)
        # A text that must be there is not empty.
        is_text = found.get("type") == "string" and not found.keys() & {"pattern", "enum", "format"}
        return {"minLength": 1, **found} if is_text else found

    def _field(self, field: FieldDescriptor, use: Use) -> Schema:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value = field.message_type.fields_by_name["value"]
            return {"type": "object", "additionalProperties": self._single(value, use, {})}
        limits = {} if use is Use.ANSWER else limits_of(field)
        if not field.is_repeated:
            return self._single(field, use, limits)
        inner = {} if use is Use.ANSWER else limits_of_item(field)
        return {"type": "array", "items": self._single(field, use, inner), **limits}

    def _single(self, field: FieldDescriptor, use: Use, limits: Schema) -> Schema:
        if field.message_type is not None:
            return {**self.message(field.message_type, use), **limits}
        if field.enum_type is not None:
            return self._enum(field, use)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return {"type": "string", "contentEncoding": "base64", **limits}
        scalar = dict(_SCALARS[field.cpp_type])
        if "exclusiveMinimum" in limits:
            scalar.pop("minimum", None)
        if "exclusiveMaximum" in limits:
            scalar.pop("maximum", None)
        return {**scalar, **limits}

    def _enum(self, field: FieldDescriptor, use: Use) -> Schema:
        assert field.enum_type is not None
        values = field.enum_type.values
        if use is Use.ANSWER:
            name = field.enum_type.full_name
            self.by_name.setdefault(name, {"type": "string", "enum": [value.name for value in values]})
            return _ref(name)
        rules = rules_of(field)
        refused = forbidden_values(rules.repeated.items if field.is_repeated else rules)
        if behaviour.REQUIRED in behaviours(field):
            refused |= {0}
        taken = [value for value in values if value.number not in refused]
        return {
            "type": ["string", "integer"],
            "enum": [*(value.name for value in taken), *(value.number for value in taken)],
        }


_READ_ONLY = frozenset({behaviour.OUTPUT_ONLY, behaviour.IDENTIFIER})


def _is_read_only(field: FieldDescriptor) -> bool:
    return bool(behaviours(field) & _READ_ONLY)


def _must_be_stated(field: FieldDescriptor, use: Use) -> bool:
    return use is Use.WRITE and is_needed(field)


def _or_null(schema: Schema) -> Schema:
    """Return a schema that takes null too, which states nothing."""
    if "type" not in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    kinds: list[str] = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    more: dict[str, Any] = {"type": [*kinds, "null"]}
    if "enum" in schema:
        more["enum"] = [*schema["enum"], None]
    return {**schema, **more}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}
