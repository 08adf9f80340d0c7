"""Mutual TLS of a process's gRPC: what its servers and its channels prove themselves with, while certificates change.

A server takes the newest certificate and authorities for each connection. A channel of gRPC's keeps those that it was
opened with, so a new one is opened when the files change; calls on the old one go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

import grpc
import grpc.aio

from trunkline_runtime.config import CommonConfig, env_name
from trunkline_runtime.identity.certificates import Certificate, CertificateFolder
from trunkline_runtime.identity.keys import SERVICES
from trunkline_runtime.identity.peers import host_of
from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.observe.repeats import Repeats

log = get_logger(__name__)

_LOOK_SECONDS = 1.0
# A call that was begun may reach its channel a little later; then it has the time that any stream has.
_LINGER_SECONDS = 5.0
_OLD_SECONDS = 600.0
# What gRPC says of a handshake that this side ended, and of one that the other side ended: in TLS 1.3 a client hears of
# that only when its connection closes.
_REFUSED = ("handshake failed", "Verification Check failed")
_NO_CONNECTION = ("failed to connect to all addresses", "connections to all backends failing")
_CLOSED = ("Socket closed", "reset by peer")


class Tls:
    """The certificate of a process, and the service behind each address that it calls.

    `services`: the service by its address, as the settings have it. Another address is this service's own.
    """

    def __init__(self, folder: CertificateFolder, service: str, services: dict[str, str]) -> None:
        self._folder = folder
        self._service = service
        self._services = services
        self._refused = Repeats()

    @classmethod
    def of(cls, config: CommonConfig, service: str) -> Self | None:
        """Read what the settings name; None for plaintext. Raises ConfigError."""
        if config.tls_folder is None:
            return None
        setting = env_name(service, "tls_folder")
        services = {getattr(config, f"{name}_address", None): name for name in SERVICES}
        known = {address: name for address, name in services.items() if address}
        return cls(CertificateFolder(config.tls_folder, service, setting), service, known)

    def problem(self) -> str:
        """Return what is wrong with the certificate's time, empty if nothing."""
        return self._folder.problem()

    def certificate(self) -> Certificate:
        """Return what is shown now; the same object until the files change."""
        return self._folder.value()

    def server_credentials(self) -> grpc.ServerCredentials:
        """Return credentials that ask every client for a certificate."""
        current = self._folder.value()

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            # Called for each connection, in a thread of gRPC's.
            nonlocal current
            newest = self._folder.value()
            if newest is current:
                return None
            current = newest
            return _configuration(newest)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(current),
            fetch,  # type: ignore[arg-type]  # None: as before
            require_client_authentication=True,
        )

    def channel(
        self,
        address: str,
        options: Sequence[tuple[str, Any]],
        interceptors: Sequence[grpc.aio.ClientInterceptor],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> Renewed:
        """Return the channel to an address, which only the certificate of the service there can answer."""
        service = self._services.get(address, self._service)
        named = [*options, ("grpc.ssl_target_name_override", host_of(service))]

        def connect(certificate: Certificate) -> grpc.aio.Channel:
            credentials = grpc.ssl_channel_credentials(
                certificate.authorities, certificate.key, certificate.chain
            )
            return grpc.aio.secure_channel(address, credentials, options=named, interceptors=interceptors)

        return Renewed(self._folder.value, connect, lambda error: self._note(address, service, error), clock)

    def _note(self, address: str, service: str, error: grpc.aio.AioRpcError) -> None:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            return
        details = error.details() or ""
        if any(said in details for said in _REFUSED):
            event = "peer_certificate_refused"
        elif any(said in details for said in _NO_CONNECTION) and any(said in details for said in _CLOSED):
            event = "certificate_refused_by_peer"
        else:
            return

        def write(count: int) -> None:
            log.error(
                event,
                address=address,
                peer=service,
                error=details,
                **({"count": count} if count > 1 else {}),
            )

        self._refused.note((event, address), write)


class Renewed:
    """A channel that is opened anew when the certificate changes."""

    def __init__(
        self,
        certificate: Callable[[], Certificate],
        connect: Callable[[Certificate], grpc.aio.Channel],
        failed: Callable[[grpc.aio.AioRpcError], None],
        clock: Callable[[], float],
    ) -> None:
        self._certificate = certificate
        self._connect = connect
        self._clock = clock
        self._looked = clock()
        self._used = certificate()
        self._channel = connect(self._used)
        self._closing: set[asyncio.Task[None]] = set()
        self.failed = failed
        """Told of each call that failed."""

    def current(self) -> grpc.aio.Channel:
        """Return the channel for new calls; the files are looked at once a second."""
        now = self._clock()
        if now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            newest = self._certificate()
            if newest is not self._used:
                old, self._channel, self._used = self._channel, self._connect(newest), newest
                closing = asyncio.get_running_loop().create_task(_close_later(old))
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)
        return self._channel

    def method(self, kind: str, method: str, *given: Any, **options: Any) -> Callable[..., Any]:
        """Return a callable of a kind (`unary_unary`, ...) whose calls go over the current channel."""
        channel = self._channel
        call = getattr(channel, kind)(method, *given, **options)

        def ask(*arguments: Any, **named: Any) -> Any:
            nonlocal channel, call
            current = self.current()
            if current is not channel:
                channel, call = current, getattr(current, kind)(method, *given, **options)
            return call(*arguments, **named)

        return ask

    async def close(self, grace: float | None) -> None:
        """Close it, and those that it replaced."""
        for closing in self._closing:
            closing.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        await self._channel.close(grace)


async def _close_later(channel: grpc.aio.Channel) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(_LINGER_SECONDS)
        await channel.close(_OLD_SECONDS)
        return
    await channel.close()


def _configuration(certificate: Certificate) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(certificate.key, certificate.chain)], certificate.authorities
    )
