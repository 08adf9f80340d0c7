"""The service's settings: TRUNKLINE_AUDIO_*."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trunkline_runtime import forms
from trunkline_runtime.config import StoreConfig, setting


@dataclass(frozen=True, kw_only=True)
class AudioConfig(StoreConfig):
    """What the audio service is told."""

    blobs_folder: Path = setting(
        Path("var/blobs"), "folder that keeps the bytes of recordings", form=forms.FOLDER
    )
    scratch_folder: Path = setting(
        Path("var/audio-scratch"),
        "folder for decoded sound while it is worked on; emptied at start",
        form=forms.FOLDER,
    )
    engine: str = setting("whisper", "speech engine: whisper, or module:factory of one's own")
    engine_workers: int = setting(0, "windows of speech written at once; 0 is one a core", least=0, most=256)
    whisper_model: str = setting(
        "base",
        "faster-whisper model: a name, owner/repository of the model hub, or a folder; "
        "`python -m trunkline_audio.models` lists and fetches them",
    )
    whisper_device: str = setting("cpu", "what the model runs on", choices=("cpu", "cuda", "auto"))
    whisper_compute_type: str = setting(
        "int8", "CTranslate2's compute type, such as int8 on a processor, float16 or int8_float16 with cuda"
    )
    whisper_beam: int = setting(5, "wordings that the model weighs against each other", least=1, most=16)
    decoders: int = setting(2, "processes that decode recordings", least=1, most=64)
    transcriptions_at_once: int = setting(
        16, "recordings transcribed at once; more must come back", least=1, most=1_000
    )
    fetches_at_once: int = setting(64, "recordings fetched at once; more must come back", least=1, most=1_000)
    recordings_days: int = setting(
        0,
        "days a recording is kept when its tenant's retention says nothing; 0: for good",
        least=0,
        most=36500,
    )
    transcripts_days: int = setting(
        0,
        "days a transcript is kept when its tenant's retention says nothing; 0: for good",
        least=0,
        most=36500,
    )
    sweep_seconds: float = setting(600.0, "how often what is past its days is deleted", least=1, most=86_400)
    fetch_allowed_networks: tuple[str, ...] = setting(
        (),
        "networks in CIDR form that recordings may be fetched from although they are private, by commas",
        form=forms.NETWORKS,
    )
    fetch_max_bytes: int = setting(
        512 * 1024 * 1024, "largest recording that is kept, in bytes", least=1, most=2_147_483_648
    )
    fetch_seconds: float = setting(
        300.0, "longest that a fetch may take, redirects included", least=1, most=3_600
    )
    fetch_connect_seconds: float = setting(
        5.0, "longest that a connection may take to open", least=0.1, most=60
    )
    fetch_read_seconds: float = setting(30.0, "longest silence while bytes come", least=0.1, most=600)
    decode_max_seconds: float = setting(
        4 * 3600.0, "longest recording, in seconds of sound", least=1, most=86_400
    )
    decode_cpu_seconds: int = setting(
        300, "processor seconds that decoding one recording may use", least=1, most=3_600
    )
    decode_memory_bytes: int = setting(
        512 * 1024 * 1024,
        "memory that decoding one recording may use",
        least=64 * 1024 * 1024,
        most=8_589_934_592,
    )
