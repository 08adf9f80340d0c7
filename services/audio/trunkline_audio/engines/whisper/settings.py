"""Whisper's settings, TRUNKLINE_AUDIO_WHISPER_*, and what this machine lacks for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trunkline_runtime import forms
from trunkline_runtime.settings import setting

from trunkline_audio.models.errors import ModelError
from trunkline_audio.models.lookup import default_folder, reachable, verify
from trunkline_audio.models.names import KNOWN, renders_english

# Compute types that are chosen when the model is loaded: they suit every device.
_OF_THE_MODEL = ("auto", "default")
# A start doesn't refuse a missing model: the log names it, and recordings are kept until it is there.
MODEL = forms.Form("a model's name, owner/repository, or a folder", lambda _name: None, reach=reachable)


@dataclass(frozen=True, kw_only=True)
class WhisperSettings:
    """How the engine runs."""

    lanes: int = setting(
        0,
        "the number of windows of speech that are transcribed at once; 0 means one for each core",
        least=0,
        most=256,
        name="engine_workers",
    )
    model: str = setting(
        "base",
        "the faster-whisper model: a name, owner/repository of the model hub, or a folder; `python -m "
        "trunkline_audio.models` lists and fetches models",
        form=MODEL,
    )
    device: str = setting("cpu", "the device that the model runs on", choices=("cpu", "cuda", "auto"))
    compute_type: str = setting(
        "int8",
        "CTranslate2's compute type, such as int8 on a CPU, or float16 or int8_float16 with cuda",
        choices=(
            *("int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16"),
            *("float16", "bfloat16", "float32", *_OF_THE_MODEL),
        ),
    )
    beam: int = setting(
        5,
        "the number of wordings that the model compares; fewer is faster and less accurate",
        least=1,
        most=16,
    )
    english: bool = setting(
        False,
        "write what is said in other languages in English; only with a model that is good enough: "
        f"{', '.join(name for name in KNOWN if renders_english(name))}. Transcripts say which language was spoken",
        form=forms.SWITCH,
    )


def lacking(settings: WhisperSettings) -> Iterator[tuple[str, str]]:
    """Give each field whose value this machine cannot serve, and the reason, as the end of a line of `--check`.

    A start goes on without these, and tries to load the model again and again.
    """
    try:
        verify(settings.model, default_folder())
    except ModelError as error:
        yield "model", f": {error}"
    import ctranslate2  # noqa: PLC0415 -- only the process that holds the model pays for it

    try:
        usable = ctranslate2.get_supported_compute_types(settings.device)
    except RuntimeError as error:
        yield "device", f" cannot be used: {error}; it is {settings.device!r}"
        return
    if settings.compute_type not in {*usable, *_OF_THE_MODEL}:
        yield (
            "compute_type",
            f" must be one of {', '.join(sorted(usable))} on this machine's {settings.device}; "
            f"it is {settings.compute_type!r}",
        )
