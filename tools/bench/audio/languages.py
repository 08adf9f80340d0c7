"""Which language is heard: sentences in several languages, read by espeak-ng, without a hint."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import wave
from pathlib import Path

import numpy as np

from tools.bench.audio.engine import Bench, settings
from tools.voices import WIDE_HZ, speak

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
_PAUSE = np.zeros(WIDE_HZ // 2)


def figures() -> dict[str, float]:
    """The share of the recordings, of all sentences in twos, whose language was found."""
    if shutil.which("espeak-ng") is None:
        print("language_accuracy is left out: espeak-ng (Debian: espeak-ng) is not on the PATH")
        return {}
    with tempfile.TemporaryDirectory() as folder:
        return {"language_accuracy": asyncio.run(_accuracy(Path(folder)))}


async def _accuracy(folder: Path) -> float:
    bench = Bench(folder, settings())
    right = []
    async with bench.warm():
        for language, sentences in SENTENCES.items():
            for number, first in enumerate(sentences):
                second = sentences[(number + 1) % len(sentences)]
                path = folder / f"{language}-{number}.wav"
                seconds = _written(path, language, (first, second))
                heard = await bench.hear(path, seconds, 1, language="")
                right.append(heard.language == language)
                if not right[-1]:
                    print(f"  {path.stem}: heard {heard.language} ({heard.language_confidence:.2f})")
    return sum(right) / len(right)


def _written(path: Path, voice: str, sentences: tuple[str, ...]) -> float:
    """Write sentences to a file; its length in seconds."""
    parts = [part for text in sentences for part in (speak(text, voice), _PAUSE)]
    samples = np.clip(np.concatenate(parts) * 32767, -32768, 32767).astype("<i2")
    with wave.open(str(path), "wb") as sink:
        sink.setnchannels(1)
        sink.setsampwidth(2)
        sink.setframerate(WIDE_HZ)
        sink.writeframes(samples.tobytes())
    return len(samples) / WIDE_HZ
