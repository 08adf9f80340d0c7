"""Decides whether a caller may make a call: kind and role by the access table, tenant by the request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from buf.validate import validate_pb2

from trunkline_runtime.api import resources
from trunkline_runtime.api.sentences import required_sentence
from trunkline_runtime.errors import InvalidArgument, NotFound, PermissionDenied, Unauthenticated
from trunkline_runtime.identity.access import ANY_SERVICE, Rule
from trunkline_runtime.identity.callers import Caller, CallerKind
from trunkline_runtime.identity.peers import peer_of
from trunkline_runtime.observe.logs import get_logger

log = get_logger(__name__)

# Of a name inside a resource, whose proto states no form.
_ANY_NAME = "is required: tenants/{tenant}/..."
_MOST_SHOWN = 200


def admit(caller: Caller, method: str, rule: Rule | None) -> Rule:
    """Check what is known before the request; return the rule. Raises Unauthenticated, PermissionDenied."""
    if caller.kind is CallerKind.ANONYMOUS:
        raise Unauthenticated(
            "credentials are required: authorization: Bearer tl_...", reason="CREDENTIALS_MISSING"
        )
    if rule is None:
        log.warning("method_without_rule", method=method)
        raise PermissionDenied(
            "no caller can call this method", reason="METHOD_NOT_LISTED", metadata={"method": method}
        )
    if not _kind_may(caller, rule):
        raise PermissionDenied(
            f"{_who(caller)} cannot call this method",
            reason="CALLER_NOT_ALLOWED",
            metadata={"method": method},
        )
    if caller.is_of_tenant and rule.role is not None and (caller.role is None or caller.role < rule.role):
        raise PermissionDenied(
            f"this method needs the role {rule.role.name.lower()}",
            reason="ROLE_TOO_LOW",
            metadata={"method": method, "needed_role": rule.role.name},
        )
    if caller.tenant is not None and not rule.resource:
        raise PermissionDenied(
            "a caller of one tenant cannot call this method",
            reason="CALLER_CONFINED",
            metadata={"method": method},
        )
    return rule


def admit_peer(names: Sequence[str], caller: Caller, method: str) -> None:
    """Check that the certificate of a connection may show this caller; `names` are its own. Raises ForeignPeer."""
    peer = peer_of(names)
    if peer is not None and peer.may_show(caller):
        return
    if peer is None:
        message = "the client's certificate names no service of the suite, or more than one"
        raise ForeignPeer(message, "PEER_UNKNOWN", names, caller, method)
    message = f"{_who(caller)} cannot call with the certificate of {peer.name}"
    raise ForeignPeer(message, "PEER_NOT_CALLER", names, caller, method)


def confine(
    caller: Caller, method: str, rule: Rule, request: Any, *, tenant: str | None = None
) -> str | None:
    """Check that every name in a request is of the caller's tenant, and of one tenant; return that one.

    `tenant` is what the first message of a stream was confined to: a later one names that tenant, or none. Raises
    ForeignName for one of another tenant, as if it were not there; InvalidArgument for what is no name.
    """
    if not rule.resource:
        return None
    for path in (rule.resource, *rule.also):
        name = _value(request, path)
        if not name:
            if tenant is not None:
                continue
            raise InvalidArgument(path, _required(request, path))
        named = resources.tenant_of(name, field=path)
        tenant = named if tenant is None else tenant
        if caller.tenant is not None and named != caller.tenant:
            raise ForeignName(caller, method, name)
        if named != tenant:
            first = "the first message" if path == rule.resource else rule.resource
            raise InvalidArgument(path, f"belongs to another tenant than {first}")
    return tenant


class ForeignPeer(PermissionDenied):
    """A caller that the certificate of its connection may not show."""

    def __init__(self, message: str, reason: str, names: Sequence[str], caller: Caller, method: str) -> None:
        super().__init__(message, reason=reason, metadata={"method": method})
        self.facts: dict[str, str | None] = {
            **caller.facts(),
            "reason": reason,
            "certificate": ", ".join(names)[:_MOST_SHOWN] or "none",
            "method": method,
        }


class ForeignName(NotFound):
    """A name of another tenant than the caller's: its caller is told no more than that it was not found."""

    def __init__(self, caller: Caller, method: str, name: str) -> None:
        super().__init__(name)
        self.facts: dict[str, str | None] = {
            **caller.facts(),
            "caller_tenant": caller.tenant,
            "resource": name,
            "method": method,
        }


def _kind_may(caller: Caller, rule: Rule) -> bool:
    match caller.kind:
        case CallerKind.USER | CallerKind.API_KEY:
            return rule.role is not None and caller.tenant is not None
        case CallerKind.OPERATOR:
            return rule.operators
        case CallerKind.SERVICE:
            return rule.services is ANY_SERVICE or caller.subject in rule.services
        case _:
            return False


def _who(caller: Caller) -> str:
    return {
        CallerKind.USER: "a user",
        CallerKind.API_KEY: "an API key",
        CallerKind.OPERATOR: "an operator",
        CallerKind.SERVICE: f"the service {caller.subject}",
    }.get(caller.kind, "this caller")


def _required(request: Any, path: str) -> str:
    """Return what a request without a name is told: the form of the name, as its rule in the proto has it."""
    *outer, last = path.split(".")
    for part in outer:
        request = getattr(request, part)
    options = request.DESCRIPTOR.fields_by_name[last].GetOptions()
    return required_sentence(options.Extensions[validate_pb2.field].string.pattern) or _ANY_NAME


def _value(request: Any, path: str) -> str:
    for part in path.split("."):
        request = getattr(request, part)
    return str(request)
