"""Links that need no key: one resource, until a stated time, signed with the key of the service that has it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from trunkline_runtime.errors import FailedPrecondition, PermissionDenied
from trunkline_runtime.identity.keys import KeyFolder, service_of

MOST_CHARACTERS = 1_024
_AUDIENCE = "trunkline/download"


@dataclass(frozen=True, slots=True)
class Link:
    """What a link says: the resource, when that was created, and until when the link works."""

    name: str
    created_at: datetime
    until: datetime


class LinkSigner:
    """Signs and verifies links (JWT, EdDSA). No token of tokens.py is a link, and no link is such a token.

    `service` is the one whose key signs, and whose links are verified; `keys` and the errors are as in keys.py. A link
    outlives one rotation of that key, not two.
    """

    def __init__(self, keys: Path, service: str, *, reader: str = "") -> None:
        """`reader` is the service that verifies, when it is another one."""
        self._service = service
        self._keys = KeyFolder(keys, reader or service)

    def sign(self, name: str, created_at: datetime, until: datetime) -> str:
        """Return the token of a link. Whoever makes the same resource anew makes the link void."""
        import jwt  # noqa: PLC0415 -- it brings cryptography along; a process that never signs need not pay

        own = self._keys.own()
        claims = {
            "aud": _AUDIENCE,
            "sub": name,
            "born": _micros(created_at),
            "until": _micros(until),
        }
        return jwt.encode(claims, own.key, algorithm="EdDSA", headers={"kid": own.key_id})

    def verify(self, token: str, name: str, now: datetime) -> Link:
        """Return what a link to a resource says.

        Raises PermissionDenied when it is not ours, changed, or another resource's; FailedPrecondition with the reason
        LINK_EXPIRED when its time has come.
        """
        import jwt  # noqa: PLC0415 -- as above

        try:
            if len(token) > MOST_CHARACTERS:
                raise ValueError(token)
            kid = jwt.get_unverified_header(token)["kid"]
            if service_of(kid) != self._service:
                raise ValueError(kid)
            claims = jwt.decode(
                token,
                self._keys.trusted()[kid].key,
                algorithms=["EdDSA"],
                audience=_AUDIENCE,
                options={"require": ["aud", "sub", "born", "until"]},
            )
            link = Link(str(claims["sub"]), _moment(claims["born"]), _moment(claims["until"]))
            if link.name != name:
                raise ValueError(name)
        except (jwt.PyJWTError, KeyError, ValueError, TypeError, OverflowError):
            raise PermissionDenied("the link is not valid", reason="LINK_INVALID") from None
        if now >= link.until:
            raise FailedPrecondition("the link has expired", reason="LINK_EXPIRED")
        return link


def _micros(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


def _moment(micros: int) -> datetime:
    return datetime.fromtimestamp(micros // 1_000_000, UTC).replace(microsecond=micros % 1_000_000)
