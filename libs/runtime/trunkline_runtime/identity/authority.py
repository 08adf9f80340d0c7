"""A certificate authority for development and tests; `trunkline ca` makes one.

Its folder has `ca.crt` and `ca.key`, and a folder for each holder with the three files of certificates.py. Whoever
reads `ca.key` can pose as any service: production has its certificates from cert-manager or the like.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trunkline_runtime.identity.certificates import read
from trunkline_runtime.identity.peers import PEERS, host_of

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

AUTHORITY_DAYS = 3650.0
DAYS = 90.0
# Of a certificate's life; with less left, it is made anew.
_LEFT_SHARE = 1 / 3
# Another machine's clock may be behind.
_BEFORE = timedelta(minutes=5)


def _now() -> datetime:
    return datetime.now(UTC)


class Authority:
    """The authority of a folder, made there if it is missing. Raises OSError, and ValueError for other files."""

    def __init__(self, folder: Path, *, now: Callable[[], datetime] = _now) -> None:
        from cryptography import x509  # noqa: PLC0415 -- a process without TLS need not pay
        from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

        self._folder = folder
        self._now = now
        if not (folder / "ca.key").exists():
            self._make()
        self._chain = (folder / "ca.crt").read_bytes()
        self._certificate = x509.load_pem_x509_certificate(self._chain)
        key: Any = load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
        self._key: EllipticCurvePrivateKey = key

    def issue(self, name: str, days: float = DAYS, *, hosts: Sequence[str] = ()) -> Path:
        """Make a certificate for a holder, in the place of the last; return its folder.

        `hosts`: DNS names beside `<name>.trunkline.internal`. The authority's own end is its end at the latest.
        """
        key = _new_key()
        now = self._now()
        ends = min(now + timedelta(days=days), self._certificate.not_valid_after_utc)
        begins = min(now, ends) - _BEFORE
        certificate = self._signed(name, key, begins, ends, [host_of(name), *hosts])
        folder = self._folder / name
        folder.mkdir(mode=0o700, exist_ok=True)
        # The key first: a reader in between finds that they do not fit, and looks again.
        _write(folder / "tls.key", _pem_key(key))
        _write(folder / "tls.crt", _pem(certificate))
        _write(folder / "ca.crt", self._chain)
        return folder

    def renew(
        self, names: Sequence[str] = tuple(PEERS), days: float = DAYS, *, force: bool = False
    ) -> list[str]:
        """Make the certificates that are missing, not of this authority, or in the last third of their life.

        With `force`, all of them. Returns the names of the holders that got one.
        """
        made = [name for name in names if force or not self._is_good(name)]
        for name in made:
            self.issue(name, days)
        return made

    def _is_good(self, name: str) -> bool:
        folder = self._folder / name
        try:
            files = [(folder / file).read_bytes() for file in ("tls.crt", "tls.key", "ca.crt")]
            certificate = read(*files)
        except (OSError, ValueError):
            return False
        life = certificate.ends - certificate.begins
        return (
            certificate.authorities == self._chain
            and host_of(name) in certificate.names
            and certificate.ends - self._now() >= life * _LEFT_SHARE
        )

    def _make(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key, now = _new_key(), self._now()
        # A name of its own: a client that trusts another authority then says so, and not that a signature is bad.
        name = f"Trunkline development authority {secrets.token_hex(4)}"
        certificate = self._signed(
            name, key, now - _BEFORE, now + timedelta(days=AUTHORITY_DAYS), [], own=key
        )
        _write(self._folder / "ca.crt", _pem(certificate))
        _write(self._folder / "ca.key", _pem_key(key))

    def _signed(
        self,
        name: str,
        key: EllipticCurvePrivateKey,
        begins: datetime,
        ends: datetime,
        hosts: Sequence[str],
        own: EllipticCurvePrivateKey | None = None,
    ) -> x509.Certificate:
        """Return a certificate; `own` is the key of an authority that signs itself."""
        from cryptography import x509  # noqa: PLC0415 -- as above
        from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID  # noqa: PLC0415

        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signing = own or self._key
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if own else self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(
                x509.BasicConstraints(ca=own is not None, path_length=0 if own else None), critical=True
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False
            )
        )
        if own is None:
            both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            made = made.add_extension(x509.ExtendedKeyUsage(both), critical=False)
            made = made.add_extension(
                x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False
            )
        return made.sign(signing, hashes.SHA256())


def _new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 -- as above

    return ec.generate_private_key(ec.SECP256R1())


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415 -- as above

    return certificate.public_bytes(Encoding.PEM)


def _pem_key(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 -- as above

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes) -> None:
    """Write a file whole, for its owner only."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
