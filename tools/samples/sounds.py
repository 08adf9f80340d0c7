"""Sounds in which nobody says a word, for the question whether a recogniser invents some, and noise for sample calls.

Synthesised from fixed seeds: the same each time. `SOUNDS` maps a name to half a minute of mono int16:
`SOUNDS["busy-us"]()` as the telephone samples it, `SOUNDS["busy-us"](16_000)` twice as often. `NOISES` maps
the name of a kind of noise to what makes it. Babble is made of the sample calls.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import av
import numpy as np
import soxr
from numpy.typing import NDArray

Samples = NDArray[np.float64]

CALLS = Path(__file__).resolve().parents[2] / "tests" / "data" / "calls" / "wide"
WIDE_HZ = 16_000  # everything is made at this rate
LINE_HZ = 8_000
SECONDS = 30
COUNT = SECONDS * WIDE_HZ
TIME: Samples = np.arange(COUNT) / WIDE_HZ
TALKERS = (
    "plumbing-emergency", "quote-request", "appointment-change", "angry-customer", "wrong-number", "vendor-pitch",
    "billing-question", "cancel-service", "job-application", "opening-hours", "water-heater", "robocall",
)  # fmt: skip
KEYS = {
    key: (low, high)
    for low, row in ((697, "123A"), (770, "456B"), (852, "789C"), (941, "*0#D"))
    for high, key in zip((1209, 1336, 1477, 1633), row, strict=True)
}
# Notes are numbered as in MIDI: 60 is middle C, 12 are an octave.
CHORDS = ((48, 55, 64), (45, 57, 60), (41, 57, 65), (43, 55, 62))  # C, A minor, F, G
TUNE = (72, 76, 79, 76, 72, 69, 76, 72, 77, 76, 72, 69, 71, 74, 79, 74)  # four notes a chord
VOWELS = ((730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410))  # formants of a, e, i, o


class Sound(Protocol):
    """Makes a sound at so many samples a second."""

    def __call__(self, rate: int = LINE_HZ) -> NDArray[np.int16]: ...


def level(samples: Samples, decibels: float = 0.0) -> Samples:
    """The samples with an RMS of so many decibels: below full scale if negative, 1.0 if none are given."""
    factor: float = 10 ** (decibels / 20) / np.sqrt(np.mean(samples**2))
    return samples * factor


def read(path: Path) -> Samples:
    """A sample call's 16 kHz twin."""
    with av.open(str(path)) as file:
        resampler = av.AudioResampler("flt", "mono", WIDE_HZ)
        frames = [part for frame in file.decode(audio=0) for part in resampler.resample(frame)]
    return np.concatenate([frame.to_ndarray()[0] for frame in frames]).astype(np.float64)


# Noise: so many samples at WIDE_HZ, with an RMS of 1.


