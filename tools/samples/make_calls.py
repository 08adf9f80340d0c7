"""Regenerates the sample recordings: tests/data/calls, their 16 kHz twins and calls.json, and tests/data/languages.

A developer's tool: the recordings are committed, so nobody else needs it. Wants flite, espeak-ng and pico2wave
on the PATH, and numpy, soxr and PyAV. The same versions of these give the same bytes, except that another
processor may give an Opus file others; `--only ID ...` leaves all other recordings as they are.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import soxr
from av.audio.stream import AudioStream
from numpy.typing import NDArray

from tools.samples.call_scenarios import SCENARIOS, Scenario
from tools.samples.language_scenarios import LANGUAGES
from tools.samples.sounds import NOISES, level
from tools.samples.voices import SPEECH_DB, WIDE_HZ, missing, speak

Samples = NDArray[np.float64]
Entry = dict[str, Any]  # of an index

HOME = Path(__file__).resolve().parents[2] / "tests" / "data"
LINE_HZ = 8_000
HISS_DB = -58.0  # RMS of the line's hiss, dBFS
LEAD_S = 0.6  # before the first turn and after the last
INTERRUPTED_S = 0.35  # how long both speak when one interrupts the other
CODECS = {  # container -> (file suffix, format, codec, bits per second of (mono, dual))
    "wav": ("wav", "wav", "pcm_s16le", None),
    "wav-mulaw": ("wav", "wav", "pcm_mulaw", None),
    "flac": ("flac", "flac", "flac", None),
    "opus": ("ogg", "ogg", "libopus", (16_000, 32_000)),
    "mp3": ("mp3", "mp3", "libmp3lame", (24_000, 40_000)),
}


def main() -> None:
    """Writes the recordings, their 16 kHz twins and the indexes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HOME, help="folder to write (default: tests/data)")
    parser.add_argument(
        "--only", nargs="+", metavar="ID", help="make these; files and entries of others stay"
    )
    options = parser.parse_args()
    if tools := missing():
        raise SystemExit(f"make_calls: not on the PATH; Debian: apt-get install {' '.join(tools)}")
    known = [scenario.id for scenario in (*SCENARIOS, *LANGUAGES)]
    chosen = set(options.only or known)
    if unknown := sorted(chosen.difference(known)):
        raise SystemExit(f"make_calls: {', '.join(unknown)}: not among {', '.join(known)}")
    calls = make(options.out / "calls", SCENARIOS, chosen, call_entry)
    scenario_of = {scenario.id: scenario for scenario in SCENARIOS}
    by_reference = [
        language_entry(scenario_of[entry["id"]], {**entry, "file": f"../calls/{entry['file']}"})
        for entry in calls
        if entry["language"] != "en"
    ]
    languages = make(options.out / "languages", LANGUAGES, chosen, language_entry)
    write(options.out / "calls" / "calls.json", calls)
    write(options.out / "languages" / "languages.json", by_reference + languages)


def make(
    folder: Path,
    scenarios: Iterable[Scenario],
    chosen: set[str],
    describe: Callable[[Scenario, Entry], Entry],
) -> list[Entry]:
    """Records the chosen scenarios; the index's entries of all, those of the others as they were."""
    folder.mkdir(parents=True, exist_ok=True)
    index = folder / f"{folder.name}.json"
    entries = {entry["id"]: entry for entry in json.loads(index.read_text())} if index.exists() else {}
    for scenario in scenarios:
        if scenario.id in chosen:
            entries[scenario.id] = describe(scenario, record(scenario, folder))
    return [entries[scenario.id] for scenario in scenarios if scenario.id in entries]


def write(index: Path, entries: list[Entry]) -> None:
    """Writes an index and says what its folder holds."""
    index.write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    size = sum(path.stat().st_size for path in index.parent.rglob("*") if path.is_file())
    seconds = sum(entry["seconds"] for entry in entries)
    print(f"{len(entries)} recordings, {seconds:.0f} s, {size / 1e6:.2f} MB in {index.parent}")


def call_entry(scenario: Scenario, recorded: Entry) -> Entry:
    """A call as calls.json has it."""
    return {
        "id": scenario.id,
        "file": recorded["file"],
        "wide_file": recorded["wide_file"],
        "seconds": recorded["seconds"],
        "channels": scenario.channels,
        "language": scenario.language,
        "provider": scenario.provider,
        "turns": recorded["turns"],
        "expected": scenario.expected,
        "customer_name": scenario.customer_name,
        "customer_phone": scenario.customer_phone,
    }


def language_entry(scenario: Scenario, recorded: Entry) -> Entry:
    """A recording as languages.json has it: no labels, and the language of every turn."""
    spoken = {"A": scenario.agent_language or scenario.language, "C": scenario.language}
    return {
        "id": scenario.id,
        "file": recorded["file"],
        "seconds": recorded["seconds"],
        "channels": scenario.channels,
        "language": scenario.language,
        "turns": [{"language": spoken[turn["speaker"]], **turn} for turn in recorded["turns"]],
    }


