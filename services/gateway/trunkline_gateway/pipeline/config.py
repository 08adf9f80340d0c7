"""The worker's settings: TRUNKLINE_WORKER_<NAME>, read once."""

from __future__ import annotations

from dataclasses import dataclass

from trunkline_runtime import forms
from trunkline_runtime.config import CommonConfig, setting


@dataclass(frozen=True, kw_only=True)
class WorkerConfig(CommonConfig):
    """Settings of the role `work`.

    It opens no database and serves no gRPC but its health: the other common settings of these mean nothing here.
    """

    grpc_address: str = setting(
        "127.0.0.1:0",
        "the address that serves the worker's health over gRPC; empty or port 0 turns it off",
        form=forms.MAYBE_LISTEN,
    )
    metrics_address: str = setting(
        "127.0.0.1:9094",
        "the address that serves /metrics and /readyz over HTTP; empty or port 0 turns it off; while the port is in "
        "use, the process serves without it",
        form=forms.MAYBE_LISTEN,
    )
    gateway_address: str = setting(
        "127.0.0.1:50050", "the address of the gateway's gRPC, which hands out jobs", form=forms.ADDRESS
    )
    audio_address: str = setting("127.0.0.1:50052", "the address of the audio service", form=forms.ADDRESS)
    ai_address: str = setting("127.0.0.1:50053", "the address of the ai service", form=forms.ADDRESS)
    worker_concurrency: int = setting(
        16, "the number of jobs that a worker processes at once", least=1, most=1000
    )
    lease_seconds: float = setting(
        15.0,
        "how long a lease lasts, which is also how long the job of a killed worker waits; the worker "
        "renews a lease after each third of this time",
        least=1,
        most=3600,
    )
    claim_wait_seconds: float = setting(20.0, "how long a claim waits for a job", least=0, most=60)
    checkpoint_after_seconds: float = setting(
        1.0,
        "the worker reports a stage that lasts longer than this to the gateway, so that the job resumes "
        "there after a crash",
        least=0,
        most=3_600,
    )
    source_seconds: float = setting(
        30.0, "how long the worker uses a source's settings before it reads them again", least=0, most=3_600
    )
    recording_wait_seconds: float = setting(
        86_400.0,
        "how long an event waits for a recording or an unreachable service before it becomes a dead letter, or is "
        "done without the recording if that is empty",
        least=0,
        most=2_592_000,
    )
    degraded_retry_seconds: float = setting(
        30.0,
        "how soon a call with a degraded analysis is analysed again; the interval increases with each try",
        least=0.1,
        most=86_400,
    )
    lookup_origins: str = setting(
        "",
        "the origins, in addition to Twilio's own hosts, where the worker can look up calls; "
        "comma-separated, such as http://127.0.0.1:9000",
        form=forms.ORIGINS,
    )
    breaker_failures: int = setting(
        5,
        "the number of consecutive failures after which the worker stops calling a service",
        least=1,
        most=1_000,
    )
    breaker_seconds: float = setting(
        5.0, "how long the worker stops calling the service before it tries again", least=0.01, most=3_600
    )
