"""Regenerates tests/data/phrases: the sentences of tools/samples/phrase_scenarios.py as telephone recordings.

A developer's tool, as tools/samples/make_calls.py is. Wants flite on the PATH.
"""

from __future__ import annotations

import zlib

import numpy as np

from tools.samples.make_calls import HOME, LEAD_S, LINE_HZ, encode, mu_law, telephone
from tools.samples.phrase_scenarios import SENTENCES
from tools.samples.voices import WIDE_HZ, speak


def main() -> None:
    """Writes one recording a sentence."""
    folder = HOME / "phrases"
    folder.mkdir(parents=True, exist_ok=True)
    around = np.zeros(round(LEAD_S * WIDE_HZ))
    for sentence in SENTENCES:
        wide = np.concatenate([around, speak(sentence.text, sentence.voice), around])[np.newaxis]
        line = telephone(wide, zlib.crc32(sentence.id.encode()))
        encode(folder / f"{sentence.id}.ogg", mu_law(line), LINE_HZ, "opus")


if __name__ == "__main__":
    main()