def coloured(count: int, seed: int, slope: float) -> Samples:
    """Noise that falls by 3 dB an octave for each 1 of `slope`: 0 is white, 1 pink, 2 brown; none below 20 Hz."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(count))
    hertz = np.fft.rfftfreq(count, 1 / WIDE_HZ)
    return level(np.fft.irfft(spectrum * (hertz >= 20) / np.maximum(hertz, 20) ** (slope / 2), count))


def road(count: int, seed: int) -> Samples:
    """Inside a car: the rumble of engine and tyres, a little wind, and now and then a car that comes the other way."""
    time = np.arange(count) / WIDE_HZ
    passing = np.exp(-(((time % 11 - 6) / 1.2) ** 2))
    rumble = coloured(count, seed, 2.0) * (1 + 0.25 * np.sin(2 * np.pi * 0.13 * time))
    return level(rumble + coloured(count, seed + 1, 1.0) * (0.15 + 0.2 * passing))


def fan(count: int, seed: int) -> Samples:
    """A fan beside the telephone and the mains in its line: moving air, and hum at 60 Hz and its multiples."""
    time = np.arange(count) / WIDE_HZ
    hum = np.sum([np.sin(2 * np.pi * 60 * n * time + n) / n for n in (1, 2, 3, 4, 5, 6, 8, 10, 14)], axis=0)
    air = coloured(count, seed, 1.5) * (1 + 0.15 * np.sin(2 * np.pi * 17 * time))
    return level(level(hum) + air)


def babble(count: int, seed: int) -> Samples:
    """Twelve conversations at once, so that nobody can follow one."""
    chance = np.random.default_rng(seed)
    mixed = np.zeros(count)
    for name in TALKERS:
        said = read(CALLS / f"{name}.ogg")
        said = said[np.abs(said) > 1e-3 * np.abs(said).max()]  # without the pauses between the turns
        mixed += level(np.resize(np.roll(said, chance.integers(len(said))), count))
    return level(mixed)


NOISES: dict[str, Callable[[int, int], Samples]] = {
    "road": road,
    "cafe": babble,
    "pink": partial(coloured, slope=1.0),
    "fan": fan,
}


# Sounds: COUNT samples at WIDE_HZ, the parts of which are:


def tones(*hertz: float, on: float = SECONDS, off: float = 0.0) -> Samples:
    """Tones that sound together, `on` seconds of every `on` and `off`, with soft edges."""
    within = TIME % (on + off)
    edges: Samples = np.clip(np.minimum(within, on - within) / 0.005, 0, 1)
    together: Samples = np.sum([np.sin(2 * np.pi * one * TIME) for one in hertz], axis=0)
    return 0.1 * edges * together


def keys(pressed: str) -> Samples:
    """Keys of a telephone, three a second, over and over."""
    sounds = [tones(*KEYS[key], on=0.18, off=SECONDS)[: round(0.34 * WIDE_HZ)] for key in pressed]
    return np.resize(np.concatenate(sounds), COUNT)


def hertz_of(notes: tuple[int, ...], seconds: float, wobble: float = 0.0) -> Samples:
    """The pitch at every moment of notes of so many seconds each, over and over; `wobble` is the vibrato's depth."""
    pitch = np.asarray(notes)[(TIME / seconds).astype(int) % len(notes)]
    steady: Samples = 440 * 2 ** ((pitch - 69) / 12)
    return steady * (1 + wobble * np.sin(2 * np.pi * 5.5 * TIME))


def played(hertz: Samples, seconds: float, ring: float, overtones: int = 5) -> Samples:
    """Notes as of a plucked or struck string that dies away within `ring` seconds."""
    phase = 2 * np.pi * np.cumsum(hertz) / WIDE_HZ
    string: Samples = np.sum([np.sin(n * phase) / n**1.5 for n in range(1, overtones + 1)], axis=0)
    within = TIME % seconds
    struck: Samples = np.exp(-within / ring) * np.clip(within / 0.01, 0, 1)
    return string * struck


def chords(seconds: float, ring: float) -> Samples:
    """The chords of the tune, one every so many seconds."""
    voices = [played(hertz_of(notes, seconds), seconds, ring) for notes in zip(*CHORDS, strict=True)]
    together: Samples = np.sum(voices, axis=0)
    return together


def drums(beat: float) -> Samples:
    """Bass drum and snare drum by turns, and a hi-hat on every half beat."""
    noise = coloured(COUNT, 21, 0.0)
    within, half = TIME % beat, TIME % (beat / 2)
    second: Samples = np.floor(TIME / beat) % 2
    bass: Samples = np.sin(2 * np.pi * (50 * within - 4 * np.exp(-within / 0.03))) * np.exp(-within / 0.12)
    snare: Samples = noise * np.exp(-within / 0.08)
    hat: Samples = noise * np.exp(-half / 0.02)
    return 2 * bass * (1 - second) + snare * second + 0.3 * hat


def sung(seconds: float) -> Samples:
    """The tune as a voice would sing it on vowels: a buzz with vibrato and formants, a short gap before each note."""
    hertz = hertz_of(TUNE, seconds, wobble=0.015) / 2
    phase = 2 * np.pi * np.cumsum(hertz) / WIDE_HZ
    formants = np.asarray(VOWELS)[(TIME / seconds).astype(int) % len(VOWELS)].T
    voice: Samples = np.zeros(COUNT)
    for harmonic in range(1, 16):
        gains = [np.exp(-(((harmonic * hertz - formant) / 140) ** 2)) for formant in formants]
        voice += (gains[0] + 0.5 * gains[1] + 0.25 * gains[2] + 0.01) * np.sin(harmonic * phase)
    within = TIME % seconds
    edges: Samples = np.clip(np.minimum(within, seconds - within) / 0.06, 0, 1)
    return voice * edges


