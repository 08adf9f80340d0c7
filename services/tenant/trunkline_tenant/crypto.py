"""Seals secrets under keys from configuration; what is sealed says which key did it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from cryptography.fernet import Fernet, InvalidToken, MultiFernet


class UnreadableSecret(Exception):
    """Sealed under a key that is not configured, or for another place; the text says which."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A secret as it is stored."""

    data: bytes
    key_print: str


@dataclass(frozen=True, slots=True)
class SecretBox:
    """Seals with the newest key and opens with any.

    What is sealed is bound to a place (its row), so that a row's secret copied to another row does not open.
    """

    keys: tuple[str, ...] = field(repr=False)
    _fernet: MultiFernet = field(init=False, repr=False)
    newest: str = field(init=False)

    def __post_init__(self) -> None:
        """Check the keys. Raises ValueError with the place of a bad one, not the key."""
        fernets: list[Fernet] = []
        for index, key in enumerate(self.keys, 1):
            try:
                fernets.append(Fernet(key.encode()))
            except ValueError:
                raise ValueError(f"key {index} is not 32 bytes in URL-safe base64") from None
        if not fernets:
            raise ValueError("at least one key is needed")
        object.__setattr__(self, "_fernet", MultiFernet(fernets))
        object.__setattr__(self, "newest", key_print(self.keys[0]))

    def seal(self, secret: str, place: str) -> Sealed:
        """Seal a secret for a place."""
        return Sealed(self._fernet.encrypt(f"{place}\0{secret}".encode()), self.newest)

    def open(self, sealed: bytes, place: str) -> str:
        """Return the secret. Raises UnreadableSecret."""
        try:
            found, _, secret = self._fernet.decrypt(sealed).decode().partition("\0")
        except InvalidToken:
            raise UnreadableSecret(f"no configured key opens the secret of {place}") from None
        if found != place:
            raise UnreadableSecret(f"the secret of {place} was sealed for {found}")
        return secret


def key_print(key: str) -> str:
    """Return what tells keys apart without giving them away."""
    return hashlib.sha256(key.encode()).hexdigest()[:16]
