"""Sounds for tests, made here: no speech data, no files of their own."""

import io
import wave
from fractions import Fraction

import av
import numpy as np

RATE = 16_000


def tone(seconds, rate=8000, hertz=440.0, level=0.3):
    return (level * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def wav(*channels, rate=8000):
    body = io.BytesIO()
    with wave.open(body, "wb") as writer:
        writer.setnchannels(len(channels))
        writer.setsampwidth(2)
        writer.setframerate(rate)
        samples = np.clip(np.stack(channels) * 32767, -32768, 32767).astype("<i2")
        writer.writeframes(samples.T.tobytes())
    return body.getvalue()


def encoded(container, codec, *channels, rate=48_000):
    """The channels in some other container and codec, by PyAV."""
    body = io.BytesIO()
    layout = "stereo" if len(channels) == 2 else "mono"
    with av.open(body, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(
            np.stack(channels).astype(np.float32), format="fltp", layout=layout
        )
        frame.sample_rate = rate
        frame.time_base = Fraction(1, rate)
        size = stream.codec_context.frame_size or 1024
        resampler = av.AudioResampler(format=stream.format, layout=layout, rate=rate, frame_size=size)
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            for packet in stream.encode(piece):
                out.mux(packet)
        for packet in stream.encode(None):
            out.mux(packet)
    return body.getvalue()


def surround_silence(seconds, rate):
    """FLAC of eight channels without a sound: hardly any bytes."""
    body = io.BytesIO()
    with av.open(body, "w", format="flac") as out:
        stream = out.add_stream("flac", rate=rate, layout="7.1")
        stream.format = "s16"
        for number in range(int(seconds * rate) // 4_000):
            silence = np.zeros((1, 8 * 4_000), np.int16)
            frame = av.AudioFrame.from_ndarray(silence, format="s16", layout="7.1")
            frame.sample_rate, frame.pts, frame.time_base = rate, number * 4_000, Fraction(1, rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return body.getvalue()


def voice(seconds, rate=RATE, pitch=110.0, seed=1):
    """Something that a speech detector takes for a voice: a buzz with moving formants in syllables."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    contour = pitch * (1 + 0.08 * np.sin(2 * np.pi * 2.3 * time))
    phase = 2 * np.pi * np.cumsum(contour) / rate
    first = 500 + 250 * np.sin(2 * np.pi * 3.1 * time)
    second = 1500 + 500 * np.sin(2 * np.pi * 1.7 * time + 1)
    sound = np.zeros_like(time)
    for harmonic in range(1, int(3400 / pitch)):
        hertz = harmonic * contour
        gain = np.exp(-(((hertz - first) / 120) ** 2)) + 0.5 * np.exp(-(((hertz - second) / 180) ** 2)) + 0.01
        sound += gain * np.sin(harmonic * phase)
    syllables = np.clip(np.sin(2 * np.pi * 4.2 * time) + 0.7, 0, 1)
    sound = sound * syllables + rng.normal(0, 0.003, len(time))
    return (0.4 * sound / np.abs(sound).max()).astype(np.float32)