def record(scenario: Scenario, folder: Path) -> Entry:
    """Writes one scenario's recording and, of quiet English, its twin; returns what an index says of them."""
    wide, turns = perform(scenario)
    seed = zlib.crc32((scenario.mix_of or scenario.id).encode())
    around = surroundings(scenario, wide, seed) if scenario.noise else 0.0
    line = telephone(wide + around, seed)
    if scenario.channels == 1:
        line = line.sum(axis=0, keepdims=True)
    file = f"{scenario.id}.{CODECS[scenario.container][0]}"
    encode(folder / file, mu_law(line), LINE_HZ, scenario.container)
    twin = None
    if scenario.language == "en" and turns and not scenario.noise:
        twin = f"wide/{scenario.mix_of or scenario.id}.ogg"
        if not scenario.mix_of:
            (folder / "wide").mkdir(exist_ok=True)
            encode(folder / twin, wide.sum(axis=0, keepdims=True), WIDE_HZ, "opus")
    return {"file": file, "wide_file": twin, "seconds": round(line.shape[1] / LINE_HZ, 2), "turns": turns}


def perform(scenario: Scenario) -> tuple[Samples, list[Entry]]:
    """Speaks the lines one after another; gives (2, n) samples at 16 kHz, agent first, and the turns."""
    if not scenario.lines:
        return np.zeros((2, int(scenario.silence_s * WIDE_HZ))), []
    clock = LEAD_S
    placed: list[tuple[int, int, Samples]] = []
    turns: list[Entry] = []
    for number, (speaker, text) in enumerate(scenario.lines):
        said = speak(text, scenario.agent if speaker == "A" else scenario.customer)
        end = clock + len(said) / WIDE_HZ
        placed.append((0 if speaker == "A" else 1, round(clock * WIDE_HZ), said))
        turns.append({"speaker": speaker, "text": text, "start_s": round(clock, 2), "end_s": round(end, 2)})
        # People answer after half a second to a second and a quarter; any fixed pattern will do.
        clock = end + 0.65 + 0.15 * (number * 3 % 5)
        if scenario.tone_after == number:
            placed.append((0, round(clock * WIDE_HZ), tone()))
            clock += 1.2
        if number + 1 in scenario.interrupts:
            clock = end - INTERRUPTED_S
    samples = np.zeros((2, round((turns[-1]["end_s"] + LEAD_S) * WIDE_HZ)))
    for channel, start, said in placed:
        samples[channel, start : start + len(said)] += said[: samples.shape[1] - start]
    return samples, turns


def tone() -> Samples:
    """The beep of an answering machine."""
    time = np.arange(int(0.4 * WIDE_HZ)) / WIDE_HZ
    beep: Samples = (
        0.15 * np.sin(2 * np.pi * 1000 * time) * np.minimum(1, np.minimum(time, 0.4 - time) / 0.02)
    )
    return beep


def surroundings(scenario: Scenario, wide: Samples, seed: int) -> Samples:
    """The noise of either channel; in a mix of both only one has it, so that it is there once."""
    around = np.zeros_like(wide)
    for number in range(scenario.channels):
        noise = NOISES[scenario.noise](wide.shape[1], seed + number)
        around[number] = level(noise, SPEECH_DB - scenario.noise_db)
    return around


def telephone(wide: Samples, seed: int) -> Samples:
    """The same channels as a telephone carries them: 300 to 3400 Hz, sampled at 8 kHz, with a little hiss."""
    kernel = band_pass(300.0, 3400.0, WIDE_HZ)
    noise = np.random.default_rng(seed)
    channels = []
    for channel in wide:
        hiss = np.convolve(noise.standard_normal(len(channel)), kernel, mode="same")
        hiss *= 10 ** (HISS_DB / 20) / np.sqrt(np.mean(hiss**2))
        heard = np.convolve(channel, kernel, mode="same") + hiss
        channels.append(soxr.resample(heard, WIDE_HZ, LINE_HZ, quality="HQ"))
    return np.stack(channels)


def band_pass(low: float, high: float, rate: int, taps: int = 513) -> Samples:
    """A linear-phase windowed-sinc filter from `low` to `high` hertz."""
    middle = np.arange(taps) - (taps - 1) / 2
    top, bottom = 2 * high / rate, 2 * low / rate
    kernel: Samples = (top * np.sinc(top * middle) - bottom * np.sinc(bottom * middle)) * np.blackman(taps)
    return kernel


def mu_law(samples: Samples) -> Samples:
    """What is left of the samples after the eight bits of G.711 (continuous mu-law, 255 steps)."""
    clipped = np.clip(samples, -1.0, 1.0)
    squeezed = np.sign(clipped) * np.log1p(255 * np.abs(clipped)) / np.log(256)
    stepped = np.round(squeezed * 127) / 127
    heard: Samples = np.sign(stepped) * (256 ** np.abs(stepped) - 1) / 255
    return heard


def encode(path: Path, samples: Samples, rate: int, kind: str) -> None:
    """Writes (channels, n) samples, without dates, encoder names or random serial numbers in the file."""
    _, container, codec, bit_rates = CODECS[kind]
    pcm = np.round(np.clip(samples, -1.0, 32767 / 32768) * 32768).astype("<i2")
    layout = "stereo" if len(pcm) == 2 else "mono"
    with av.open(str(path), "w", format=container, options={"fflags": "+bitexact"}) as sink:
        stream = cast(AudioStream, sink.add_stream(codec, rate=rate, layout=layout))
        stream.codec_context.options = {"flags": "+bitexact", "joint_stereo": "0"}
        if bit_rates is not None:
            stream.bit_rate = bit_rates[len(pcm) - 1]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm.T).reshape(1, -1), "s16", layout)
        frame.sample_rate = rate
        frame.pts = 0
        sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))


if __name__ == "__main__":
    main()
