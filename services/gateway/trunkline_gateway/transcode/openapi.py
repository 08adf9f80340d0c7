"""Describes `/v1` as an OpenAPI 3.1 document, derived from the same bindings that serve it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from google.api import field_behavior_pb2 as behaviour
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from trunkline_gateway.transcode.bindings import Binding
from trunkline_gateway.transcode.scalars import converter
from trunkline_gateway.transcode.template import ONE, REST

_ID = {"type": "string", "pattern": "^[a-z0-9-]{2,40}$"}
_ERROR = "google.rpc.Status"
_SCALARS: dict[int, dict[str, Any]] = {
    FieldDescriptor.CPPTYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.CPPTYPE_UINT32: {"type": "integer", "format": "int64", "minimum": 0},
    FieldDescriptor.CPPTYPE_INT64: {"type": "string", "pattern": "^-?[0-9]+$"},
    FieldDescriptor.CPPTYPE_UINT64: {"type": "string", "pattern": "^[0-9]+$"},
    FieldDescriptor.CPPTYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.CPPTYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.CPPTYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.CPPTYPE_STRING: {"type": "string"},
}
_WELL_KNOWN: dict[str, dict[str, Any]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"},
    "google.protobuf.FieldMask": {"type": "string"},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Value": {},
    "google.protobuf.ListValue": {"type": "array"},
    "google.protobuf.Any": {"type": "object", "properties": {"@type": {"type": "string"}}},
    "google.protobuf.Empty": {"type": "object"},
}
_WRAPPER = re.compile(r"google\.protobuf\.\w+Value")
_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")


def document(bindings: Iterable[Binding], *, title: str = "Trunkline", version: str = "1") -> dict[str, Any]:
    """Return the document. A `*` of a path is a parameter named after the segment before it: `{tenantsId}`."""
    schemas: dict[str, Any] = {_ERROR: _error()}
    paths: dict[str, dict[str, Any]] = {}
    for binding in bindings:
        path, parameters = _path(binding)
        paths.setdefault(path, {})[binding.method.lower()] = _operation(binding, parameters, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "description": "tl_..."}},
        },
    }


def _path(binding: Binding) -> tuple[str, list[dict[str, Any]]]:
    parts: list[str] = []
    parameters: list[dict[str, Any]] = []
    before = "path"
    for segment in binding.template.segments:
        if segment in (ONE, REST):
            name = f"{before}Id"
            schema = _ID if segment == ONE else {"type": "string"}
            parameters.append({"name": name, "in": "path", "required": True, "schema": schema})
            segment = "{" + name + "}"  # noqa: PLW2901 -- its place in the path
        parts.append(segment)
        before = segment
    verb = f":{binding.template.verb}" if binding.template.verb else ""
    return "/" + "/".join(parts) + verb, parameters


def _operation(binding: Binding, parameters: list[dict[str, Any]], schemas: dict[str, Any]) -> dict[str, Any]:
    _, service, method = binding.rpc.replace("/", ".").rsplit(".", 2)
    asked: Descriptor = binding.request_class.DESCRIPTOR
    given: Descriptor = binding.response_class.DESCRIPTOR
    bound = {fields[0].name for path, fields in binding.variables.items() if "." not in path}
    body: dict[str, Any] | None = None
    if binding.whole_body:
        body = _message(asked, schemas)
    elif binding.body is not None:
        body = _field(asked.fields_by_name[binding.body.name], schemas)
        bound.add(binding.body.name)
    if not binding.whole_body:
        parameters = [*parameters, *_query(asked, bound, schemas)]
    only = binding.response_body
    answer = _message(given, schemas) if only is None else _field(given.fields_by_name[only.name], schemas)
    operation: dict[str, Any] = {
        "operationId": f"{service}_{method}",
        "summary": _WORD.sub(" ", method).capitalize(),
        "tags": [service],
        "parameters": parameters,
        "responses": {
            "200": {"description": "OK", "content": {"application/json": {"schema": answer}}},
            "default": {
                "description": "A google.rpc.Status",
                "content": {"application/json": {"schema": _ref(_ERROR)}},
            },
        },
    }
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return operation


def _query(asked: Descriptor, bound: set[str], schemas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": field.json_name,
            "in": "query",
            "required": behaviour.REQUIRED in _behaviours(field),
            "schema": _field(field, schemas),
        }
        for field in asked.fields
        if field.name not in bound and not _is_map(field) and converter(field) is not None
    ]


def _message(message: Descriptor, schemas: dict[str, Any]) -> dict[str, Any]:
    name = message.full_name
    if name in _WELL_KNOWN:
        return _WELL_KNOWN[name]
    if _WRAPPER.fullmatch(name):
        return _single(message.fields_by_name["value"], schemas)
    if name not in schemas:
        schema = schemas[name] = {"type": "object", "properties": {}}
        schema["properties"] = {field.json_name: _described(field, schemas) for field in message.fields}
        needed = [field.json_name for field in message.fields if behaviour.REQUIRED in _behaviours(field)]
        # Of a resource: needed to create it; an answer has them, an update names only what it changes.
        if needed:
            schema["x-required-on-create"] = needed
    return _ref(name)


def _described(field: FieldDescriptor, schemas: dict[str, Any]) -> dict[str, Any]:
    kinds = _behaviours(field)
    more: dict[str, Any] = {}
    if behaviour.OUTPUT_ONLY in kinds or behaviour.IDENTIFIER in kinds:
        more["readOnly"] = True
    if behaviour.INPUT_ONLY in kinds:
        more["writeOnly"] = True
    return {**_field(field, schemas), **more}


def _field(field: FieldDescriptor, schemas: dict[str, Any]) -> dict[str, Any]:
    if _is_map(field):
        assert field.message_type is not None
        return {
            "type": "object",
            "additionalProperties": _single(field.message_type.fields_by_name["value"], schemas),
        }
    one = _single(field, schemas)
    return {"type": "array", "items": one} if field.is_repeated else one


def _single(field: FieldDescriptor, schemas: dict[str, Any]) -> dict[str, Any]:
    if field.message_type is not None:
        return _message(field.message_type, schemas)
    if field.enum_type is not None:
        enum = field.enum_type
        schemas.setdefault(enum.full_name, {"type": "string", "enum": [value.name for value in enum.values]})
        return _ref(enum.full_name)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return {"type": "string", "contentEncoding": "base64"}
    return _SCALARS[field.cpp_type]


def _error() -> dict[str, Any]:
    detail = {"type": "object", "properties": {"@type": {"type": "string"}}}
    status = {
        "code": {"type": "integer", "description": "The HTTP status"},
        "message": {"type": "string"},
        "status": {"type": "string", "description": "The name of the google.rpc.Code"},
        "details": {"type": "array", "items": detail},
    }
    return {"type": "object", "properties": {"error": {"type": "object", "properties": status}}}


def _behaviours(field: FieldDescriptor) -> frozenset[int]:
    return frozenset(field.GetOptions().Extensions[behaviour.field_behavior])


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}
