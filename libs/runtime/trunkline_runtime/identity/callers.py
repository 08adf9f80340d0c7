"""Who is asking: the caller of the RPC that runs."""

from __future__ import annotations

import contextvars
import enum
from dataclasses import dataclass


class CallerKind(enum.Enum):
    """How a caller proved who it is."""

    SERVICE = "service"
    OPERATOR = "operator"
    API_KEY = "api_key"
    ANONYMOUS = "anonymous"


class Role(enum.IntEnum):
    """What an API key may do; each includes the one before; numbered as in trunkline.tenant.v1.Role."""

    VIEWER = 1
    MEMBER = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller. `tenant` is the bare id that it is confined to, None when it is not confined."""

    kind: CallerKind
    service: str | None = None
    tenant: str | None = None
    role: Role | None = None
    key_id: str | None = None

    def __str__(self) -> str:
        who = self.service or self.key_id
        return f"{self.kind.value}:{who}" if who else self.kind.value

    def facts(self) -> dict[str, str]:
        """Return what log lines say of it: an API key's id stands by itself, since `api_key:...` is masked."""
        if self.kind is CallerKind.API_KEY and self.key_id:
            return {"caller": self.kind.value, "api_key_id": self.key_id}
        return {"caller": str(self)}


ANONYMOUS = Caller(CallerKind.ANONYMOUS)
OPERATOR = Caller(CallerKind.OPERATOR)

_caller: contextvars.ContextVar[Caller] = contextvars.ContextVar("trunkline_caller", default=ANONYMOUS)


def current_caller() -> Caller:
    """Return who called the RPC that runs; ANONYMOUS outside of one."""
    return _caller.get()


def set_caller(caller: Caller) -> contextvars.Token[Caller]:
    """Make this the caller for the rest of the task; the server's interceptor and tests call it."""
    return _caller.set(caller)
