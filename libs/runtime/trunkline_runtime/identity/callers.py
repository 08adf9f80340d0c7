"""Who is asking: the caller of the RPC that runs."""

from __future__ import annotations

import contextvars
import enum
from dataclasses import dataclass


class CallerKind(enum.Enum):
    """How a caller proved who it is."""

    SERVICE = "service"
    OPERATOR = "operator"
    USER = "user"
    API_KEY = "api_key"
    ANONYMOUS = "anonymous"


class Role(enum.IntEnum):
    """What a user or an API key may do; each includes the one before; numbered as in trunkline.tenant.v1.Role."""

    VIEWER = 1
    MEMBER = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller.

    `subject` tells it from others of its kind: a service's name, a user's id, an API key's id; None for an operator.
    `tenant` is the bare id that it is confined to, None when it is not confined. `role` is a user's or a key's.
    """

    kind: CallerKind
    subject: str | None = None
    tenant: str | None = None
    role: Role | None = None

    @property
    def is_of_tenant(self) -> bool:
        """Whether it is a tenant's own, a user or an API key; a service that works for a tenant is not."""
        return self.kind in (CallerKind.USER, CallerKind.API_KEY)

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.subject}" if self.subject else self.kind.value

    def facts(self) -> dict[str, str]:
        """Return what log lines say of it: an API key's id stands by itself, since `api_key:...` is masked."""
        if self.kind is CallerKind.API_KEY and self.subject:
            return {"caller": self.kind.value, "api_key_id": self.subject}
        return {"caller": str(self)}


ANONYMOUS = Caller(CallerKind.ANONYMOUS)
OPERATOR = Caller(CallerKind.OPERATOR)
EDGE_CALLER = Caller(CallerKind.SERVICE, "edge")
"""Envoy, which calls the tenant service alone."""

_caller: contextvars.ContextVar[Caller] = contextvars.ContextVar("trunkline_caller", default=ANONYMOUS)


def current_caller() -> Caller:
    """Return who called the RPC that runs; ANONYMOUS outside of one."""
    return _caller.get()


def set_caller(caller: Caller) -> contextvars.Token[Caller]:
    """Make this the caller for the rest of the task; the server's interceptor and tests call it."""
    return _caller.set(caller)
