"""Google's settings, TRUNKLINE_AUDIO_GOOGLE_*."""

from __future__ import annotations

from dataclasses import dataclass

from trunkline_runtime import forms
from trunkline_runtime.settings import setting

from trunkline_audio.media.blobs.settings import BUCKET


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
        form=forms.MAYBE_ENDPOINT,
    )
    word_times: bool = setting(
        True, "ask for the time of each word, if the model can tell it", form=forms.SWITCH
    )
    speakers: int = setting(
        2,
        "the most voices that Google tells apart on one channel, if the model can; 1: never. Without it they are told "
        "apart here, by their sound",
        least=1,
        most=3,
    )
    usual_language: str = setting(
        "en-US",
        "the language of recordings without one, with a model that can't detect it",
        form=forms.named("a language's tag"),
    )
    phrase_boost: float = setting(
        0.0, "how much likelier a recording's phrases are; 0: as Google sets it", least=0, most=20
    )
    bucket: str = setting(
        "",
        "the Google Cloud Storage bucket through which long recordings are handed over (BatchRecognize). Without one, "
        "they are asked for in windows of up to 55 s",
        form=BUCKET,
    )
    batch_seconds: float = setting(
        60.0,
        "the length in seconds from which a recording is handed over through the bucket",
        least=1,
        most=86_400,
    )
    dynamic_batching: bool = setting(
        False,
        "have Google transcribe what is handed over within 24 hours, at a lower price",
        form=forms.SWITCH,
    )
    requests_at_once: int = setting(
        16, "the most requests at once, each with up to 55 s of speech", least=1, most=1_000
    )
    requests_per_minute: int = setting(
        300,
        "the most requests a minute, for this process; further ones wait. A part of the project's quota",
        least=1,
        most=100_000,
    )
    patience_seconds: float = setting(
        30.0, "how long a request is repeated that Google can't take now", least=0, most=600
    )
    price_micros_per_minute: int = setting(
        -1,
        "the price of a minute, in millionths of a US dollar; -1: as in the file of prices",
        least=-1,
        most=10_000_000,
    )
    dynamic_price_micros_per_minute: int = setting(
        -1,
        "the same, for what is transcribed within 24 hours",
        least=-1,
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