def breaths() -> Samples:
    """Somebody breathes into the telephone: in for a second, out for longer, rushing as air does."""
    within = TIME % 4.0
    drawn: Samples = np.sin(np.pi * np.clip(within / 1.1, 0, 1)) ** 2
    blown: Samples = np.sin(np.pi * np.clip((within - 1.4) / 1.8, 0, 1)) ** 2
    return coloured(COUNT, 31, 0.5) * 0.6 * drawn + coloured(COUNT, 32, 1.3) * blown


def clicks() -> Samples:
    """A bad contact: about four clicks a second, of any loudness, and the mains' hum."""
    chance = np.random.default_rng(41)
    strikes = np.where(chance.random(COUNT) < 4 / WIDE_HZ, chance.uniform(-1, 1, COUNT), 0.0)
    ring = np.exp(-np.arange(80) / 12) * np.cos(np.arange(80))
    contact: Samples = np.convolve(strikes, ring)[:COUNT]
    return 0.5 * contact + 0.2 * tones(60, 180, 300)


def sound(make: Callable[[], Samples]) -> Sound:
    """What `make` gives, at the rate that is asked for, as int16."""

    def at(rate: int = LINE_HZ) -> NDArray[np.int16]:
        samples = make()
        if rate != WIDE_HZ:
            samples = soxr.resample(samples, WIDE_HZ, rate, quality="HQ")
        return np.round(np.clip(samples, -1.0, 1.0) * 32767).astype(np.int16)

    return at


SOUNDS: dict[str, Sound] = {
    name: sound(make)
    for name, make in {
        "silence": lambda: np.zeros(COUNT),
        "quiet-line": lambda: level(coloured(COUNT, 1, 0.0), -58),
        "ringing-us": lambda: tones(440, 480, on=2, off=4),
        "ringing-europe": lambda: tones(425, on=1, off=4),
        "busy-us": lambda: tones(480, 620, on=0.5, off=0.5),
        "busy-europe": lambda: tones(425, on=0.48, off=0.48),
        "keys": lambda: keys("18005550142#*0369ABCD"),
        "fax-calling": lambda: tones(1100, on=0.5, off=3),
        "fax-answering": lambda: tones(2100, on=3.3, off=1.7),
        "beep": lambda: tones(1000, on=0.4, off=9.6),
        "white-noise-30": lambda: level(coloured(COUNT, 2, 0.0), -30),
        "pink-noise-50": lambda: level(coloured(COUNT, 3, 1.0), -50),
        "pink-noise-35": lambda: level(coloured(COUNT, 3, 1.0), -35),
        "pink-noise-20": lambda: level(coloured(COUNT, 3, 1.0), -20),
        "road": lambda: level(road(COUNT, 4), -25),
        "fan": lambda: level(fan(COUNT, 5), -25),
        "babble-35": lambda: level(babble(COUNT, 6), -35),
        "babble-20": lambda: level(babble(COUNT, 6), -20),
        "music-soft": lambda: level(
            chords(2.4, 1.5) + played(hertz_of(TUNE, 0.6, wobble=0.01), 0.6, 0.5, overtones=3), -20
        ),
        "music-beat": lambda: level(chords(1.8, 0.4) + played(hertz_of(TUNE, 0.45), 0.45, 0.2, 9) + drums(0.45), -18),
        "singing": lambda: level(sung(0.8), -20),
        "singing-music": lambda: level(level(sung(0.6)) + 0.5 * level(chords(2.4, 0.8)) + 0.4 * level(drums(0.6)), -18),
        "breathing": lambda: level(breaths(), -35),
        "clicks": clicks,
    }.items()
}  # fmt: skip
