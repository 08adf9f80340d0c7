"""Describes `/v1` as an OpenAPI 3.1 document, derived from the bindings that serve it and the rules that validate."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from google.protobuf.descriptor import Descriptor

from trunkline_gateway.api.openapi.schemas import Schemas, Use
from trunkline_gateway.api.transcode.bindings import Binding
from trunkline_gateway.api.transcode.described_rules import Schema, is_needed, rules_of
from trunkline_gateway.api.transcode.scalars import converter
from trunkline_gateway.api.transcode.template import ONE, REST

_ID = "^[a-z0-9-]{2,40}$"
# Not google.rpc.Status: over HTTP an error is wrapped, and a Status inside an answer is not.
_ERROR = "trunkline.Error"
_ANY = "*/*"
_LINES = "application/x-ndjson"
_EVENTS = "text/event-stream"
_DESCRIPTION = """\
Formats of texts that a schema cannot describe: `page-token` is the `nextPageToken` of the page before, or empty;
`filter` is conditions joined by AND, such as `spam = false AND intent = quote_request`, over the fields that an answer
to a wrong one names; `google-fieldmask` is names of fields, joined by commas. Beside what the schema of a body names,
the fields that are marked read-only in answers may be sent back, and are ignored. An answer of the type
application/x-ndjson has a line for each message; if it fails, the last line is `{"error": {...}}`. As
text/event-stream, which the header Accept asks for, each message is the data of an event. An error of the
status 400 names each field and what is allowed.
"""
_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")


def document(bindings: Iterable[Binding], *, title: str = "Trunkline", version: str = "1") -> dict[str, Any]:
    """Return the document. A `*` of a path is a parameter named after the segment before it: `{tenantsId}`."""
    schemas = Schemas()
    schemas.by_name[_ERROR] = _error()
    paths: dict[str, dict[str, Any]] = {}
    for binding in bindings:
        path, parameters = _path(binding)
        paths.setdefault(path, {})[binding.method.lower()] = _operation(binding, parameters, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": _DESCRIPTION},
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": schemas.by_name,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "description": "tl_..."}},
        },
    }


def _path(binding: Binding) -> tuple[str, list[Schema]]:
    parts: list[str] = []
    parameters: list[Schema] = []
    before = "path"
    for at, segment in enumerate(binding.template.segments):
        if segment in (ONE, REST):
            name = f"{before}Id"
            schema = {"type": "string"}
            if segment == ONE:
                schema["pattern"] = _pattern(binding, at)
            parameters.append({"name": name, "in": "path", "required": True, "schema": schema})
            segment = "{" + name + "}"  # noqa: PLW2901 -- its place in the path
        parts.append(segment)
        before = segment
    verb = f":{binding.template.verb}" if binding.template.verb else ""
    return "/" + "/".join(parts) + verb, parameters


def _pattern(binding: Binding, at: int) -> str:
    """Return what the segment at a place may be: its part of the pattern of the field that it goes into."""
    for variable in binding.template.variables:
        if variable.start <= at and (variable.end is None or at < variable.end):
            message: Descriptor = binding.request_class.DESCRIPTOR
            for name in variable.field.split("."):
                field = message.fields_by_name[name]
                message = field.message_type or message
            parts = rules_of(field).string.pattern.removeprefix("^").removesuffix("$").split("/")
            if variable.end is not None and len(parts) == variable.end - variable.start:
                return f"^{parts[at - variable.start]}$"
    return _ID


def _operation(binding: Binding, parameters: list[Schema], schemas: Schemas) -> Schema:
    _, service, method = binding.rpc.replace("/", ".").rsplit(".", 2)
    asked: Descriptor = binding.request_class.DESCRIPTOR
    given: Descriptor = binding.response_class.DESCRIPTOR
    bound = {path.partition(".")[0] for path in binding.variables}
    if not binding.whole_body:
        named = bound | ({binding.body.name} if binding.body is not None else set())
        parameters = [*parameters, *_query(asked, named, schemas)]
    operation: Schema = {
        "operationId": f"{service}_{method}",
        "summary": _WORD.sub(" ", method).capitalize(),
        "tags": [service],
        "parameters": parameters,
        "responses": {
            "200": {"description": "OK", "content": _content(binding, given, schemas)},
            "default": {
                "description": "A google.rpc.Status",
                "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{_ERROR}"}}},
            },
        },
    }
    body = _body(binding, asked, bound, schemas)
    if body is not None:
        operation["requestBody"] = {
            "required": binding.needs_body,
            "content": {_ANY if binding.takes_bytes else "application/json": {"schema": body}},
        }
    return operation


def _content(binding: Binding, given: Descriptor, schemas: Schemas) -> Schema:
    """Return what an answer holds by content type; the schema of a stream is that of each line."""
    if binding.gives_bytes:
        return {_ANY: {"schema": {}}}
    only = binding.response_body
    schema = (
        schemas.message(given, Use.ANSWER)
        if only is None
        else schemas.field(given.fields_by_name[only.name], Use.ANSWER)
    )
    if binding.streams:
        return {_LINES: {"schema": schema}, _EVENTS: {"schema": {"type": "string"}}}
    return {"application/json": {"schema": schema}}


def _body(binding: Binding, asked: Descriptor, bound: set[str], schemas: Schemas) -> Schema | None:
    if binding.takes_bytes:
        return {}
    use = Use.CHANGE if binding.method == "PATCH" else Use.WRITE
    if binding.whole_body:
        return schemas.message(asked, use, without=bound)
    if binding.body is None:
        return None
    return schemas.field(asked.fields_by_name[binding.body.name], use)


def _query(asked: Descriptor, bound: set[str], schemas: Schemas) -> list[Schema]:
    return [
        {
            "name": field.json_name,
            "in": "query",
            "required": is_needed(field),
            "schema": schemas.parameter(field),
        }
        for field in asked.fields
        if field.name not in bound and converter(field) is not None
    ]


def _error() -> Schema:
    detail = {"type": "object", "properties": {"@type": {"type": "string"}}}
    status = {
        "code": {"type": "integer", "description": "The HTTP status"},
        "message": {"type": "string"},
        "status": {"type": "string", "description": "The name of the google.rpc.Code"},
        "details": {"type": "array", "items": detail},
    }
    return {"type": "object", "properties": {"error": {"type": "object", "properties": status}}}
