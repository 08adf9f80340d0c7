"""From bytes to speech: every container, hostile bytes, and times that map back to the recording."""

import io
import itertools

import audio_sounds as sounds
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trunkline_audio.media.preprocess import prepare
from trunkline_audio.media.preprocess.decode import FORMATS, decode
from trunkline_audio.media.preprocess.speakers import voices
from trunkline_audio.media.preprocess.timeline import RATE, SampleRange, merged, padded
from trunkline_audio.media.preprocess.vad import FRAME, VoiceActivity, split, without_leaks
from trunkline_audio.workers.handlers import HandlerFailed


@pytest.fixture(scope="module")
def activity():
    return VoiceActivity()


@pytest.fixture(scope="module")
def handle():
    return prepare.handler()


@pytest.fixture(scope="module")
def lax():
    """A handler whose demuxers may open what they like."""
    return prepare.handler({"protocol_whitelist": "file,http,tcp"})


def lanes_of(body, max_seconds=60):
    sinks = [io.BytesIO(), io.BytesIO()]
    found = decode(io.BytesIO(body), sinks, max_seconds)
    return found, [np.frombuffer(sink.getvalue(), "<i2").astype(np.int16) for sink in sinks[: found.lanes]]


def request(path, scratch=None, **changes):
    return {
        "path": str(path),
        "scratch": None if scratch is None else str(scratch),
        "max_seconds": 60,
        "cpu_seconds": 20,
        "wall_seconds": 30,
        "memory_bytes": 256 << 20,
        "utterance_seconds": 12,
        "headerless": "",
        **changes,
    }


CONTAINERS = [
    ("wav", "pcm_mulaw", 8000),
    ("wav", "pcm_s24le", 48_000),
    ("mp3", "libmp3lame", 44_100),
    ("flac", "flac", 16_000),
    ("ogg", "libopus", 48_000),
    ("webm", "libopus", 48_000),
    ("ipod", "aac", 44_100),
    ("adts", "aac", 22_050),
]


