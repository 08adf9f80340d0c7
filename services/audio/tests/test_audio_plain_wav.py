"""An ordinary WAV is counted without decoding, and only when the decoder would say the same."""

import io
import struct
import sys

import pytest
from trunkline_audio.media.preprocess import decode, plain_wav


def riff(tag=1, channels=1, rate=8000, bits=16, data=b"\0" * 16000, extra=b"", declared=None, align=None):
    align = channels * bits // 8 if align is None else align
    fmt = struct.pack("<HHIIHH", tag, channels, rate, rate * align, align, bits)
    chunks = b"fmt " + struct.pack("<I", len(fmt)) + fmt + extra
    chunks += b"data" + struct.pack("<I", len(data) if declared is None else declared) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def looked(tmp_path, body):
    path = tmp_path / "call.wav"
    path.write_bytes(body)
    return plain_wav.look(path)


@pytest.mark.parametrize(
    ("tag", "bits"), [(1, 8), (1, 16), (1, 24), (1, 32), (6, 8), (7, 8)], ids=lambda value: str(value)
)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 11025, 44100])
def test_agrees_with_the_decoder(tmp_path, tag, bits, channels, rate):
    body = riff(tag, channels, rate, bits, b"\x55" * (channels * bits // 8 * 12_345))
    found = looked(tmp_path, body)
    decoded = decode.decode(io.BytesIO(body), [], 60)
    assert (f"wav/{found.codec}", found.channels, found.sample_rate) == (
        decoded.format,
        decoded.channels,
        decoded.sample_rate,
    )
    assert found.frames == 12_345
    assert found.frames / found.sample_rate == pytest.approx(decoded.seconds, abs=0.001)


def test_skips_chunks_that_hold_no_sound(tmp_path):
    listed = b"LIST" + struct.pack("<I", 5) + b"hello\0"
    assert looked(tmp_path, riff(extra=listed)).frames == 8000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"RIFF",
        b"no sound at all, only text that is long enough",
        riff(data=b""),
        riff(declared=16_001),
        riff(declared=15_999),
        riff(declared=0xFFFFFFFF),
        riff(channels=6, data=b"\0" * 12_000),
        riff(tag=0xFFFE),
        riff(tag=3, bits=32),
        riff(bits=16, align=3),
        riff(rate=0),
        riff(extra=b"fmt " + struct.pack("<I", 16) + b"\0" * 16),
        riff()[:30],
        riff(extra=b"LIST" + struct.pack("<I", 0xFFFFFFF0)),
    ],
)
def test_leaves_the_unusual_to_the_decoder(tmp_path, body):
    assert looked(tmp_path, body) is None


def test_a_file_that_is_many_is_not_walked(tmp_path):
    """It is looked at between the requests of others: what it holds decides nothing about how long that takes."""
    again = riff(data=b"\0\0", extra=(b"junk" + struct.pack("<I", 0)) * 500)
    calls = 0

    def count(frame, event, called):
        nonlocal calls
        calls += 1

    path = tmp_path / "call.wav"
    path.write_bytes(riff() + again * 50)
    sys.setprofile(count)
    try:
        found = plain_wav.look(path)
    finally:
        sys.setprofile(None)
    assert found is None
    assert calls < 1_000


def test_chunks_behind_the_samples_are_passed_over(tmp_path):
    assert looked(tmp_path, riff() + b"LIST" + struct.pack("<I", 60) + b"x" * 60).frames == 8000
