"""Finds the engines that the settings name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import cast

from trunkline_runtime.config import ConfigError, env_name
from trunkline_runtime.engines import loader
from trunkline_runtime.engines.prices import load_prices, priced

from trunkline_audio.engines.base import SpeechEngine
from trunkline_audio.engines.settings import GOOGLE, WHISPER, SpeechEngineSettings
from trunkline_audio.media.blobs.settings import BlobSettings
from trunkline_audio.names import SERVICE

_VARIABLE = env_name(SERVICE, "engine")
_PRICES = {
    "price_micros_per_minute": "minute_micros",
    "dynamic_price_micros_per_minute": "dynamic_minute_micros",
}
"""The settings of Google's engine that a price sets."""
_MEMBERS = {
    "transcribes": ("capabilities", "transcribe"),
    "submits": ("submit", "poll", "cancel"),
    "streams": ("stream",),
}
"""What an engine has for each capability, the first for every one."""


def load_engines(settings: SpeechEngineSettings, scratch: Path) -> dict[str, SpeechEngine]:
    """Make the engines of `settings.engines`, each a name of NAMED, or `module:factory`. Starts nothing.

    `scratch` is the folder for what an engine keeps while it works. Raises ConfigError.
    """
    named = {name: partial(make, settings, scratch) for name, make in NAMED.items()}
    return {value: _loaded(value, named) for value in settings.engines}


def _loaded(value: str, named: Mapping[str, Callable[[], SpeechEngine]]) -> SpeechEngine:
    engine = loader.load_engine(_VARIABLE, value, named, _MEMBERS["transcribes"])
    for able, members in _MEMBERS.items():
        absent = [name for name in members if not hasattr(engine, name)]
        if absent and getattr(engine.capabilities, able, False):
            told = f"{value!r} says that it {able} and has no {', '.join(absent)}"
            raise ConfigError(f"{_VARIABLE}: {told}")
    return cast(SpeechEngine, engine)


def _whisper(settings: SpeechEngineSettings, _scratch: Path) -> SpeechEngine:
    from trunkline_audio.engines.whisper.engine import WhisperEngine  # noqa: PLC0415 - engines load when used

    return WhisperEngine(settings.whisper)


def _google(settings: SpeechEngineSettings, scratch: Path) -> SpeechEngine:
    from trunkline_audio.engines.google.engine import GoogleEngine  # noqa: PLC0415 - as above

    google = priced(settings.google, load_prices(settings.prices_file), settings.google.model, _PRICES)
    if not google.bucket:
        return GoogleEngine(google)
    from trunkline_audio.engines.google.batch import GoogleBatchEngine  # noqa: PLC0415 - as above
    from trunkline_audio.media.blobs.gcs import GcsBlobs  # noqa: PLC0415 - as above

    bucket = BlobSettings(bucket=google.bucket, quota_project=google.quota_project)
    return GoogleBatchEngine(google, GcsBlobs(bucket, scratch / "speech"))


NAMED = {WHISPER: _whisper, GOOGLE: _google}
"""The service's own engines, each made from its own settings."""