@pytest.mark.parametrize(
    ("container", "codec", "rate"), CONTAINERS, ids=[f"{c}-{k}" for c, k, _ in CONTAINERS]
)
def test_each_container_keeps_length_pitch_and_channels_apart(container, codec, rate):
    left, right = sounds.tone(2, rate, 440, 0.3), sounds.tone(2, rate, 1000, 0.1)
    found, (first, second) = lanes_of(sounds.encoded(container, codec, left, right, rate=rate))
    assert found.channels == 2
    assert found.seconds == pytest.approx(2, abs=0.12)
    for lane, hertz, level in ((first, 440, 0.3), (second, 1000, 0.1)):
        middle = lane[RATE // 2 : RATE // 2 + RATE]
        assert abs(int(np.abs(np.fft.rfft(middle)).argmax()) - hertz) <= 1
        assert np.abs(middle).max() == pytest.approx(level * 32768, rel=0.2)


def test_tags_in_an_old_encoding_do_not_refuse_the_sound():
    tag = b"TIT2" + (6).to_bytes(4, "big") + b"\0\0" + b"\x03caf\xe9\xff"
    body = sounds.encoded("mp3", "libmp3lame", sounds.tone(1, 44_100), rate=44_100)
    body = body[10 + int.from_bytes(body[6:10], "big") :] if body[:3] == b"ID3" else body
    found, _ = lanes_of(b"ID3\x03\0\0" + len(tag).to_bytes(4, "big") + tag + body)
    assert found.seconds == pytest.approx(1, abs=0.1)


def test_one_channel_stays_one_and_many_become_one():
    assert lanes_of(sounds.wav(sounds.tone(1)))[0].lanes == 1
    found, (lane,) = lanes_of(sounds.wav(*[sounds.tone(1, level=0.2)] * 4))
    assert (found.channels, found.lanes) == (4, 1)
    assert np.abs(lane[2000:-2000]).max() == pytest.approx(0.2 * 32768, rel=0.05)


def test_a_mono_call_in_a_stereo_file_is_one_signal():
    same = sounds.tone(1)
    assert lanes_of(sounds.wav(same, same))[0].one_signal
    assert not lanes_of(sounds.wav(same, sounds.tone(1, hertz=600)))[0].one_signal


def test_another_number_of_channels_on_the_way_is_heard_as_such():
    left, right = sounds.tone(1, level=0.4), np.zeros(8000, np.float32)
    found, (lane,) = lanes_of(sounds.wav(sounds.tone(1, level=0.1)) + sounds.wav(left, right))
    assert (found.lanes, found.seconds) == (1, pytest.approx(2, abs=0.01))
    for begin, level in ((0, 0.1), (RATE, 0.2)):
        assert np.abs(lane[begin + 2000 : begin + 14000]).max() == pytest.approx(level * 32768, rel=0.05)


def test_a_header_that_lies_about_its_length_is_not_believed():
    body = bytearray(sounds.wav(sounds.tone(1)))
    body[40:44] = (0xFFFFFFF0).to_bytes(4, "little")
    assert lanes_of(bytes(body))[0].seconds == pytest.approx(1, abs=0.01)


def test_broken_packets_cost_themselves_only():
    body = bytearray(sounds.encoded("mp3", "libmp3lame", sounds.tone(4, 44_100), rate=44_100))
    body[len(body) // 2 : len(body) // 2 + 400] = b"\xff" * 400
    assert lanes_of(bytes(body))[0].seconds == pytest.approx(4, abs=0.3)


def test_sound_that_is_no_number_becomes_silence():
    samples = np.full(8000, np.nan, np.float32)
    samples[:100] = np.inf
    _, (lane,) = lanes_of(sounds.encoded("wav", "pcm_f32le", samples, rate=8000))
    assert not lane[4000:].any()


def test_a_small_file_of_endless_silence_is_cut_off():
    body = sounds.encoded("flac", "flac", np.zeros(16_000 * 120, np.float32), rate=16_000)
    assert len(body) < 100_000
    with pytest.raises(HandlerFailed) as failure:
        lanes_of(body, max_seconds=60)
    assert failure.value.reason == "TOO_LONG"


def test_a_small_file_of_many_channels_and_a_high_rate_is_cut_off():
    """A minute of this costs as much as ten of the usual kind, and is no larger."""
    body = sounds.surround_silence(3, rate=640_000)
    assert len(body) < 100_000
    with pytest.raises(HandlerFailed) as failure:
        lanes_of(body, max_seconds=60)
    assert failure.value.reason == "TOO_LONG"
    found, _ = lanes_of(sounds.surround_silence(1, rate=96_000), max_seconds=60)
    assert found.seconds == pytest.approx(1)


@pytest.mark.parametrize("rate", [1, 999, 2_000_000])
def test_an_absurd_rate_is_refused(rate):
    body = sounds.wav(np.zeros(14_000, np.float32), rate=rate)
    with pytest.raises(HandlerFailed) as failure:
        lanes_of(body, max_seconds=14_400)
    assert (failure.value.reason, f"{rate:,}" in str(failure.value)) == ("SAMPLE_RATE", True)


NOT_SOUND = {
    "empty": b"",
    "page": b"<html><body>Please sign in</body></html>",
    "answer": b'{"error": "not found"}',
    "noise": bytes(np.random.default_rng(3).integers(0, 256, 5000, dtype=np.uint8)),
    "no codec": b"RIFF$\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0@\x1f\0\0\x80>\0\0\2\0\0\0data\0\1\0\0" + b"\0" * 256,
    "picture": b"\x89PNG\r\n\x1a\n" + b"\0" * 200,
}


@pytest.mark.parametrize("body", NOT_SOUND.values(), ids=NOT_SOUND)
def test_what_is_no_sound_is_refused(body):
    with pytest.raises(HandlerFailed) as failure:
        lanes_of(body)
    assert failure.value.reason == "NOT_AUDIO"


def playlists(secret):
    return {
        "ffconcat": f"ffconcat version 1.0\nfile '{secret}'\n",
        "ffconcat url": f"ffconcat version 1.0\nfile 'file:{secret}'\n",
        "m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{secret}\n#EXT-X-ENDLIST\n",
        "m3u8 url": f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nfile://{secret}\n#EXT-X-ENDLIST\n",
        "m3u8 remote": "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nhttp://127.0.0.1:9/x.wav\n#EXT-X-ENDLIST\n",
        "dash": f"<?xml version='1.0'?><MPD><Period><AdaptationSet><Representation id='1'><BaseURL>{secret}"
        "</BaseURL></Representation></AdaptationSet></Period></MPD>",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n",
    }


@pytest.mark.parametrize("kind", list(playlists("")))
@pytest.mark.parametrize("defence", ["whitelist", "closed door"])
def test_a_playlist_reads_no_local_file(tmp_path, lax, kind, defence):
    """Either defence alone holds: the format whitelist, and the sandbox without descriptors."""
    secret = tmp_path / "secret.wav"
    secret.write_bytes(sounds.wav(sounds.tone(3)))
    upload = tmp_path / "upload.wav"
    upload.write_text(playlists(secret)[kind])

    def read():
        if defence == "closed door":
            return lax(request(upload))
        with upload.open("rb") as source:
            return decode(source, [], 60)

    with pytest.raises(HandlerFailed) as failure:
        read()
    assert failure.value.reason == "NOT_AUDIO"


def test_no_playlist_format_is_on_the_list():
    assert not {"concat", "hls", "dash", "sdp", "image2", "imf", "playlist"} & set(FORMATS.split(","))


def test_the_sandboxed_job_finds_the_speech_of_each_channel(tmp_path, handle):
    quiet = np.zeros(2 * RATE, np.float32)
    left = np.concatenate([sounds.voice(2), quiet, quiet])
    right = np.concatenate([quiet, quiet, sounds.voice(2, pitch=200)])
    path = tmp_path / "call"
    path.write_bytes(sounds.wav(left, right, rate=RATE))
    reply = handle(request(path, tmp_path / "lanes"))
    assert (reply["format"], reply["channels"], reply["lanes"], reply["seconds"]) == (
        "wav/pcm_s16le",
        2,
        2,
        6.0,
    )
    assert {lane for lane, *_ in reply["utterances"]} == {0, 1}
    for lane, start, end, _ in reply["utterances"]:
        low, high = (0, 2.5) if lane == 0 else (3.5, 6)
        assert low <= start / RATE < end / RATE <= high
    assert (tmp_path / "lanes.1").stat().st_size == 6 * RATE * 2


@pytest.mark.parametrize("silent", [0, 1])
def test_a_channel_that_is_silent_leaves_the_other_its_place(tmp_path, handle, silent):
    channels = [sounds.voice(2), np.zeros(2 * RATE, np.float32)]
    path = tmp_path / "call"
    path.write_bytes(sounds.wav(*(channels if silent else channels[::-1]), rate=RATE))
    reply = handle(request(path, tmp_path / "lanes"))
    assert reply["lanes"] == 2
    assert {lane for lane, *_ in reply["utterances"]} == {1 - silent}


def test_silence_has_no_utterances_and_is_no_error(tmp_path, handle):
    path = tmp_path / "call"
    path.write_bytes(sounds.wav(np.zeros(8000 * 3, np.float32)))
    reply = handle(request(path, tmp_path / "lanes"))
    assert (reply["utterances"], reply["speech_seconds"]) == ([], 0)


@pytest.mark.parametrize("what", ["tone", "clicks"])
def test_what_is_no_voice_is_no_speech(activity, what):
    samples = sounds.tone(4, RATE)
    if what == "clicks":
        samples = np.zeros(4 * RATE, np.float32)
        samples[::4000] = 0.9
    chunk = (samples * 32767).astype(np.int16)
    assert activity.spans(activity.scores([chunk]), len(chunk)) == []


def test_scores_do_not_depend_on_how_sound_is_cut_into_blocks(activity, monkeypatch):
    chunk = (sounds.voice(3) * 32767).astype(np.int16)
    whole = activity.scores([chunk])
    step = FRAME * 10
    parts = activity.scores(chunk[first : first + step] for first in range(0, len(chunk), step))
    assert np.allclose(whole, parts, atol=1e-5)
    assert whole.max() > 0.5


def test_leaked_speech_is_taken_away_and_double_talk_stays():
    loud, leak, other = np.full(40, 1e6), np.full(40, 1e4), np.full(40, 5e5)
    speech = np.full(40, 0.9, np.float32)
    first, second = without_leaks([speech, speech], [loud, leak])
    assert first.all()
    assert not second[5:-5].any()
    first, second = without_leaks([speech, speech], [loud, other])
    assert first.all()
    assert second.all()


spans = st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 100)), max_size=12).map(
    lambda items: merged([SampleRange(start, start + length) for start, length in items])
)


