"""A message's fields by both of their names, looked up once: requests are read without touching descriptors."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from trunkline_runtime.errors import InvalidArgument

from trunkline_gateway.api.transcode.scalars import Convert, check_own, converter, stated

# Their JSON is not an object of their fields.
_OWN_JSON = frozenset(
    f"google.protobuf.{name}"
    for name in (
        "Any", "Timestamp", "Duration", "FieldMask", "Struct", "Value", "ListValue", "DoubleValue", "FloatValue",
        "Int64Value", "UInt64Value", "Int32Value", "UInt32Value", "BoolValue", "StringValue", "BytesValue",
    )
)  # fmt: skip
_MOST_DEPTH = 64
# Those whose texts proto3's JSON mapping takes too: nobody writes them so, and no schema says what they may be.
_NUMBERS = frozenset(
    {
        FieldDescriptor.CPPTYPE_INT32,
        FieldDescriptor.CPPTYPE_UINT32,
        FieldDescriptor.CPPTYPE_FLOAT,
        FieldDescriptor.CPPTYPE_DOUBLE,
    }
)


OUTPUT_ONLY = field_behavior_pb2.OUTPUT_ONLY


class Field:
    """One field: how it is named, and how a text becomes its value."""

    __slots__ = (
        "behaviours",
        "choice",
        "convert",
        "is_map",
        "is_number",
        "is_text",
        "is_truth",
        "json_name",
        "message",
        "name",
        "oneof",
        "repeated",
    )

    def __init__(self, descriptor: FieldDescriptor) -> None:
        self.name = descriptor.name
        self.json_name = descriptor.json_name
        self.repeated = bool(descriptor.is_repeated)
        self.message: Descriptor | None = descriptor.message_type
        self.is_map = self.message is not None and self.message.GetOptions().map_entry
        self.convert: Convert | None = None if self.is_map else converter(descriptor)
        """None for what cannot be given as a text."""
        self.is_number = descriptor.cpp_type in _NUMBERS
        self.choice = tuple(v.name for v in descriptor.enum_type.values) if descriptor.enum_type else None
        self.is_text = descriptor.type == FieldDescriptor.TYPE_STRING
        self.is_truth = descriptor.cpp_type == FieldDescriptor.CPPTYPE_BOOL
        oneof = descriptor.containing_oneof
        self.oneof = oneof.name if oneof is not None and len(oneof.fields) > 1 else ""
        self.behaviours = frozenset(descriptor.GetOptions().Extensions[field_behavior_pb2.field_behavior])

    @property
    def inside(self) -> Shape | None:
        """The shape of what it holds, when its JSON is an object of fields."""
        if self.message is None or self.is_map or self.message.full_name in _OWN_JSON:
            return None
        return shape_of(self.message)

    def check_scalar(self, value: Any, path: str) -> None:
        """Check that a JSON value is of the type that the document says. Raises InvalidArgument."""
        if self.is_number and isinstance(value, (str, bool)):
            raise InvalidArgument(path, "must be a number", reason="BAD_VALUE")
        if self.is_text and not isinstance(value, str):
            raise InvalidArgument(path, "must be a string", reason="BAD_VALUE")
        if self.is_truth and not isinstance(value, bool):
            raise InvalidArgument(path, "must be true or false", reason="BAD_VALUE")
        if self.choice is None or (isinstance(value, int) and not isinstance(value, bool)):
            return
        if not isinstance(value, str) or value not in self.choice:
            said = f"{str(value)[:100]!r} is not one of {', '.join(stated(self.choice))}"
            raise InvalidArgument(path, said, reason="BAD_VALUE")

    def set(self, message: Any, texts: Sequence[str], said: str) -> None:
        """Set it from texts; `said` is how the caller wrote its name. Raises InvalidArgument for `said`."""
        if self.convert is None:
            raise InvalidArgument(said, "cannot be given in a URL", reason="NOT_A_PARAMETER")
        if len(texts) > 1 and not self.repeated:
            raise InvalidArgument(said, "is given more than once", reason="GIVEN_TWICE")
        if self.oneof and message.WhichOneof(self.oneof) not in (None, self.name):
            other = message.WhichOneof(self.oneof)
            raise InvalidArgument(said, f"cannot be given together with {other}", reason="GIVEN_TWICE")
        given = ""
        try:
            for text in texts:
                given = text
                value = self.convert(text)
                if self.repeated:
                    getattr(message, self.name).append(value)
                elif self.message is not None:
                    getattr(message, self.name).CopyFrom(value)
                else:
                    setattr(message, self.name, value)
        except (ValueError, TypeError) as error:
            raise InvalidArgument(said, f"{error}; it is {given[:100]!r}", reason="BAD_VALUE") from None


class Shape:
    """The fields of a message type, by name and by JSON name."""

    __slots__ = ("_fields",)

    def __init__(self, descriptor: Descriptor) -> None:
        fields = [Field(field) for field in descriptor.fields]
        self._fields = {f.json_name: f for f in fields} | {f.name: f for f in fields}

    def get(self, name: str) -> Field | None:
        """Return the field of either name."""
        return self._fields.get(name)

    def __getitem__(self, name: str) -> Field:
        return self._fields[name]

    def names(self) -> list[str]:
        """Return the JSON names of the fields that a caller may give."""
        return [n for n, f in self._fields.items() if n == f.json_name and OUTPUT_ONLY not in f.behaviours]

    def path(self, dotted: str) -> tuple[Field, ...] | None:
        """Return the fields along a dotted path, None when there is no such path."""
        found: list[Field] = []
        shape: Shape | None = self
        for name in dotted.split("."):
            field = shape.get(name) if shape is not None else None
            if field is None or (found and found[-1].repeated):
                return None
            found.append(field)
            shape = field.inside
        return tuple(found)

    def check(self, value: Any, path: str = "") -> None:
        """Check that a JSON value is an object of fields that exist, also inside. Raises InvalidArgument."""
        self._check(value, path, _MOST_DEPTH)

    def _check(self, value: Any, path: str, depth: int) -> None:
        if not isinstance(value, dict):
            raise InvalidArgument(path or "body", "must be a JSON object", reason="BAD_VALUE")
        if not depth:
            raise InvalidArgument(path, "is nested too deeply", reason="BAD_VALUE")
        seen: set[Field] = set()
        for name, inner in value.items():
            place = f"{path}.{name}" if path else name
            field = self._fields.get(name)
            if field is None:
                said = f"is not a field{meant(name, self.names())}; allowed: {', '.join(self.names())}"
                raise InvalidArgument(place[:200], said, reason="UNKNOWN_FIELD")
            if field in seen:
                raise InvalidArgument(place, "is set by both of its names", reason="GIVEN_TWICE")
            seen.add(field)
            if inner is None:
                continue
            if field.message is None:
                if field.repeated and not isinstance(inner, list):
                    raise InvalidArgument(place, "must be a JSON array", reason="BAD_VALUE")
                items = inner if field.repeated else [inner]
                for item in items:
                    field.check_scalar(item, place)
                continue
            inside = field.inside
            if inside is None:
                if not field.repeated and not field.is_map:
                    check_own(field.message.full_name, inner, place)
                continue
            if not field.repeated:
                inside._check(inner, place, depth - 1)
                continue
            if not isinstance(inner, list):
                raise InvalidArgument(place, "must be a JSON array", reason="BAD_VALUE")
            for i, item in enumerate(inner):
                inside._check(item, f"{place}[{i}]", depth - 1)


def meant(name: str, allowed: Sequence[str]) -> str:
    """Return the allowed name that a caller may have meant, as a part of a sentence; empty when none is near."""
    near = difflib.get_close_matches(name[:200], allowed, n=1)
    return f"; did you mean {near[0]}?" if near else ""


_shapes: dict[Descriptor, Shape] = {}


def shape_of(descriptor: Descriptor) -> Shape:
    """Return the shape of a message type; made once."""
    shape = _shapes.get(descriptor)
    if shape is None:
        shape = _shapes[descriptor] = Shape(descriptor)
    return shape


def leaf(message: Any, fields: Sequence[Field]) -> Any:
    """Return the message that holds the last field of a path; messages on the way come into being."""
    for field in fields[:-1]:
        message = getattr(message, field.name)
        message.SetInParent()
    return message
