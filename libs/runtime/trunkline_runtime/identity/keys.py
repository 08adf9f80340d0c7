"""The Ed25519 keys of the suite, in a folder of each process; `python -m trunkline_runtime.identity.keys` makes them.

`trusted.json` is a JWK set of public keys, which every process needs. `<service>.key` is a service's private key, which
only that service needs. A key's id begins with its service's name, and tokens under the key speak for that service
alone. Both files are read again when they change, so a key is rotated while the suite runs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from trunkline_runtime.config import ConfigError
from trunkline_runtime.forms import TRUSTED_KEYS as TRUSTED
from trunkline_runtime.identity.watched import Watched

if TYPE_CHECKING:
    from jwt import PyJWK

T = TypeVar("T")
SERVICES = ("gateway", "tenant", "audio", "ai")
_MOST_KEPT = 2  # of one service: the key that signs, and the one before, whose tokens still live


def service_of(kid: str) -> str:
    """Return the service that a key speaks for."""
    return kid.rpartition("-")[0]


class KeyFolder:
    """One service's view of its folder. Raises ConfigError when a file is missing or holds no keys."""

    def __init__(self, folder: Path, service: str) -> None:
        self._own = _watched(folder / f"{service}.key", _private)
        self._trusted = _watched(folder / TRUSTED, _public)

    def own(self) -> PyJWK:
        """Return the private key that signs now."""
        return self._own.value()

    def trusted(self) -> dict[str, PyJWK]:
        """Return the public keys by id; the same object until the file changes."""
        return self._trusted.value()


def _watched(path: Path, parse: Callable[[bytes], T]) -> Watched[T]:
    try:
        return Watched((path,), parse, "keys")
    except OSError as error:
        raise ConfigError(f"the keys can't be read: {error.strerror}: {path}") from None
    except Exception:
        raise ConfigError(f"{path} must hold Ed25519 keys as JSON Web Keys, each with its id") from None


def _private(text: bytes) -> PyJWK:
    key = _jwk(json.loads(text))
    key.key.private_bytes_raw()  # raises when it is a public key
    return key


def _public(text: bytes) -> dict[str, PyJWK]:
    keys = [_jwk({name: key[name] for name in key if name != "d"}) for key in json.loads(text)["keys"]]
    return {str(key.key_id): key for key in keys}


def _jwk(facts: dict[str, Any]) -> PyJWK:
    from jwt import PyJWK  # noqa: PLC0415 -- it brings cryptography along; `--help` need not pay

    if facts["crv"] != "Ed25519" or service_of(facts["kid"]) not in SERVICES:
        raise ValueError(facts["kid"])
    return PyJWK(facts, algorithm="EdDSA")


def create(folder: Path) -> Path:
    """Make the folder and the keys of every service that has none; return the folder. Raises OSError."""
    for service in SERVICES:
        if not (folder / f"{service}.key").exists():
            rotate(folder, service)
    return folder


def rotate(folder: Path, service: str) -> None:
    """Make a new key for a service, which is trusted before it signs; the key before it stays trusted."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 -- as above
    from jwt.algorithms import OKPAlgorithm  # noqa: PLC0415 -- as above

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    private = OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate(), as_dict=True)
    private |= {
        "kid": f"{service}-{hashlib.sha256(private['x'].encode()).hexdigest()[:12]}",
        "alg": "EdDSA",
        "use": "sig",
    }
    public = {name: value for name, value in private.items() if name != "d"}
    trusted = folder / TRUSTED
    known = json.loads(trusted.read_text(encoding="utf-8"))["keys"] if trusted.exists() else []
    others = [key for key in known if service_of(key["kid"]) != service]
    own = [public, *(key for key in known if service_of(key["kid"]) == service)]
    _replace(trusted, {"keys": [*others, *own[:_MOST_KEPT]]})
    _replace(folder / f"{service}.key", private)


def _replace(path: Path, facts: dict[str, Any]) -> None:
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(json.dumps(facts, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def main(arguments: list[str] | None = None) -> int:
    """Make the keys that are missing, or a new one."""
    parser = argparse.ArgumentParser(description="Creates the keys that sign the tokens between services.")
    parser.add_argument("folder", type=Path, help="the folder of the keys, such as var/keys")
    parser.add_argument("--rotate", choices=SERVICES, help="create a new key for this service")
    given = parser.parse_args(arguments)
    if given.rotate:
        rotate(given.folder, given.rotate)
    else:
        create(given.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
