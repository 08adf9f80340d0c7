"""The service's settings: TRUNKLINE_AUDIO_*."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trunkline_runtime import forms
from trunkline_runtime.config import ConfigError, StoreConfig, env_name, load, setting

from trunkline_audio.engines.settings import GOOGLE, WHISPER, SpeechEngineSettings
from trunkline_audio.engines.whisper.settings import lacking
from trunkline_audio.media.blobs.settings import BlobSettings
from trunkline_audio.models.names import KNOWN, renders_english
from trunkline_audio.names import SERVICE


@dataclass(frozen=True, kw_only=True)
class AudioConfig(SpeechEngineSettings, StoreConfig):
    """What the audio service is told."""

    blobs_folder: Path = setting(
        Path("var/blobs"), "the folder for the bytes of recordings, if there is no bucket", form=forms.FOLDER
    )
    blobs: BlobSettings = field(default_factory=BlobSettings)
    scratch_folder: Path = setting(
        Path("var/audio-scratch"),
        "the folder for decoded audio while it is processed; the service empties it at start",
        form=forms.FOLDER,
    )
    degraded_retry_seconds: float = setting(
        30.0,
        "how soon a transcript that another engine had to make is made again; the interval increases with each try",
        least=0.1,
        most=86_400,
    )
    decoders: int = setting(2, "the number of processes that decode recordings", least=1, most=64)
    transcriptions_at_once: int = setting(
        16,
        "the most recordings transcribed at once; further requests must try again later",
        least=1,
        most=1_000,
    )
    watchers_at_once: int = setting(
        500,
        "the most streams of WatchTranscription at once; further ones must try again later",
        least=2,
        most=10_000,
    )
    fetches_at_once: int = setting(
        64, "the most recordings fetched at once; further requests must try again later", least=1, most=1_000
    )
    recordings_days: int = setting(
        0,
        "how many days to keep a recording, if the tenant's retention does not set this; 0 keeps it "
        "permanently",
        least=0,
        most=36500,
    )
    transcripts_days: int = setting(
        0,
        "how many days to keep a transcript, if the tenant's retention does not set this; 0 keeps it "
        "permanently",
        least=0,
        most=36500,
    )
    operations_days: int = setting(
        7, "how many days to keep a long-running operation after it ended", least=1, most=365
    )
    sweep_seconds: float = setting(
        600.0, "the interval between deletions of expired data", least=1, most=86_400
    )
    fetch_allowed_networks: tuple[str, ...] = setting(
        (),
        "private networks that recordings can be fetched from, in CIDR form, comma-separated",
        form=forms.NETWORKS,
    )
    fetch_max_bytes: int = setting(
        512 * 1024 * 1024, "the largest recording to keep, in bytes", least=1, most=2_147_483_648
    )
    fetch_seconds: float = setting(
        300.0, "the longest time for a fetch, including redirects", least=1, most=3_600
    )
    fetch_connect_seconds: float = setting(5.0, "the longest time to open a connection", least=0.1, most=60)
    fetch_read_seconds: float = setting(30.0, "the longest pause between bytes", least=0.1, most=600)
    upload_max_bytes: int = setting(
        512 * 1024 * 1024, "the largest upload to keep, in bytes", least=1, most=2_147_483_648
    )
    uploads_at_once: int = setting(
        64,
        "the most uploads read at once; one tenant gets half of them, and further requests must try again later",
        least=1,
        most=1_000,
    )
    downloads_at_once: int = setting(
        128,
        "the most recordings downloaded at once; one tenant gets half of them, and further requests must try again "
        "later",
        least=1,
        most=800,
    )
    upload_seconds: float = setting(
        3_600.0, "the longest time for one request of an upload", least=1, most=86_400
    )
    uploads_open: int = setting(
        100,
        "the most incomplete uploads of a tenant; further requests must try again later",
        least=1,
        most=10_000,
    )
    upload_hours: float = setting(
        168.0, "how many hours to keep an incomplete upload after its last part", least=0.1, most=8_760
    )
    decode_max_seconds: float = setting(
        4 * 3600.0, "the longest recording, in seconds of audio", least=1, most=86_400
    )
    decode_cpu_seconds: int = setting(
        300, "the most CPU seconds for decoding one recording", least=1, most=3_600
    )
    decode_memory_bytes: int = setting(
        512 * 1024 * 1024,
        "the most memory for decoding one recording, in bytes",
        least=64 * 1024 * 1024,
        most=8_589_934_592,
    )


def load_config(env: Mapping[str, str] | None = None, *, reach: bool = False) -> AudioConfig:
    """Return the settings; with `reach`, what Whisper needs is looked for, and the bucket is asked.

    Raises ConfigError that lists what is wrong.
    """
    config = load(AudioConfig, SERVICE, env, reach=reach)
    if GOOGLE in config.engines and not config.google.project:
        raise ConfigError([f"{env_name(SERVICE, f'{GOOGLE}_project')} is required for the engine {GOOGLE}"])
    if WHISPER in config.engines and config.whisper.english and not renders_english(config.whisper.model):
        told = (
            f"needs a larger model than {config.whisper.model!r}: {', '.join(filter(renders_english, KNOWN))}"
        )
        raise ConfigError([f"{env_name(SERVICE, f'{WHISPER}_english')} {told}"])
    problems = []
    if reach and WHISPER in config.engines:
        problems = [env_name(SERVICE, f"{WHISPER}_{field}") + told for field, told in lacking(config.whisper)]
    if reach and config.blobs.bucket:
        from trunkline_audio.media.blobs.gcs import problem_of  # noqa: PLC0415 - loaded when used

        problem = problem_of(config.blobs)
        problems += [f"{env_name(SERVICE, 'blobs_bucket')}: {problem}"] if problem else []
    if problems:
        raise ConfigError(problems)
    return config
