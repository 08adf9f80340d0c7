"""Recordings as real systems write them: each is read whole, or refused by name."""

import io
import struct

import audio_sounds as sounds
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trunkline_audio.media.preprocess import plain_wav, prepare, wav_parts
from trunkline_audio.media.preprocess.decode import HEADERLESS, decode
from trunkline_audio.workers.handlers import HandlerFailed

TONE = sounds.tone(3)
PCM = (TONE * 32767).astype("<i2").tobytes()
PCM_FORMAT = struct.pack("<HHIIHH", 1, 1, 8000, 16_000, 2, 16)
MULAW = bytes(np.random.default_rng(0).integers(0, 255, 24_000, dtype=np.uint8))
MULAW_FORMAT = struct.pack("<HHIIHHH", 7, 1, 8000, 8000, 1, 8, 0)
# 20 ms of silence as GSM 6.10 has it, and 40 ms as Microsoft packs two of them.
GSM_FRAME = bytes.fromhex("d820a2e15a50004924924924500049249249245000492492492450004924924924")
WAV49_BLOCK = bytes.fromhex(
    "aa991bdec42380e4c68d1c89068023378e2307458024c98ddb180680dc468e248996f8e5543e02b67124c98d6c00b66ddbc6712d00b871e346924700486e244992"
)


def chunk(name, data, *, padded=True):
    return name + struct.pack("<I", len(data)) + data + (b"\0" if padded and len(data) & 1 else b"")


