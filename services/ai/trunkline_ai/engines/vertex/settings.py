"""The settings of Vertex AI, TRUNKLINE_AI_VERTEX_*."""

from __future__ import annotations

from dataclasses import dataclass

from trunkline_runtime import forms
from trunkline_runtime.settings import setting

from trunkline_ai.engines.limits import RemoteLimits


@dataclass(frozen=True, kw_only=True)
class VertexSettings(RemoteLimits):
    """Which model is asked, and how much at once. Credentials are those of the environment (ADC)."""

    project: str = setting(
        "",
        "the Google Cloud project; required for the engine vertex",
        form=forms.named("a project's id", optional=True),
    )
    location: str = setting(
        "us-central1",
        "the location of the model, such as us-central1, europe-west4, or global",
        form=forms.named("a location"),
    )
    model: str = setting("gemini-2.5-flash", "the model", form=forms.named("a model's name"))
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
    thinking_tokens: int = setting(
        0,
        "the most tokens that the model thinks before it answers, paid for as output; -1: as many as it likes",
        least=-1,
        most=32_768,
    )
    most_output_tokens: int = setting(
        2_000, "the most tokens of an answer; one that is cut there is not used", least=16, most=65_536
    )

    @property
    def host(self) -> str:
        """Where requests go."""
        if self.endpoint:
            return self.endpoint.removeprefix("http://")
        prefix = "" if self.location == "global" else f"{self.location}-"
        return f"{prefix}aiplatform.googleapis.com"

    @property
    def model_name(self) -> str:
        """The model's resource name."""
        return f"projects/{self.project}/locations/{self.location}/publishers/google/models/{self.model}"
