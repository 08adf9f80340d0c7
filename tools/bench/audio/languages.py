"""Which language is heard, without a hint: sentences in several languages, ten seconds a recording.

`language_accuracy` is over the five languages that Pico speaks, over a telephone. Its voices are learnt from recordings
of people; the sample calls have them too. `language_accuracy_robot` is over seven languages that espeak-ng computes, at
16 kHz. It has no target: `base` understands little of these voices, and next to nothing of the Russian one.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import zlib
from pathlib import Path

import numpy as np

from tools.bench.audio.engine import Bench, settings
from tools.samples.make_calls import LINE_HZ, encode, mu_law, telephone
from tools.samples.voices import WIDE_HZ, speak

SENTENCES = {
    "en": (
        "Good morning, I would like to book an appointment for next Tuesday afternoon.",
        "The water heater in the basement is leaking, can you send somebody today?",
        "How much does it cost to have the roof repaired before the winter?",
    ),
    "es": (
        "Buenos días, quisiera pedir una cita para el martes por la tarde.",
        "El calentador de agua del sótano está goteando, ¿pueden mandar a alguien hoy?",
        "¿Cuánto cuesta reparar el tejado antes del invierno?",
    ),
    "fr": (
        "Bonjour, je voudrais prendre un rendez-vous pour mardi après-midi.",
        "Le chauffe-eau de la cave fuit, pouvez-vous envoyer quelqu'un aujourd'hui ?",
        "Combien coûte la réparation du toit avant l'hiver ?",
    ),
    "de": (
        "Guten Morgen, ich möchte gerne einen Termin für nächsten Dienstag vereinbaren.",
        "Der Boiler im Keller ist undicht, können Sie heute noch jemanden schicken?",
        "Wie viel kostet es, das Dach vor dem Winter reparieren zu lassen?",
    ),
    "it": (
        "Buongiorno, vorrei prendere un appuntamento per martedì pomeriggio.",
        "Lo scaldabagno in cantina perde acqua, potete mandare qualcuno oggi?",
        "Quanto costa riparare il tetto prima dell'inverno?",
    ),
    "pl": (
        "Dzień dobry, chciałbym umówić się na wizytę w przyszły wtorek po południu.",
        "Podgrzewacz wody w piwnicy przecieka, czy mogą państwo kogoś dzisiaj przysłać?",
        "Ile kosztuje naprawa dachu przed zimą?",
    ),
    "ru": (
        "Доброе утро, я хотел бы записаться на приём в следующий вторник.",
        "Водонагреватель в подвале протекает, вы можете прислать кого-нибудь сегодня?",
        "Сколько стоит ремонт крыши перед зимой?",
    ),
}
PICO = {"en": "nano-us", "es": "nano-es", "fr": "nano-fr", "de": "nano-de", "it": "nano-it"}
ROBOT = {language: language for language in SENTENCES}
"""Voices of espeak-ng have the names of their languages."""
Kind = tuple[dict[str, str], bool]
"""The voice of each language, and whether it is heard over a telephone."""
_PAUSE = np.zeros(WIDE_HZ // 2)


def figures() -> dict[str, float]:
    """The share of the recordings, of all sentences in twos, whose language was found: of each kind of voice."""
    kinds = {"language_accuracy": (PICO, True)}
    if shutil.which("espeak-ng") is None:
        print("language_accuracy_robot is left out: espeak-ng (Debian: espeak-ng) is not on the PATH")
    else:
        kinds["language_accuracy_robot"] = (ROBOT, False)
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_accuracies(Path(folder), kinds))


async def _accuracies(folder: Path, kinds: dict[str, Kind]) -> dict[str, float]:
    bench = Bench(folder, settings())
    async with bench.warm():
        return {key: await _accuracy(bench, folder, *kind) for key, kind in kinds.items()}


async def _accuracy(bench: Bench, folder: Path, voices: dict[str, str], telephoned: bool) -> float:
    right = []
    for language, voice in voices.items():
        sentences = SENTENCES[language]
        for number, first in enumerate(sentences):
            second = sentences[(number + 1) % len(sentences)]
            path = folder / f"{voice}-{number}.wav"
            seconds = _written(path, voice, (first, second), telephoned)
            heard = await bench.hear(path, seconds, 1, language="")
            right.append(heard.language == language)
            if not right[-1]:
                print(f"  {path.stem}: heard {heard.language} ({heard.language_confidence:.2f})")
    return sum(right) / len(right)


def _written(path: Path, voice: str, sentences: tuple[str, ...], telephoned: bool) -> float:
    """Write sentences to a file; its length in seconds."""
    parts = [part for text in sentences for part in (speak(text, voice), _PAUSE)]
    samples = np.concatenate(parts)[np.newaxis]
    if telephoned:
        encode(path, mu_law(telephone(samples, zlib.crc32(path.stem.encode()))), LINE_HZ, "wav-mulaw")
    else:
        encode(path, samples, WIDE_HZ, "wav")
    return float(samples.shape[1] / WIDE_HZ)