def riff(*chunks):
    body = b"".join(chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def streamed(size, form=PCM_FORMAT, data=PCM):
    """As written by who cannot know the length, or did not come back to fill it in."""
    head = b"RIFF" + struct.pack("<I", size) + b"WAVE" + chunk(b"fmt ", form)
    return head + b"data" + struct.pack("<I", size) + data


def mp3(seconds=3):
    return sounds.encoded("mp3", "libmp3lame", sounds.tone(seconds, rate=16_000), rate=16_000)


def with_frames(body, frames):
    """An MP3 whose Xing header tells that many frames."""
    at = max(body.find(b"Xing"), body.find(b"Info"))
    assert at > 0
    return body[: at + 8] + struct.pack(">I", frames) + body[at + 12 :]


def encoded(container, codec, rate=8000):
    return sounds.encoded(container, codec, sounds.tone(3, rate=rate), rate=rate)


def tagged(tag, *, samples_a_block, block, data, extra):
    form = struct.pack("<HHIIHHHH", tag, 1, 8000, 1625, block, 0, 2, samples_a_block)
    fact = chunk(b"fact", struct.pack("<I", len(data) // block * samples_a_block))
    return riff(chunk(b"fmt ", form), fact, *extra, chunk(b"data", data))


WHOLE = {
    **{f"data size {size:x}": lambda size=size: streamed(size) for size in (0xFFFFFFFF, 0x7FFFFFFF, 0)},
    **{
        f"mu-law data size {size:x}": lambda size=size: streamed(size, MULAW_FORMAT, MULAW)
        for size in (0xFFFFFFFF, 0x7FFFFFFF, 0)
    },
    "a claim of 4 GB": lambda: streamed(0xFFFFFFC0),
    "half a frame at the end": lambda: streamed(len(PCM) + 100, data=PCM[:-1]),
    "LIST and bext before the data": lambda: riff(
        chunk(b"LIST", b"INFOISFT\x05\0\0\0abcd\0\0"), chunk(b"bext", b"\0" * 603),
        chunk(b"fmt ", PCM_FORMAT), chunk(b"fact", struct.pack("<I", 24_000)), chunk(b"data", PCM),
    ),
    "a fact of 12 bytes": lambda: riff(
        chunk(b"fmt ", PCM_FORMAT), chunk(b"fact", b"\0" * 12), chunk(b"data", PCM)
    ),
    "odd chunks": lambda: riff(
        chunk(b"junk", b"abc"), chunk(b"fmt ", PCM_FORMAT), chunk(b"odd ", b"xyz"), chunk(b"data", PCM)
    ),
    "an odd chunk without its padding": lambda: riff(
        chunk(b"junk", b"abc", padded=False), chunk(b"fmt ", PCM_FORMAT), chunk(b"data", PCM)
    ),
    "a long chunk before the format": lambda: riff(
        chunk(b"LIST", b"\0" * 80_000), chunk(b"fmt ", PCM_FORMAT), chunk(b"data", PCM)
    ),
    "zeros behind it": lambda: sounds.wav(TONE) + bytes(1000),
    "a tag behind it": lambda: sounds.wav(TONE) + b"TAG" + b"x" * 125,
    "mu-law": lambda: encoded("wav", "pcm_mulaw"),
    "A-law": lambda: encoded("wav", "pcm_alaw"),
    "GSM 6.10": lambda: tagged(0x31, samples_a_block=320, block=65, data=WAV49_BLOCK * 75, extra=()),
    "IMA ADPCM": lambda: encoded("wav", "adpcm_ima_wav"),
    "MS ADPCM": lambda: encoded("wav", "adpcm_ms"),
    "G.722": lambda: encoded("wav", "adpcm_g722", 16_000),
    "G.726": lambda: encoded("wav", "adpcm_g726"),
    "AMR-NB": lambda: encoded("amr", "libopencore_amrnb"),
    "Core Audio": lambda: encoded("caf", "pcm_s16le"),
    "an MP3 behind junk": lambda: b"\x00\x12junkjunk" * 200 + mp3(),
    "an MP3 that tells too many frames": lambda: with_frames(mp3(), 99_999),
    "an MP3 that tells too few frames": lambda: with_frames(mp3(), 3),
}  # fmt: skip


def decoded(body, headerless="", most=60):
    return decode(io.BytesIO(body), [io.BytesIO(), io.BytesIO()], most, headerless)


@pytest.mark.parametrize("make", WHOLE.values(), ids=WHOLE)
def test_it_is_read_whole(tmp_path, make):
    body = make()
    found = decoded(body)
    assert found.seconds == pytest.approx(3, abs=0.11)
    path = tmp_path / "recording"
    path.write_bytes(body)
    plain = plain_wav.look(path)
    assert plain is None or plain.frames / plain.sample_rate == pytest.approx(found.seconds, abs=0.001)


def test_an_mp3_that_was_cut_is_read_up_to_there():
    whole = mp3()
    assert decoded(whole[: len(whole) // 2]).seconds == pytest.approx(1.5, abs=0.2)


JOINED = {
    "two": (sounds.wav(TONE) + sounds.wav(sounds.tone(2)), 5),
    "three": (sounds.wav(TONE) * 3, 9),
    "of two rates": (sounds.wav(TONE) + sounds.wav(sounds.tone(2, rate=16_000), rate=16_000), 5),
    "mono, then two channels": (sounds.wav(TONE) + sounds.wav(TONE, TONE * 0), 6),
    "two channels": (sounds.wav(TONE, sounds.tone(3, hertz=300)) * 2, 6),
    "with chunks behind the samples": (
        riff(chunk(b"fmt ", PCM_FORMAT), chunk(b"data", PCM), chunk(b"LIST", b"INFO")) + sounds.wav(TONE), 6,
    ),
    "of an odd length": (riff(chunk(b"fmt ", MULAW_FORMAT), chunk(b"data", MULAW + b"\xff")) * 2, 6),
    "of unknown length": (streamed(0xFFFFFFFF) * 2, 6),
    "one of them damaged": (sounds.wav(TONE) + riff(chunk(b"fmt ", bytes(16)), chunk(b"data", PCM)), 3),
}  # fmt: skip


@pytest.mark.parametrize(("body", "seconds"), JOINED.values(), ids=JOINED)
def test_files_one_after_another_in_one_are_all_read(tmp_path, body, seconds):
    assert decoded(body).seconds == pytest.approx(seconds, abs=0.02)
    path = tmp_path / "recording"
    path.write_bytes(body)
    assert plain_wav.look(path) is None, "counting bytes is for what is one file"


def test_files_in_one_have_an_end():
    many = sounds.wav(sounds.tone(0.002)) * (wav_parts.MOST_PARTS + 200)
    assert len(wav_parts.parts(io.BytesIO(many))) == wav_parts.MOST_PARTS
    assert decoded(many).seconds == pytest.approx(0.002 * wav_parts.MOST_PARTS, rel=0.01)


@given(st.binary(max_size=300), st.integers(0, 200))
def test_whatever_follows_a_header_is_walked_to_an_end(tail, cut):
    body = sounds.wav(TONE[:100])[:cut] + tail
    for part in wav_parts.parts(io.BytesIO(body)):
        assert 0 <= part.start <= part.end <= len(body)
        assert (
            len(wav_parts.opened(io.BytesIO(body), part).read())
            == 20 + len(part.head) + part.end - part.start
        )


HEADERLESS_BYTES = {"mulaw": MULAW, "alaw": MULAW, "gsm": GSM_FRAME * 150}


@pytest.mark.parametrize("name", HEADERLESS)
def test_bytes_without_a_header_are_read_where_it_is_said_what_they_are(name):
    body = HEADERLESS_BYTES[name]
    found = decoded(body, name)
    assert (found.seconds, found.channels, found.sample_rate) == (pytest.approx(3, abs=0.01), 1, 8000)
    assert found.format.startswith(f"{name}/"), "the row of the recording tells it from then on"
    with pytest.raises(HandlerFailed) as failure:
        decoded(body)
    assert failure.value.reason == "NOT_AUDIO"


@pytest.mark.parametrize(
    "body", [sounds.wav(TONE), mp3(), encoded("flac", "flac")], ids=["wav", "mp3", "flac"]
)
def test_a_header_is_believed_before_the_setting(body):
    found = decoded(body, "mulaw")
    assert found.seconds == pytest.approx(3, abs=0.05)
    assert not found.format.startswith("mulaw")


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><html>Sign in</html>", b'{"error": "gone"}', b""])
def test_text_is_not_taken_for_sound_without_a_header(page):
    with pytest.raises(HandlerFailed) as failure:
        decoded(page, "mulaw")
    assert failure.value.reason == "NOT_AUDIO"


@pytest.mark.parametrize(
    "body", [sounds.wav(TONE[:0]), streamed(0xFFFFFFFF, data=b"")], ids=["44", "streamed"]
)
def test_a_header_without_samples_is_a_recording_of_no_length(tmp_path, body):
    path = tmp_path / "recording"
    path.write_bytes(body)
    limits = {"max_seconds": 60, "cpu_seconds": 20, "wall_seconds": 30, "memory_bytes": 256 << 20}
    request = {"path": str(path), "utterance_seconds": 12, "headerless": "", **limits}
    reply = prepare.handler()({**request, "scratch": str(tmp_path / "lanes")})
    assert (reply["seconds"], reply["channels"], reply["sample_rate"]) == (0, 1, 8000)
    assert (reply["lanes"], reply["utterances"], reply["speech_seconds"]) == (1, [], 0)


VOICE = sounds.voice(4)
OTHER = sounds.voice(4, pitch=220, seed=5)
NOISE = np.random.default_rng(3).normal(0, 0.002, len(VOICE)).astype(np.float32)


def late(sound, samples):
    return np.concatenate([np.zeros(samples, np.float32), sound[: len(sound) - samples]])


COPIES = {
    "the same": VOICE,
    "2 % quieter": VOICE * 0.98,
    "half as loud": VOICE * 0.5,
    "3 ms late": late(VOICE, 48),
    "3 ms late and 2 % quieter": late(VOICE, 48) * 0.98,
    "turned round": -VOICE,
    "with noise of a line": VOICE + NOISE,
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_a_channel_that_is_a_copy_of_the_other_is_one_lane(copy):
    assert decoded(sounds.wav(VOICE, copy, rate=16_000)).one_signal
    assert decoded(sounds.wav(copy, VOICE, rate=16_000)).one_signal, "whichever comes first"


def talking(sound, *spans):
    """A voice that speaks in some seconds and is silent in the others."""
    heard = np.zeros_like(sound)
    for begin, end in spans:
        heard[begin * 16_000 : end * 16_000] = sound[begin * 16_000 : end * 16_000]
    return heard


APART = {
    "silence, then a voice": (np.zeros_like(VOICE), VOICE),
    "a voice, then silence": (VOICE, np.zeros_like(VOICE)),
    "two voices": (VOICE, OTHER),
    "in turns": (talking(VOICE, (0, 2)), talking(OTHER, (2, 4))),
    "a leak of the other": (VOICE, VOICE * 0.1),
    "the same until somebody else speaks": (VOICE, VOICE + talking(OTHER, (3, 4))),
    "half a second of somebody else": (VOICE, np.where(np.arange(len(VOICE)) < 56_000, VOICE, OTHER)),
    "a network in between": (VOICE, late(VOICE, 3_200)),
}


@pytest.mark.parametrize(("first", "second"), APART.values(), ids=APART)
def test_two_lanes_stay_two(first, second):
    found = decoded(sounds.wav(first, second, rate=16_000))
    assert (found.lanes, found.one_signal) == (2, False)


@pytest.mark.parametrize("pieces", [1, 160, 1_024, 16_000, 40_000])
def test_what_is_one_sound_does_not_depend_on_the_pieces_it_comes_in(pieces):
    from trunkline_audio.media.preprocess.copies import Copies

    for copy, one in ((late(VOICE, 48) * 0.98, True), (OTHER, False)):
        copies = Copies()
        for at in range(0, len(VOICE), max(pieces, 40)):
            copies.note(VOICE[at : at + max(pieces, 40)], copy[at : at + max(pieces, 40)])
        assert copies.are_one is one
