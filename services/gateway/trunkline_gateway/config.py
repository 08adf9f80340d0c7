"""The gateway's settings: TRUNKLINE_GATEWAY_<NAME>, read once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trunkline_runtime import forms
from trunkline_runtime.config import StoreConfig, setting

from trunkline_gateway.edge.limits import EdgeLimits
from trunkline_gateway.hooks.settings import HookSettings


@dataclass(frozen=True, kw_only=True)
class GatewayConfig(HookSettings, StoreConfig):
    """Settings of the role `serve`; the worker's are in pipeline/config.py."""

    grpc_address: str = setting("127.0.0.1:50050", "the address that serves gRPC", form=forms.LISTEN)
    metrics_address: str = setting(
        "127.0.0.1:9090",
        "the address that serves /metrics and the full /readyz; empty or port 0 turns it off; while the port is in "
        "use, the process serves without it",
        form=forms.MAYBE_LISTEN,
    )
    store_url: str = setting("sqlite:///var/gateway.db", "the gateway's own database", form=forms.STORE)
    http_address: str = setting(
        "127.0.0.1:8080", "the address that serves webhooks, /v1, /healthz, and /readyz", form=forms.LISTEN
    )
    audio_address: str = setting("127.0.0.1:50052", "the address of the audio service", form=forms.ADDRESS)
    ai_address: str = setting("127.0.0.1:50053", "the address of the ai service", form=forms.ADDRESS)
    source_cache: Path = setting(
        Path("var/gateway.sources"), "the file of the last known sources, encrypted", form=forms.FILE
    )
    max_queued: int = setting(
        4_096, "the most webhooks that can wait for the writer; above that, 503", least=16, most=65_536
    )
    confirm_seconds: float = setting(
        0.5, "the longest wait for a commit; after that, the receipt goes to the spool", least=0.01, most=60
    )
    spool_path: Path | None = setting(
        None,
        "the folder that takes receipts while the store does not; best on its own volume, one for each "
        "replica; by default var/gateway.spool, or beside the store if the store is a file",
        form=forms.PLACE,
    )
    spool_max_bytes: int = setting(
        1_073_741_824,
        "the most bytes of receipts that can wait in the spool; above that, 503",
        least=0,
        most=1_099_511_627_776,
    )
    keep_rejections: int = setting(
        200, "the number of rejections to keep of each source; the latest are kept", least=1, most=10_000
    )
    keep_rejections_bytes: int = setting(
        33_554_432,
        "the most bytes of rejections to keep of each source, including headers",
        least=65_536,
        most=1_073_741_824,
    )
    http_connections: int = setting(
        4_096, "the most HTTP connections at once; above that, 503", least=16, most=100_000
    )
    http_connections_per_address: int = setting(
        1_024,
        "the most HTTP connections at once from one address (for IPv6, one /64); above that, 503. Behind "
        "a proxy, set it to http_connections, because all connections come from the proxy's address",
        least=1,
        most=100_000,
    )
    http_head_seconds: float = setting(
        10.0,
        "the longest time for the head of a request, after which the answer is 408, and for a new "
        "connection that sends nothing, after which it is closed",
        least=0.5,
        most=60,
    )
    http_bytes_per_second: int = setting(
        1_024,
        "the lowest rate, in bytes a second after the first ten seconds, at which a client sends a body, "
        "with 408 below it, and reads an answer",
        least=1,
        most=1_048_576,
    )
    http_quiet_seconds: float = setting(
        20.0, "the longest pause within a body, and of a client that reads an answer", least=0.5, most=300
    )
    http_body_seconds: float = setting(
        120.0, "the longest total time for a body; after that, 408", least=1, most=3_600
    )
    http_body_bytes: int = setting(
        268_435_456,
        "the most bytes of all HTTP bodies that have not arrived completely, without the first 16 KiB of "
        "each; above that, 503",
        least=1_048_576,
        most=68_719_476_736,
    )
    http_body_bytes_per_address: int = setting(
        67_108_864,
        "the most bytes of such bodies from one address (for IPv6, one /64); above that, 503. Behind a "
        "proxy, set it to http_body_bytes, because all connections come from the proxy's address",
        least=1_048_576,
        most=68_719_476_736,
    )
    api_per_second: float = setting(
        100.0,
        "the most requests a second to /v1 of one tenant's keys; above that, 429 with Retry-After. An answer "
        "counts as one more request for every 64 KiB. Operators are not limited",
        least=1,
        most=10_000_000,
    )
    api_burst: float = setting(
        500.0,
        "the number of requests of one tenant's keys to /v1 that can arrive at once before the limit applies",
        least=1,
        most=10_000_000,
    )
    api_limits: str = setting(
        "gateway",
        "what counts API requests against the hourly limits of the tenant service: gateway, or edge, if Envoy "
        "stands before this gateway and has counted them",
        choices=("gateway", "edge"),
    )
    events_days: int = setting(
        90,
        "how many days to keep an event and its receipts, if the tenant's retention does not set this; 0 "
        "keeps them permanently",
        least=0,
        most=36500,
    )
    deletions_seconds: float = setting(
        10.0, "the interval between searches for deleted tenants to remove", least=0.1, most=86_400
    )
    sweep_seconds: float = setting(
        600.0, "the interval between deletions of expired data", least=1, most=86_400
    )
    tenant_in_flight: int = setting(
        1000,
        "the most jobs of one tenant and class that run at once, over all workers",
        least=1,
        most=100_000,
    )
    contended_share: float = setting(
        0.2,
        "the part of all workers' slots that one tenant gets while other tenants are also served; a "
        "higher value uses slow engines better, a lower value protects the other tenants better",
        least=0.01,
        most=1,
    )
    reserved_share: float = setting(
        0.25,
        "the part of each worker's slots that is reserved for tenants with few running jobs; 0 reserves none",
        least=0,
        most=0.9,
    )
    quiet_in_flight: int = setting(
        2, "a tenant with fewer running jobs than this can use the reserved slots", least=1, most=1_000
    )
    queue_shards: int = setting(
        1,
        "parts of the queue's index, for Spanner: more parts spread the writes of one very busy tenant, "
        "but every claim then reads more places. Only increase this value",
        least=1,
        most=64,
    )

    @property
    def store_is_a_file(self) -> bool:
        """Whether the store is on this machine, and this process the only one that uses it."""
        return self.store_url.startswith("sqlite:")

    def edge_limits(self) -> EdgeLimits:
        """What one connection may take, and how many there may be."""
        return EdgeLimits(
            connections=self.http_connections,
            connections_per_address=self.http_connections_per_address,
            head_seconds=self.http_head_seconds,
            bytes_per_second=self.http_bytes_per_second,
            quiet_seconds=self.http_quiet_seconds,
            body_seconds=self.http_body_seconds,
            body_bytes=self.http_body_bytes,
            body_bytes_per_address=self.http_body_bytes_per_address,
        )

    def spool_folder(self) -> Path:
        """Where the spool is."""
        if self.spool_path is not None:
            return self.spool_path
        path = self.store_url.partition(":///")[2]
        return Path(path + ".spool") if self.store_is_a_file and path else Path("var/gateway.spool")