@given(spans, st.integers(0, 60))
def test_padding_never_overlaps_nor_leaves_the_recording(kept, pad):
    wide = padded(kept, pad, 1100)
    for before, after in itertools.pairwise(wide):
        assert before.end <= after.start
    for narrow, span in zip(kept, wide, strict=True):
        assert 0 <= span.start <= narrow.start < narrow.end <= span.end <= 1100


@given(st.integers(1, 400_000), st.integers(FRAME * 4, 100_000), st.randoms())
def test_a_split_span_covers_the_same_samples_in_parts_that_fit(length, longest, random):
    scores = np.array([random.random() for _ in range(length // FRAME + 2)], np.float32)
    parts = split(SampleRange(100, 100 + length), scores, longest)
    assert parts[0].start == 100
    assert parts[-1].end == 100 + length
    assert all(before.end == after.start for before, after in itertools.pairwise(parts))
    assert all(0 < part.samples <= longest for part in parts)


def test_a_long_span_is_cut_at_its_pause():
    scores = np.full(2000, 0.9, np.float32)
    scores[620:626] = 0.05
    first, _ = split(SampleRange(0, 900 * FRAME), scores, 800 * FRAME)
    assert 620 * FRAME <= first.end <= 627 * FRAME


def sequence(*pitches):
    parts, out, position = [], [], 0
    for index, pitch in enumerate(pitches):
        part = (sounds.voice(2, pitch=pitch, seed=index) * 32767).astype("<i2")
        out.append(SampleRange(position, position + len(part)))
        parts.append(part)
        position += len(part)
    return io.BytesIO(np.concatenate(parts).tobytes()), out


def test_two_clear_voices_are_told_apart_in_order_of_speaking():
    lane, utterances = sequence(220, 110, 220, 110, 220, 110)
    assert voices(lane, utterances) == [1, 2, 1, 2, 1, 2]


def test_one_voice_is_not_split_in_two():
    lane, utterances = sequence(110, 112, 110, 108, 111)
    assert voices(lane, utterances) == [0, 0, 0, 0, 0]


def test_too_little_to_compare_has_no_voices():
    lane, utterances = sequence(110)
    assert voices(lane, utterances) == [0]
    assert voices(io.BytesIO(), []) == []
