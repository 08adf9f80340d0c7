"""The service's settings: TRUNKLINE_AUDIO_*."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from trunkline_runtime import forms
from trunkline_runtime.config import ConfigError, StoreConfig, env_name, load, setting

from trunkline_audio.models.errors import ModelError
from trunkline_audio.models.lookup import default_folder, reachable, verify

SERVICE = "audio"

WHISPER = "whisper"
# Compute types that are chosen when the model is loaded: they suit every device.
_OF_THE_MODEL = ("auto", "default")
# A start doesn't refuse a missing model: the log names it, and recordings are kept until it is there.
MODEL = forms.Form("a model's name, owner/repository, or a folder", lambda _name: None, reach=reachable)


@dataclass(frozen=True, kw_only=True)
class AudioConfig(StoreConfig):
    """What the audio service is told."""

    blobs_folder: Path = setting(
        Path("var/blobs"), "the folder for the bytes of recordings", form=forms.FOLDER
    )
    scratch_folder: Path = setting(
        Path("var/audio-scratch"),
        "the folder for decoded audio while it is processed; the service empties it at start",
        form=forms.FOLDER,
    )
    engine: str = setting(
        WHISPER,
        "the speech engine: whisper, or module:factory of your own engine",
        form=forms.plug_in(WHISPER),
    )
    engine_workers: int = setting(
        0,
        "the number of windows of speech that are transcribed at once; 0 means one for each core",
        least=0,
        most=256,
    )
    whisper_model: str = setting(
        "base",
        "the faster-whisper model: a name, owner/repository of the model hub, or a folder; `python -m "
        "trunkline_audio.models` lists and fetches models",
        form=MODEL,
    )
    whisper_device: str = setting("cpu", "the device that the model runs on", choices=("cpu", "cuda", "auto"))
    whisper_compute_type: str = setting(
        "int8",
        "CTranslate2's compute type, such as int8 on a CPU, or float16 or int8_float16 with cuda",
        choices=(
            *("int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16"),
            *("float16", "bfloat16", "float32", *_OF_THE_MODEL),
        ),
    )
    whisper_beam: int = setting(
        5,
        "the number of wordings that the model compares; fewer is faster and less accurate",
        least=1,
        most=16,
    )
    decoders: int = setting(2, "the number of processes that decode recordings", least=1, most=64)
    transcriptions_at_once: int = setting(
        16,
        "the most recordings transcribed at once; further requests must try again later",
        least=1,
        most=1_000,
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
    """Return the settings; with `reach`, what Whisper needs is looked for.

    Raises ConfigError that lists what is wrong.
    """
    config = load(AudioConfig, SERVICE, env, reach=reach)
    if reach and config.engine == WHISPER and (problems := list(_lacking(config))):
        raise ConfigError(problems)
    return config


def _lacking(config: AudioConfig) -> Iterator[str]:
    """Say what a start would go on without, each time that it tries to load the model."""
    try:
        verify(config.whisper_model, default_folder())
    except ModelError as error:
        yield f"{env_name(SERVICE, 'whisper_model')}: {error}"
    import ctranslate2  # noqa: PLC0415 -- only the process that holds the model pays for it

    try:
        usable = ctranslate2.get_supported_compute_types(config.whisper_device)
    except RuntimeError as error:
        yield f"{env_name(SERVICE, 'whisper_device')} cannot be used: {error}; it is {config.whisper_device!r}"
        return
    if config.whisper_compute_type not in {*usable, *_OF_THE_MODEL}:
        yield (
            f"{env_name(SERVICE, 'whisper_compute_type')} must be one of {', '.join(sorted(usable))} on this machine's "
            f"{config.whisper_device}; it is {config.whisper_compute_type!r}"
        )
