"""The speakers of the sample calls: voices of speech synthesisers, and what makes other people of them."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

Samples = NDArray[np.float64]

WIDE_HZ = 16_000
SPEECH_DB = -20.0  # RMS of every turn, dBFS
# Of Debian; the last is in its non-free part.
PACKAGES = {"flite": "flite", "espeak-ng": "espeak-ng", "pico2wave": "libttspico-utils"}


@dataclass(frozen=True)
class Voice:
    """A speaker: a voice of a synthesiser, how much slower than it comes, how much larger a body it comes from."""

    command: str
    name: str
    stretch: float = 1.0
    # Played slower, a voice is lower in pitch and formants, as of a larger body; its pace stays that of `stretch`.
    size: float = 1.0

    def say(self, text: str, path: str) -> list[str]:
        """The command that writes the text, spoken, to a WAV file."""
        stretch = self.stretch / self.size
        match self.command:
            case "flite":
                pace = ["--setf", f"duration_stretch={stretch}"]
                return ["flite", "-voice", self.name, *pace, "-t", text, "-o", path]
            case "pico2wave":
                paced = f'<speed level="{round(100 / stretch)}">{text}</speed>'
                return ["pico2wave", "-l", self.name, "-w", path, paced]
            case "py_nanotts":
                return [sys.executable, "-m", "py_nanotts", text, "-v", self.name, "-o", path]
            case _:
                return ["espeak-ng", "-v", self.name, "-s", str(round(150 / stretch)), "-w", path, text]


# Any other name is a voice of espeak-ng.
VOICES = {
    "rms": Voice("flite", "rms"),
    "slt": Voice("flite", "slt"),
    "kal16": Voice("flite", "kal16", stretch=1.12),
    "awb": Voice("flite", "awb", stretch=1.15),
    "rms-slow": Voice("flite", "rms", stretch=1.1),
    "rms-small": Voice("flite", "rms", stretch=1.1, size=0.94),
    "pico-us": Voice("pico2wave", "en-US"),
    "pico-gb": Voice("pico2wave", "en-GB"),
    "pico-de": Voice("pico2wave", "de-DE"),
    "pico-de-large": Voice("pico2wave", "de-DE", size=1.15),
    "pico-es": Voice("pico2wave", "es-ES"),
    "pico-fr": Voice("pico2wave", "fr-FR"),
    "pico-fr-large": Voice("pico2wave", "fr-FR", size=1.15),
    # Pico too, from the Python package that is installed for development: no command is needed.
    "nano-us": Voice("py_nanotts", "en-US"),
    "nano-de": Voice("py_nanotts", "de-DE"),
    "nano-es": Voice("py_nanotts", "es-ES"),
    "nano-fr": Voice("py_nanotts", "fr-FR"),
    "nano-it": Voice("py_nanotts", "it-IT"),
}


def missing() -> list[str]:
    """The Debian packages of the synthesisers that are not on the PATH."""
    return [package for command, package in PACKAGES.items() if shutil.which(command) is None]


def speak(text: str, voice: str) -> Samples:
    """One turn in one voice at 16 kHz, silence at its ends cut off, levelled."""
    speaker = VOICES.get(voice) or Voice("espeak-ng", voice)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "turn.wav"
        subprocess.run(speaker.say(text, str(path)), check=True, capture_output=True, timeout=60)
        with wave.open(io.BytesIO(path.read_bytes())) as source:
            rate = source.getframerate()
            raw = np.frombuffer(source.readframes(source.getnframes()), dtype="<i2") / 32768.0
    said = soxr.resample(raw, rate / speaker.size, WIDE_HZ, quality="HQ")
    loud = np.flatnonzero(np.abs(said) > 0.01 * np.abs(said).max())
    said = said[max(0, loud[0] - 320) : loud[-1] + 800]
    levelled: Samples = said * (10 ** (SPEECH_DB / 20) / np.sqrt(np.mean(said**2)))
    return levelled
