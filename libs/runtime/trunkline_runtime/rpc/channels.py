"""Channels to other services: one per address, with deadlines, retries, identity, traces and metrics."""

from __future__ import annotations

import contextvars
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import grpc
import grpc.aio

from trunkline_runtime.config import CommonConfig
from trunkline_runtime.identity.access.rules import MOST_MESSAGE_BYTES
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.observe.metrics import RpcMetrics
from trunkline_runtime.rpc.client_interceptors import UnaryUnary, stream_interceptors
from trunkline_runtime.rpc.tls import Renewed, Tls

_ANY_METHOD: list[dict[str, str]] = [{}]
SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": _ANY_METHOD,
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 3,
                    # CANCELLED: a server that stops ends so what had reached it and nobody had taken up yet. What we
                    # cancel ourselves is not tried again.
                    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
                },
            }
        ],
        # A peer that fails more than it answers gets no retries on top.
        "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
    }
)
OPTIONS: list[tuple[str, Any]] = [
    ("grpc.service_config", SERVICE_CONFIG),
    ("grpc.enable_retries", 1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # By default a name is asked for once in 30 seconds: a replica that goes takes its clients' calls with it till then.
    ("grpc.dns_min_time_between_resolutions_ms", 250),
    ("grpc.max_receive_message_length", MOST_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MOST_MESSAGE_BYTES),
    # Addresses are our own services: a proxy from the environment must not come between.
    ("grpc.enable_http_proxy", 0),
]
# Of a connection for bytes that are passed on: what a slow reader has not taken waits with its sender. Otherwise each
# of its streams may be read ahead by megabytes.
BULK_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 65_536),
    # Channels of the same address and options share a connection otherwise, and the streams that it may have.
    ("grpc.use_local_subchannel_pool", 1),
]

_acting: contextvars.ContextVar[str | None] = contextvars.ContextVar("trunkline_acting", default=None)


@contextmanager
def acting_for(tenant: str) -> Iterator[None]:
    """Make calls inside carry a service token that is confined to a tenant (bare id)."""
    token = _acting.set(tenant)
    try:
        yield
    finally:
        _acting.reset(token)


@contextmanager
def unconfined() -> Iterator[None]:
    """Make calls inside carry this service's own token, whatever is acted for outside."""
    token = _acting.set(None)
    try:
        yield
    finally:
        _acting.reset(token)


class _Channel(grpc.aio.Channel):
    """A channel whose calls all get what ours get."""

    def __init__(
        self,
        address: str,
        authorization: Callable[[], str],
        tls: Tls | None,
        more: Sequence[tuple[str, Any]] = (),
    ) -> None:
        self._authorization = authorization
        self._metrics = RpcMetrics("client")
        options = [*OPTIONS, *more]
        interceptors = stream_interceptors(authorization, self._metrics)
        self._renewed: Renewed | None = None
        self._plain: grpc.aio.Channel | None = None
        if tls is None:
            self._plain = grpc.aio.insecure_channel(address, options=options, interceptors=interceptors)
        else:
            self._renewed = tls.channel(address, options, interceptors)

    def unary_unary(self, method: str, *given: Any, **options: Any) -> Any:
        failed = self._renewed.failed if self._renewed is not None else None
        ask = self._method("unary_unary", method, *given, **options)
        return UnaryUnary(method, ask, self._authorization, self._metrics, failed)

    def unary_stream(self, method: str, *given: Any, **options: Any) -> Any:
        return self._method("unary_stream", method, *given, **options)

    def stream_unary(self, method: str, *given: Any, **options: Any) -> Any:
        return self._method("stream_unary", method, *given, **options)

    def stream_stream(self, method: str, *given: Any, **options: Any) -> Any:
        return self._method("stream_stream", method, *given, **options)

    def _method(self, kind: str, method: str, *given: Any, **options: Any) -> Any:
        if self._renewed is not None:
            return self._renewed.method(kind, method, *given, **options)
        return getattr(self._current, kind)(method, *given, **options)

    @property
    def _current(self) -> grpc.aio.Channel:
        if self._renewed is not None:
            return self._renewed.current()
        assert self._plain is not None
        return self._plain

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        if self._renewed is not None:
            await self._renewed.close(grace)
        else:
            await self._current.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._current.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._current.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._current.channel_ready()


class Channels:
    """Opens channels as they are asked for; whoever makes it closes it. They are plaintext without `tls`."""

    def __init__(self, signer: TokenSigner, tls: Tls | None = None) -> None:
        self._signer = signer
        self._tls = tls
        self._open: dict[tuple[str, bool], grpc.aio.Channel] = {}

    @classmethod
    def of(cls, config: CommonConfig, signer: TokenSigner) -> Self:
        """Make the channels of a service as its settings say. Raises ConfigError."""
        return cls(signer, Tls.of(config, signer.service))

    def get(self, address: str, *, bulk: bool = False) -> grpc.aio.Channel:
        """Return the channel to an address (host:port, or any gRPC target); the same one every time.

        `bulk`: one with connections of its own, for streams of bytes whose readers may be slow. It holds little of what
        they have not taken, and however many they are, other calls find room on theirs.
        """
        channel = self._open.get((address, bulk))
        if channel is None:
            more = BULK_OPTIONS if bulk else ()
            channel = self._open[address, bulk] = _Channel(address, self._authorization, self._tls, more)
        return channel

    def problem(self) -> str:
        """Return what is wrong with the certificate that they show, empty if nothing: for Health.note."""
        return self._tls.problem() if self._tls is not None else ""

    async def close(self) -> None:
        """Close every channel; calls in flight are cancelled."""
        channels, self._open = list(self._open.values()), {}
        for channel in channels:
            await channel.close()

    def _authorization(self) -> str:
        return f"Bearer {self._signer.service_token(_acting.get())}"
