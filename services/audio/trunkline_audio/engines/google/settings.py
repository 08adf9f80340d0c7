"""Google's settings, TRUNKLINE_AUDIO_GOOGLE_*."""

from __future__ import annotations

from dataclasses import dataclass

from trunkline_runtime import forms
from trunkline_runtime.settings import setting


def _maybe_endpoint(text: str) -> None:
    if text:
        forms.split(text.removeprefix("http://"))


@dataclass(frozen=True, kw_only=True)
class GoogleSettings:
    """Which recognizer is asked, and how much at once. Credentials are those of the environment (ADC)."""

    project: str = setting(
        "",
        "the Google Cloud project; required for the engine google",
        form=forms.named("a project's id", optional=True),
    )
    location: str = setting(
        "us",
        "the location of the recognizer, such as us, eu, or asia-southeast1",
        form=forms.named("a location"),
    )
    recognizer: str = setting(
        "_", "the recognizer's id; _ is the project's default", form=forms.named("a recognizer's id")
    )
    model: str = setting("chirp_3", "the model", form=forms.named("a model's name"))
    quota_project: str = setting(
        "",
        "the project that is billed and whose quota counts, if it is another one",
        form=forms.named("a project's id", optional=True),
    )
    endpoint: str = setting(
        "",
        "the service, if it isn't Google's; http://host:port is asked without TLS and credentials",
        form=forms.Form("host:port, http://host:port, or empty", _maybe_endpoint),
    )
    requests_at_once: int = setting(
        16, "the most requests at once, each with up to 55 s of speech", least=1, most=1_000
    )
    patience_seconds: float = setting(
        30.0, "how long a request is repeated that Google cannot take now", least=0, most=600
    )
    price_micros_per_minute: int = setting(
        16_000,
        "the price of a minute, in millionths of a US dollar, for the usage of transcripts",
        least=0,
        most=10_000_000,
    )

    @property
    def host(self) -> str:
        """Where requests go."""
        return self.endpoint.removeprefix("http://") or f"{self.location}-speech.googleapis.com"

    @property
    def recognizer_name(self) -> str:
        """The recognizer's resource name."""
        return f"projects/{self.project}/locations/{self.location}/recognizers/{self.recognizer}"
