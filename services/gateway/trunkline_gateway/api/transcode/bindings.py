"""Reads the google.api.http rules of services' descriptors into bindings of HTTP requests to RPCs."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from trunkline_gateway.api.transcode.router import PathRouter
from trunkline_gateway.api.transcode.shapes import Field, Shape, shape_of
from trunkline_gateway.api.transcode.template import Template, TemplateError, parse

_FIELD_MASK = "google.protobuf.FieldMask"
_HTTP_BODY = "google.api.HttpBody"
# The one member of the line that ends a stream which fails.
_FAILURE = "error"
CURSOR = "cursor"
"""The field of a stream's messages that says where to continue, and of the request that does."""


class RuleError(ValueError):
    """A google.api.http rule cannot be served; says which RPC's and why."""


@dataclass(frozen=True, slots=True)
class Binding:
    """One way to reach an RPC over HTTP; everything about it that does not depend on the request."""

    rpc: str
    """`/trunkline.tenant.v1.CallService/GetCall`."""
    package: str
    method: str
    template: Template
    request_class: Any
    response_class: Any
    variables: dict[str, tuple[Field, ...]]
    """The fields that the path sets, by dotted path."""
    whole_body: bool
    """`body: "*"`: what the path does not set is in the body."""
    body: Field | None
    response_body: Field | None
    update_mask: Field | None
    """Made from the body's fields when a PATCH gives none."""
    streams: bool
    """Whether the answer is a stream of messages."""
    resumes: bool
    """Whether a stream's messages have a `cursor`, with which a request continues after one of them."""
    takes_bytes: bool
    """Whether the body goes into a google.api.HttpBody as it comes, of any content type."""
    gives_bytes: bool
    """Whether the answer is what a google.api.HttpBody holds, or a stream of those."""

    @property
    def needs_body(self) -> bool:
        """Whether a request without a body is refused: where one can say something, `{}` says that nothing is meant."""
        if self.takes_bytes:
            return False
        if self.whole_body:
            return len(self.request_class.DESCRIPTOR.fields) > len(self.variables)
        return self.body is not None

    def __str__(self) -> str:
        return self.rpc


def services_of(packages: Iterable[str]) -> Iterator[ServiceDescriptor]:
    """Yield the services that the generated modules of packages declare."""
    for package in packages:
        module = importlib.import_module(package)
        for found in sorted(pkgutil.iter_modules(module.__path__), key=lambda found: found.name):
            if found.name.endswith("_service_pb2"):
                file: Any = importlib.import_module(f"{package}.{found.name}").DESCRIPTOR
                yield from file.services_by_name.values()


def bindings_of(
    services: Iterable[ServiceDescriptor], rules: Mapping[str, Any] = MappingProxyType({})
) -> list[Binding]:
    """Return the bindings of every method that has a rule. Raises RuleError for what cannot be served.

    `rules` are google.api.HttpRule by the full names of methods; they go before those of the descriptors.
    """
    found: list[Binding] = []
    for service in services:
        for method in service.methods:
            options = method.GetOptions()
            rule = rules.get(method.full_name)
            if rule is None:
                if not options.HasExtension(annotations_pb2.http):
                    continue
                rule = options.Extensions[annotations_pb2.http]
            found.append(_binding(method, rule))
            for more in rule.additional_bindings:
                if more.additional_bindings:
                    raise RuleError(f"{method.full_name}: additional bindings do not nest")
                found.append(_binding(method, more))
    return found


def router_of(bindings: Iterable[Binding]) -> PathRouter[Binding]:
    """Return the router over bindings. Raises RouteConflict when two take the same requests."""
    router: PathRouter[Binding] = PathRouter()
    for binding in bindings:
        router.add(binding.method, binding.template, binding)
    return router


def _binding(method: MethodDescriptor, rule: Any) -> Binding:
    def wrong(why: str) -> RuleError:
        return RuleError(f"{method.full_name}: {why}")

    if method.client_streaming:
        raise wrong("a stream of requests cannot be served over HTTP")
    verb, text = _pattern(rule)
    if not verb:
        raise wrong("the rule names no method and path")
    try:
        template = parse(text)
    except TemplateError as error:
        raise wrong(str(error)) from None
    asked, given = method.input_type, method.output_type
    shape = shape_of(asked)
    variables: dict[str, tuple[Field, ...]] = {}
    for variable in template.variables:
        fields = shape.path(variable.field)
        if fields is None:
            raise wrong(f"{asked.full_name} has no field {variable.field}")
        if fields[-1].repeated or fields[-1].message is not None:
            raise wrong(f"{variable.field} is not a single scalar, a path cannot set it")
        variables[variable.field] = fields
    body = None
    if rule.body not in ("", "*"):
        body = shape.get(rule.body)
        if body is None or rule.body in variables:
            raise wrong(f"{asked.full_name} has no field {rule.body} for the body")
    response_body = None
    if rule.response_body:
        response_body = shape_of(given).get(rule.response_body)
        if response_body is None:
            raise wrong(f"{given.full_name} has no field {rule.response_body} for the response's body")
    shown = given if response_body is None else response_body.message
    if method.server_streaming and shown is not None and _FAILURE in shown.fields_by_name:
        raise wrong(f"the last line of a stream that fails has {_FAILURE}: a message of it must not")
    service = method.containing_service
    return Binding(
        rpc=f"/{service.full_name}/{method.name}",
        package=service.file.package,
        method=verb,
        template=template,
        request_class=GetMessageClass(asked),
        response_class=GetMessageClass(given),
        variables=variables,
        whole_body=rule.body == "*",
        body=body,
        response_body=response_body,
        update_mask=_mask(shape) if verb == "PATCH" and body is not None and body.inside else None,
        streams=method.server_streaming,
        resumes=_has_cursor(asked) and shown is not None and _has_cursor(shown),
        takes_bytes=_is_bytes(asked if rule.body == "*" else body),
        gives_bytes=_is_bytes(given if response_body is None else response_body),
    )


def _has_cursor(message: Descriptor) -> bool:
    field = message.fields_by_name.get(CURSOR)
    return field is not None and field.type == field.TYPE_STRING and not field.is_repeated


def _is_bytes(held: Descriptor | Field | None) -> bool:
    """Say whether a message, or what a field holds, is a google.api.HttpBody."""
    if isinstance(held, Field):
        held = None if held.repeated else held.message
    return held is not None and held.full_name == _HTTP_BODY


def _pattern(rule: Any) -> tuple[str, str]:
    kind = rule.WhichOneof("pattern")
    if kind == "custom":
        return ("", "") if rule.custom.kind == "*" else (rule.custom.kind, rule.custom.path)
    return (kind.upper(), getattr(rule, kind)) if kind else ("", "")


def _mask(shape: Shape) -> Field | None:
    field = shape.get("update_mask")
    is_mask = field is not None and field.message is not None and field.message.full_name == _FIELD_MASK
    return field if is_mask else None
