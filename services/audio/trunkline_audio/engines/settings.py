"""Which engines transcribe, how they give way to each other, and the settings of each: a part of TRUNKLINE_AUDIO_*."""

from __future__ import annotations

from dataclasses import dataclass, field

from trunkline_runtime import forms
from trunkline_runtime.engines.settings import EngineSettings
from trunkline_runtime.settings import setting

from trunkline_audio.engines.google.settings import GoogleSettings
from trunkline_audio.engines.whisper.settings import WhisperSettings

WHISPER = "whisper"
GOOGLE = "google"


@dataclass(frozen=True, kw_only=True)
class SpeechEngineSettings(EngineSettings):
    """What the service is told about its engines."""

    engines: tuple[str, ...] = setting(
        (WHISPER,),
        "the speech engine: whisper, google, or module:factory of your own engine; or several, comma-separated, the "
        "preferred one first: the next one answers while one can't",
        form=forms.plug_ins(WHISPER, GOOGLE),
        name="engine",
    )
    engine_patience_seconds: float = setting(
        120.0,
        "how long an engine can take for a recording, in addition to the length of the recording, before another one "
        "is asked, if there is one",
        least=0.1,
        most=3_600,
    )
    whisper: WhisperSettings = field(default_factory=WhisperSettings)
    google: GoogleSettings = field(default_factory=GoogleSettings)
