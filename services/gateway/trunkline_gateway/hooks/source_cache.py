"""The last known sources on the gateway's own disk, encrypted, so that a restart alone can serve."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken
from google.protobuf.message import DecodeError
from trunkline.tenant.v1 import source_pb2
from trunkline_runtime.observe.logs import get_logger

log = get_logger(__name__)


class SourceCache:
    """The last known sources in one file, encrypted under a key derived from a secret of the gateway's."""

    def __init__(self, path: Path, secret: str):
        """`path` is replaced atomically at every save."""
        self._path = path
        digest = hashlib.sha256(b"trunkline gateway sources\0" + secret.encode()).digest()
        self._fernet = Fernet(base64.urlsafe_b64encode(digest))

    def load(self) -> dict[str, source_pb2.ResolvedSource]:
        """Return the sources by bare id; none when the file is missing, damaged or under another key."""
        try:
            sources = list(_unframe(self._fernet.decrypt(self._path.read_bytes())))
        except FileNotFoundError:
            return {}
        except (InvalidToken, DecodeError, OSError) as error:
            log.warning("sources_cache_unreadable", error=type(error).__name__)
            return {}
        return {resolved.source.name.rsplit("/", 1)[1]: resolved for resolved in sources}

    def save(self, sources: Iterable[source_pb2.ResolvedSource]) -> None:
        """Replace the file. Raises OSError; then the file is as it was."""
        plain = b"".join(_frame(source.SerializeToString()) for source in sources)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".new")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(self._fernet.encrypt(plain))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def _frame(raw: bytes) -> bytes:
    return len(raw).to_bytes(4, "big") + raw


def _unframe(raw: bytes) -> Iterable[source_pb2.ResolvedSource]:
    start = 0
    while start < len(raw):
        size = int.from_bytes(raw[start : start + 4], "big")
        yield source_pb2.ResolvedSource.FromString(raw[start + 4 : start + 4 + size])
        start += 4 + size
