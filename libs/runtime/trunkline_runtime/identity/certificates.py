"""The certificate of a process and whom it trusts, in a folder as cert-manager's Secrets have it.

`tls.crt` is the certificate with those between it and its authority, `tls.key` its private key, and `ca.crt` the
authorities whose certificates are accepted. All are PEM. They are read again when they change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from trunkline_runtime.config import ConfigError
from trunkline_runtime.forms import TLS_FILES
from trunkline_runtime.identity.peers import host_of, peers_of
from trunkline_runtime.identity.watched import Watched
from trunkline_runtime.observe import logs

log = logs.get_logger(__name__)

# Of a certificate's life: whoever renews has had two chances then.
_LATE_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate with its key, the authorities that are trusted (all PEM), its names, and when it is valid."""

    chain: bytes
    key: bytes
    authorities: bytes
    names: frozenset[str]
    begins: datetime
    ends: datetime

    def problem(self, now: datetime) -> str:
        """Return what is wrong with its time, empty if nothing."""
        if now >= self.ends:
            return f"the certificate expired at {self.ends:%Y-%m-%dT%H:%M:%SZ}"
        if now < self.begins:
            return f"the certificate is not valid before {self.begins:%Y-%m-%dT%H:%M:%SZ}"
        if self.ends - now < (self.ends - self.begins) * _LATE_SHARE:
            return f"the certificate expires at {self.ends:%Y-%m-%dT%H:%M:%SZ}, and was not renewed"
        return ""


class CertificateFolder:
    """One service's view of its folder. Raises ConfigError that names the setting, when the files are no such."""

    def __init__(
        self,
        folder: Path,
        service: str,
        setting: str,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._service = service
        self._now = now
        try:
            self._watched = Watched(tuple(folder / name for name in TLS_FILES), self._parse, "certificate")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(f"{setting}: {folder}: {reason}") from None

    def value(self) -> Certificate:
        """Return what the folder holds now; the same object until it changes."""
        return self._watched.value()

    def problem(self) -> str:
        """Return what is wrong with the certificate's time, empty if nothing: for Health.note."""
        return self.value().problem(self._now())

    def _parse(self, chain: bytes, key: bytes, authorities: bytes) -> Certificate:
        certificate = read(chain, key, authorities)
        if not any(peer.service == self._service for peer in peers_of(certificate.names)):
            found = ", ".join(sorted(certificate.names)) or "none"
            raise ValueError(
                f"the certificate must have the DNS name {host_of(self._service)}; its names are {found}"
            )
        if problem := certificate.problem(self._now()):
            log.error("certificate_not_valid", error=problem)
        return certificate


def read(chain: bytes, key: bytes, authorities: bytes) -> Certificate:
    """Return a certificate from the contents of its files. Raises ValueError."""
    from cryptography import x509  # noqa: PLC0415 -- only where TLS is on
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        own = x509.load_pem_x509_certificates(chain)[0]
        x509.load_pem_x509_certificates(authorities)
        private = load_pem_private_key(key, password=None)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{', '.join(TLS_FILES)} must be PEM, and the key without a password: {error}"
        ) from None
    if private.public_key() != own.public_key():
        raise ValueError("tls.key is not the key of tls.crt")
    try:
        names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        hosts: list[str] = []
    else:
        hosts = names.get_values_for_type(x509.DNSName)
    return Certificate(
        chain, key, authorities, frozenset(hosts), own.not_valid_before_utc, own.not_valid_after_utc
    )
