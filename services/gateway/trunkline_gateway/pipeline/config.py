"""The worker's settings: TRUNKLINE_WORKER_<NAME>, read once."""

from __future__ import annotations

from dataclasses import dataclass

from trunkline_runtime import forms
from trunkline_runtime.config import CommonConfig, setting


@dataclass(frozen=True, kw_only=True)
class WorkerConfig(CommonConfig):
    """Settings of the role `work`.

    It opens no database and serves no gRPC: those common settings mean nothing here.
    """

    metrics_address: str = setting(
        "127.0.0.1:9094",
        "host:port that serves /metrics over HTTP; empty or port 0 turns it off",
        form=forms.MAYBE_LISTEN,
    )
    gateway_address: str = setting(
        "127.0.0.1:50050", "where the gateway's gRPC is, which hands out the jobs", form=forms.ADDRESS
    )
    audio_address: str = setting("127.0.0.1:50052", "where the audio service is", form=forms.ADDRESS)
    ai_address: str = setting("127.0.0.1:50053", "where the ai service is", form=forms.ADDRESS)
    worker_concurrency: int = setting(16, "jobs worked on at once", least=1, most=1000)
    lease_seconds: float = setting(
        15.0,
        "how long a lease lasts, and a job of a killed worker waits; renewed at a third of it while work goes on",
        least=1,
        most=3600,
    )
    claim_wait_seconds: float = setting(20.0, "how long one claim waits for a job", least=0, most=60)
    checkpoint_after_seconds: float = setting(
        0.2,
        "a stage that lasts longer is told to the gateway, so that a crash resumes at it",
        least=0,
        most=3_600,
    )
    source_seconds: float = setting(
        30.0, "how long a source's settings are used before they are asked for again", least=0, most=3_600
    )
    recording_wait_seconds: float = setting(
        86_400.0,
        "how long a recording, or a service that cannot be reached, is waited for before a dead letter",
        least=0,
        most=2_592_000,
    )
    degraded_retry_seconds: float = setting(
        30.0,
        "how soon a call that was analysed by the local engine in place of the configured one is analysed again;"
        " the longer it lasts, the later",
        least=0.1,
        most=86_400,
    )
    lookup_origins: str = setting(
        "",
        "where calls may be looked up beside Twilio's own hosts: origins such as http://127.0.0.1:9000, with commas"
        " between them",
        form=forms.ORIGINS,
    )
    breaker_failures: int = setting(
        5, "failures in a row after which a service is left alone", least=1, most=1_000
    )
    breaker_seconds: float = setting(
        5.0, "for how long it is left alone before it is tried again", least=0.01, most=3_600
    )
