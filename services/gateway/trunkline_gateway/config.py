"""The gateway's settings: TRUNKLINE_GATEWAY_<NAME>, read once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trunkline_runtime import forms
from trunkline_runtime.config import StoreConfig, setting

from trunkline_gateway.edge.limits import EdgeLimits

MOST_BODY_BYTES = 8 << 20
"""What the whole way of a webhook was tested with: a row of the store, a claim, an answer with the body."""


@dataclass(frozen=True, kw_only=True)
class GatewayConfig(StoreConfig):
    """Settings of the role `serve`; the worker's are in pipeline/config.py."""

    grpc_address: str = setting("127.0.0.1:50050", "where gRPC is served", form=forms.LISTEN)
    metrics_address: str = setting(
        "127.0.0.1:9090",
        "host:port that serves /metrics and the full /readyz; empty or port 0 turns it off",
        form=forms.MAYBE_LISTEN,
    )
    store_url: str = setting("sqlite:///var/gateway.db", "the gateway's own database", form=forms.STORE)
    http_address: str = setting(
        "127.0.0.1:8080", "where webhooks, /v1, /healthz and /readyz are served", form=forms.LISTEN
    )
    public_url: str = setting(
        "http://127.0.0.1:8080",
        "what providers post to, as they sign it; never taken from a Host header",
        form=forms.WEB,
    )
    audio_address: str = setting("127.0.0.1:50052", "where the audio service is", form=forms.ADDRESS)
    ai_address: str = setting("127.0.0.1:50053", "where the ai service is", form=forms.ADDRESS)
    source_cache: Path = setting(
        Path("var/gateway.sources"), "the last known sources, encrypted", form=forms.FILE
    )
    max_body_bytes: int = setting(
        1_048_576, "a larger webhook is answered 413", least=1_024, most=MOST_BODY_BYTES
    )
    max_unverified: int = setting(
        10_000,
        "receipts that may wait for a source nobody can be asked for; above, 503",
        least=1,
        most=1_000_000,
    )
    max_unverified_bytes: int = setting(
        268_435_456,
        "bytes of them, headers included; above, 503",
        least=1_048_576,
        most=68_719_476_736,
    )
    max_queued: int = setting(
        4_096, "webhooks that may wait for the writer; above, 503", least=16, most=65_536
    )
    confirm_seconds: float = setting(
        0.5, "a receipt whose commit takes longer goes to the spool", least=0.01, most=60
    )
    spool_path: Path | None = setting(
        None,
        "the folder that takes receipts while the store does not; best on a volume of its own, one for each "
        "replica; by default var/gateway.spool, or beside the store where that is a file",
        form=forms.PLACE,
    )
    spool_max_bytes: int = setting(
        1_073_741_824,
        "bytes of receipts that may wait in the spool; above, 503",
        least=0,
        most=1_099_511_627_776,
    )
    keep_rejections: int = setting(
        200, "rejected requests kept of each source, the latest", least=1, most=10_000
    )
    keep_rejections_bytes: int = setting(
        33_554_432, "bytes of them kept of each source, headers included", least=65_536, most=1_073_741_824
    )
    ceiling_per_second: float = setting(
        100.0,
        "webhooks a second of one source above which it is answered 429 with Retry-After; well under what the gateway"
        " takes, so that one source leaves room for the others",
        least=1,
        most=10_000_000,
    )
    ceiling_burst: float = setting(
        500.0, "how many of one source may come at once before the ceiling counts", least=1, most=10_000_000
    )
    http_connections: int = setting(4_096, "HTTP connections at once; above, 503", least=16, most=100_000)
    http_connections_per_address: int = setting(
        1_024,
        "HTTP connections at once from one address (of IPv6: one /64); above, 503. Behind a proxy all come from its"
        " address: set it to http_connections",
        least=1,
        most=100_000,
    )
    http_head_seconds: float = setting(
        10.0,
        "how long the head of a request may take, and a new connection may be silent; then 408, or the end",
        least=0.5,
        most=60,
    )
    http_bytes_per_second: int = setting(
        1_024,
        "the least rate of a body that comes, 408 below it, and of an answer that is read, after the first ten seconds",
        least=1,
        most=1_048_576,
    )
    http_quiet_seconds: float = setting(
        20.0, "the longest pause within a body, and of who reads an answer", least=0.5, most=300
    )
    http_body_seconds: float = setting(
        120.0, "how long a body may take in all; then 408", least=1, most=3_600
    )
    events_days: int = setting(
        90,
        "days an event and its receipts are kept when its tenant's retention says nothing; 0: for good",
        least=0,
        most=36500,
    )
    deletions_seconds: float = setting(
        10.0, "how often deleted tenants are looked for and removed", least=0.1, most=86_400
    )
    sweep_seconds: float = setting(600.0, "how often what is past its days is deleted", least=1, most=86_400)
    tenant_in_flight: int = setting(
        1000,
        "jobs of one tenant and class that may be worked on at once, over all workers",
        least=1,
        most=100_000,
    )
    contended_share: float = setting(
        0.2,
        "part of all workers' slots that one tenant is given while others are served too; more uses slow engines"
        " better, less shields the others better",
        least=0.01,
        most=1,
    )
    reserved_share: float = setting(
        0.25,
        "part of each worker's slots that only tenants with little in work are given; 0 keeps none",
        least=0,
        most=0.9,
    )
    quiet_in_flight: int = setting(
        2, "a tenant with fewer jobs than this in work may use the reserved slots", least=1, most=1_000
    )
    queue_shards: int = setting(
        1,
        "parts of the queue's index, for Spanner: more spreads the writes about one very busy tenant, and makes every"
        " claim look in more places; never fewer than while the jobs that wait were made",
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
        )

    def spool_folder(self) -> Path:
        """Where the spool is."""
        if self.spool_path is not None:
            return self.spool_path
        path = self.store_url.partition(":///")[2]
        return Path(path + ".spool") if self.store_is_a_file and path else Path("var/gateway.spool")
