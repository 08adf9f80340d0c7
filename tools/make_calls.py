"""Regenerates tests/data/calls: synthetic telephone calls, their 16 kHz twins, and the index calls.json.

A developer's tool: the recordings are committed, so nobody else needs it. Wants flite and espeak-ng on the
PATH, and numpy, soxr and PyAV. The same versions of these give the same bytes.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
import tempfile
import wave
import zlib
from pathlib import Path

import av
import numpy as np
import soxr
from numpy.typing import NDArray

from tools.call_scenarios import SCENARIOS, Scenario

Samples = NDArray[np.float64]

HOME = Path(__file__).resolve().parent.parent / "tests" / "data" / "calls"
WIDE_HZ = 16_000
LINE_HZ = 8_000
SPEECH_DB = -20.0  # RMS of every turn, dBFS
NOISE_DB = -58.0  # RMS of the line's hiss, dBFS
LEAD_S = 0.6  # before the first turn and after the last
CODECS = {  # container -> (file suffix, format, codec, bits per second of (mono, dual))
    "wav": ("wav", "wav", "pcm_s16le", None),
    "wav-mulaw": ("wav", "wav", "pcm_mulaw", None),
    "flac": ("flac", "flac", "flac", None),
    "opus": ("ogg", "ogg", "libopus", (16_000, 32_000)),
    "mp3": ("mp3", "mp3", "libmp3lame", (24_000, 40_000)),
}
FLITE_VOICES = {"rms": 1.0, "slt": 1.0, "kal16": 1.12}  # voice -> how much slower than it comes


def main() -> None:
    """Writes every recording, its 16 kHz twin and the index."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HOME, help="folder to write (default: tests/data/calls)")
    out: Path = parser.parse_args().out
    for tool in ("flite", "espeak-ng"):
        if shutil.which(tool) is None:
            raise SystemExit(f"make_calls: {tool} is not on the PATH (Debian: apt-get install {tool})")
    (out / "wide").mkdir(parents=True, exist_ok=True)
    index = [build(scenario, out) for scenario in SCENARIOS]
    text = json.dumps(index, indent=1, ensure_ascii=False) + "\n"
    (out / "calls.json").write_text(text, encoding="utf-8")
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{len(index)} calls, {sum(call['seconds'] for call in index):.0f} s, {size / 1e6:.2f} MB in {out}")


def build(scenario: Scenario, out: Path) -> dict[str, object]:
    """Writes one scenario's recording (and its twin) and returns its entry in the index."""
    wide, turns = perform(scenario)
    line = telephone(wide, seed=zlib.crc32((scenario.mix_of or scenario.id).encode()))
    if scenario.channels == 1:
        line = line.sum(axis=0, keepdims=True)
    file = f"{scenario.id}.{CODECS[scenario.container][0]}"
    encode(out / file, mu_law(line), LINE_HZ, scenario.container)
    twin = None
    if scenario.language == "en" and turns:
        twin = f"wide/{scenario.mix_of or scenario.id}.ogg"
        if not scenario.mix_of:
            encode(out / twin, wide.sum(axis=0, keepdims=True), WIDE_HZ, "opus")
    return {
        "id": scenario.id,
        "file": file,
        "wide_file": twin,
        "seconds": round(line.shape[1] / LINE_HZ, 2),
        "channels": scenario.channels,
        "language": scenario.language,
        "provider": scenario.provider,
        "turns": turns,
        "expected": scenario.expected,
        "customer_name": scenario.customer_name,
        "customer_phone": scenario.customer_phone,
    }


def perform(scenario: Scenario) -> tuple[Samples, list[dict[str, object]]]:
    """Speaks the lines one after another; gives (2, n) samples at 16 kHz, agent first, and the turns."""
    if not scenario.lines:
        return np.zeros((2, int(scenario.silence_s * WIDE_HZ))), []
    clock = LEAD_S
    placed: list[tuple[int, int, Samples]] = []
    turns: list[dict[str, object]] = []
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
    samples = np.zeros((2, round((turns[-1]["end_s"] + LEAD_S) * WIDE_HZ)))
    for channel, start, said in placed:
        samples[channel, start : start + len(said)] += said[: samples.shape[1] - start]
    return samples, turns


def speak(text: str, voice: str) -> Samples:
    """One turn in one voice at 16 kHz, silence at its ends cut off, levelled."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "turn.wav"
        if voice in FLITE_VOICES:
            pace = f"duration_stretch={FLITE_VOICES[voice]}"
            command = ["flite", "-voice", voice, "--setf", pace, "-t", text, "-o", str(path)]
        else:
            command = ["espeak-ng", "-v", voice, "-s", "150", "-w", str(path), text]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        with wave.open(io.BytesIO(path.read_bytes())) as source:
            rate = source.getframerate()
            raw = np.frombuffer(source.readframes(source.getnframes()), dtype="<i2") / 32768.0
    said = soxr.resample(raw, rate, WIDE_HZ, quality="HQ")
    loud = np.flatnonzero(np.abs(said) > 0.01 * np.abs(said).max())
    said = said[max(0, loud[0] - 320) : loud[-1] + 800]
    return said * (10 ** (SPEECH_DB / 20) / np.sqrt(np.mean(said**2)))


def tone() -> Samples:
    """The beep of an answering machine."""
    time = np.arange(int(0.4 * WIDE_HZ)) / WIDE_HZ
    return 0.15 * np.sin(2 * np.pi * 1000 * time) * np.minimum(1, np.minimum(time, 0.4 - time) / 0.02)


def telephone(wide: Samples, seed: int) -> Samples:
    """The same channels as a telephone carries them: 300 to 3400 Hz, sampled at 8 kHz, with a little hiss."""
    kernel = band_pass(300.0, 3400.0, WIDE_HZ)
    noise = np.random.default_rng(seed)
    channels = []
    for channel in wide:
        hiss = np.convolve(noise.standard_normal(len(channel)), kernel, mode="same")
        hiss *= 10 ** (NOISE_DB / 20) / np.sqrt(np.mean(hiss**2))
        heard = np.convolve(channel, kernel, mode="same") + hiss
        channels.append(soxr.resample(heard, WIDE_HZ, LINE_HZ, quality="HQ"))
    return np.stack(channels)


def band_pass(low: float, high: float, rate: int, taps: int = 513) -> Samples:
    """A linear-phase windowed-sinc filter from `low` to `high` hertz."""
    middle = np.arange(taps) - (taps - 1) / 2
    top, bottom = 2 * high / rate, 2 * low / rate
    return (top * np.sinc(top * middle) - bottom * np.sinc(bottom * middle)) * np.blackman(taps)


def mu_law(samples: Samples) -> Samples:
    """What is left of the samples after the eight bits of G.711 (continuous mu-law, 255 steps)."""
    clipped = np.clip(samples, -1.0, 1.0)
    squeezed = np.sign(clipped) * np.log1p(255 * np.abs(clipped)) / np.log(256)
    stepped = np.round(squeezed * 127) / 127
    return np.sign(stepped) * (256 ** np.abs(stepped) - 1) / 255


def encode(path: Path, samples: Samples, rate: int, kind: str) -> None:
    """Writes (channels, n) samples, without dates, encoder names or random serial numbers in the file."""
    _, container, codec, bit_rates = CODECS[kind]
    pcm = np.round(np.clip(samples, -1.0, 32767 / 32768) * 32768).astype("<i2")
    layout = "stereo" if len(pcm) == 2 else "mono"
    with av.open(str(path), "w", format=container, options={"fflags": "+bitexact"}) as sink:
        stream = sink.add_stream(codec, rate=rate, layout=layout)
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
