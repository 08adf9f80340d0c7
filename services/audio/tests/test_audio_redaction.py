"""Transcripts that are stored with placeholders: what takes their place, and that the words are written nowhere."""

import shutil
from dataclasses import replace
from itertools import pairwise

import grpc
from test_audio_chain import OUTAGE, pair, serving_chain, until_not_degraded
from test_audio_long_operations import Later, Minutes, count, goes, has_reached, long_serving, until
from test_audio_operations import Asking
from test_audio_service import PARENT, TestEngine, serving
from test_audio_transcript_service import QUICK, Keys, one
from test_audio_watch import told, watch, words
from trunkline.audio.v1 import transcription_service_pb2 as pb
from trunkline.audio.v1 import transcription_service_pb2_grpc
from trunkline.common.v1 import analysis_settings_pb2 as settings_pb2
from trunkline.common.v1.analysis_settings_pb2 import Redaction
from trunkline_audio.engines.base import EngineResult, Segment, Word
from trunkline_audio.recordings.plans import TenantPlan
from trunkline_audio.transcripts.redaction import redacted
from trunkline_words.personal.policy import ALL, PiiKind

from tests.standins.window_audio import WindowEngine

STORED = Redaction(stored_transcripts=True)
AGENT, CUSTOMER = 1, 2
SAID = (
    (AGENT, "River City Plumbing, this is Susan. And the card?"),
    (CUSTOMER, "It's four two four two, 4242"),
    (AGENT, "Okay."),
    (CUSTOMER, "4242 4242. Call me on (312) 555-0199, please."),
)
SECRETS = (b"Susan", b"4242", b"555-0199", b"four two")


def said(*turns, texts=None):
    """Segments as they are stored, a second each, a word a tenth of it."""
    return [
        {
            "speaker": speaker,
            "channel": max(0, speaker - 1),
            "start": number * 1_000_000,
            "end": number * 1_000_000 + 900_000,
            "text": text,
            "words": [
                [
                    word,
                    number * 1_000_000 + at * 10_000,
                    number * 1_000_000 + (at + 1) * 10_000,
                    0.9 - at / 100,
                ]
                for at, word in enumerate((texts or {}).get(number, text).split())
            ],
        }
        for number, (speaker, text) in enumerate(turns)
    ]


def texts(segments):
    return [item["text"] for item in segments]


def test_a_number_read_over_several_segments_and_words_is_one_placeholder_in_each_lane():
    hidden = redacted(said(*SAID), ALL)
    assert texts(hidden) == [
        "River City Plumbing, this is [NAME_1]. And the card?",
        "It's [CARD_1]",
        "Okay.",
        "[CARD_1]. Call me on [PHONE_1], please.",
    ]
    assert [word[0] for word in hidden[3]["words"]] == [
        "[CARD_1].", "Call", "me", "on", "[PHONE_1],", "please.",
    ]  # fmt: skip
    card, phone = hidden[1]["words"][1], hidden[3]["words"][4]
    assert card == ["[CARD_1]", 1_010_000, 1_060_000, 0.9 - 5 / 100], "from its first word to its last"
    assert phone[1:3] == [3_050_000, 3_070_000]
    for item in hidden:
        assert "".join(word[0] for word in item["words"]) == "".join(item["text"].split())
        assert all(before[2] <= after[1] for before, after in pairwise(item["words"]))


def test_what_is_said_across_a_pause_of_one_speaker_is_found_and_stands_in_both_segments():
    hidden = redacted(said((CUSTOMER, "My name is Karen"), (CUSTOMER, "Whitfield. Thanks")), ALL)
    assert texts(hidden) == ["My name is [NAME_1]", "[NAME_1]. Thanks"]


def test_kinds_that_the_tenant_does_not_name_stay():
    hidden = redacted(said(*SAID), {PiiKind.CARD})
    assert texts(hidden)[3] == "[CARD_1]. Call me on (312) 555-0199, please."
    assert "Susan" in texts(hidden)[0]


def test_words_that_are_not_those_of_the_text_are_left_out():
    (hidden,) = redacted(said((CUSTOMER, "It is 4242."), texts={0: "it is four two four two"}), ALL)
    assert (hidden["text"], hidden["words"]) == ("It is 4242.", [])


def test_segments_without_words_and_without_text_are_read():
    plain = [{**item, "words": []} for item in said((0, ""), (0, "Call 312-555-0199"), (0, ""))]
    assert texts(redacted(plain, ALL)) == ["", "Call [PHONE_1]", ""]
    assert redacted([], ALL) == []


def test_ten_thousand_words_of_one_segment_are_read_in_one_pass():
    (hidden,) = redacted(said((CUSTOMER, "Call 312-555-0199 now. " * 2_500)), ALL)
    assert len(hidden["words"]) == 7_500
    assert {word[0] for word in hidden["words"]} == {"Call", "[PHONE_1]", "now."}


def reading():
    """An engine that hears a card's number, a telephone number, and a name."""
    engine = TestEngine()
    segments = tuple(
        Segment(
            speaker - 1, 0, at, at + 0.9, text,
            tuple(Word(word, at + n / 100, at + (n + 1) / 100, 0.9) for n, word in enumerate(text.split())),
        )
        for at, (speaker, text) in enumerate(SAID)
    )  # fmt: skip
    engine.result = EngineResult(engine.name, "en-US", segments, lanes=2, speech_seconds=3.6)
    return engine


def written(folder):
    """Which of the secrets stand in any file of a folder: databases with their logs, blobs, scratch files."""
    whole = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    return [secret for secret in SECRETS if secret in whole]


async def test_the_words_are_written_nowhere(tmp_path):
    async with serving(tmp_path, reading()) as suite:
        await suite.fetch()
        made = await suite.transcribe(redaction=STORED)
        assert [segment.text for segment in made.segments][1] == "It's [CARD_1]"
        assert [word.text for word in made.segments[1].words] == ["It's", "[CARD_1]"]
        assert await suite.transcribe(redaction=STORED) == made
        found = await suite.transcripts.SearchTranscript(
            pb.SearchTranscriptRequest(name=made.name, query='"card 1"')
        )
        assert [match.segment for match in found.matches] == [1, 3]
        export = await suite.transcripts.ExportTranscript(pb.ExportTranscriptRequest(name=made.name))
        assert b"Customer: It's [CARD_1]" in export.data
        assert written(tmp_path) == []
    assert written(tmp_path) == []


async def test_a_tenant_that_wants_placeholders_never_gets_the_words_of_an_earlier_transcript(tmp_path):
    engine = reading()
    async with serving(tmp_path, engine) as suite:
        await suite.fetch()
        plain = await suite.transcribe()
        assert "Susan" in plain.segments[0].text
        hidden = await suite.transcribe(redaction=STORED)
        assert (hidden.reused, hidden.name == plain.name, engine.calls) == (True, False, 1), "not paid again"
        assert "[NAME_1]" in hidden.segments[0].text
        cards = Redaction(stored_transcripts=True, kinds=[settings_pb2.PII_KIND_CARD])
        fewer = await suite.transcribe(redaction=cards)
        assert "Susan" in fewer.segments[0].text
        assert fewer.segments[1].text == "It's [CARD_1]"
        # The same sound in another recording.
        await suite.fetch(identity="rec-2")
        other = await suite.transcribe("rec-2", redaction=STORED)
        assert (other.reused, other.segments) == (True, hidden.segments)
        assert (await suite.transcribe("rec-2")).segments == plain.segments
        assert engine.calls == 1


async def test_of_a_transcript_with_placeholders_none_without_them_is_made(tmp_path):
    engine = reading()
    async with serving(tmp_path, engine) as suite:
        await suite.fetch()
        await suite.transcribe(redaction=STORED)
        assert "Susan" in (await suite.transcribe()).segments[0].text
        assert engine.calls == 2


async def test_a_phrase_that_reads_like_the_key_of_placeholders_gives_no_transcript_without_them(tmp_path):
    async with serving(tmp_path, reading()) as suite:
        await suite.fetch()
        plain = await suite.transcribe(phrases=[f"redacted {','.join(sorted(ALL))}"])
        assert "Susan" in plain.segments[0].text
        hidden = await suite.transcribe(redaction=STORED)
        assert "[NAME_1]" in hidden.segments[0].text


async def test_a_degraded_transcript_is_made_again_with_placeholders(tmp_path):
    engines = pair(failure=OUTAGE)
    for name, engine in engines.items():
        engine.result = replace(reading().result, engine=f"{name}/1")
    async with serving_chain(tmp_path, engines) as suite:
        await suite.fetch()
        made = await suite.transcribe(redaction=STORED)
        assert made.degraded
        engines["better"].failure = None
        better = await until_not_degraded(suite, made.name)
        assert (better.engine, better.segments) == ("better/1", made.segments)
        assert written(tmp_path) == []


async def test_a_long_recording_keeps_no_words_until_it_is_done(tmp_path):
    engine = WindowEngine()
    async with long_serving(tmp_path, engine) as (suite, asking):
        await suite.fetch("/long.wav")
        made = await asking.start(redaction=STORED)
        goes(engine, 3)
        await until(has_reached, asking, made.name, 3)
        assert count(tmp_path) == 0
        goes(engine, 3)
        seen = await told(watch(suite, made.name))
        assert (words(seen), seen[-1].done) == ([], True)
        heard = await asking.transcript(await asking.wait(made.name))
        assert [segment.text for segment in heard.segments] == [f"word-{number}" for number in range(6)]


async def test_after_a_crash_it_is_heard_anew(tmp_path):
    first, second = WindowEngine(), WindowEngine()
    folder, after = tmp_path / "0", tmp_path / "1"
    folder.mkdir()
    async with long_serving(folder, first) as (suite, asking):
        await suite.fetch("/long.wav")
        made = await asking.start(redaction=STORED)
        goes(first, 3)
        await until(has_reached, asking, made.name, 3)
        shutil.copytree(folder, after)
    async with long_serving(after, second, clock=Later()) as (_, asking):
        goes(second, 6)
        assert (await asking.wait(made.name)).HasField("response")
    assert second.listened == list(range(6))


async def test_what_a_provider_was_handed_is_kept(tmp_path):
    first = Minutes()
    async with long_serving(tmp_path, first) as (suite, asking):
        await suite.fetch("/long.wav")
        made = await asking.start(redaction=STORED)
        await until(has_reached, asking, made.name, 1)
    second = Minutes(first.submitted)
    async with long_serving(tmp_path, second) as (_, asking):
        second.goes_on.set()
        assert (await asking.wait(made.name)).HasField("response")
    assert "submit" not in second.asked


async def test_a_tenants_own_request_cannot_have_stored_what_the_tenant_does_not_want_stored(tmp_path):
    wanted = Redaction(
        stored_transcripts=True, kinds=[settings_pb2.PII_KIND_CARD, settings_pb2.PII_KIND_PHONE]
    )

    async def plan_of(_tenant):
        return TenantPlan(redaction=wanted)

    async with (
        serving(tmp_path, reading(), pace=QUICK, plan_of=plan_of, authenticator=Keys()) as suite,
        grpc.aio.insecure_channel(suite.server.address) as channel,
    ):
        await suite.fetch()
        stub = transcription_service_pb2_grpc.TranscriptionServiceStub(channel)
        key = (("authorization", "Bearer tl_key"),)

        async def heard(**more):
            request = pb.CreateTranscriptRequest(parent=PARENT, recording=one("rec-1").name, **more)
            made = await stub.CreateTranscript(request, metadata=key)
            return " ".join(segment.text for segment in made.segments)

        asked = (
            Redaction(), Redaction(kinds=[settings_pb2.PII_KIND_NAME]),
            Redaction(stored_transcripts=True, kinds=[settings_pb2.PII_KIND_CARD]),
        )  # fmt: skip
        for redaction in asked:
            found = await heard(redaction=redaction)
            assert ("[CARD_1]" in found, "[PHONE_1]" in found, "Susan" in found) == (True, True, True)
        more = Redaction(stored_transcripts=True, kinds=[settings_pb2.PII_KIND_NAME])
        for redaction in (more, STORED):
            found = await heard(redaction=redaction)
            assert ("[CARD_1]" in found, "[PHONE_1]" in found, "Susan" in found) == (True, True, False)
        asking = Asking(suite)
        started = await stub.TranscribeRecording(one("rec-1"), metadata=key)
        made = await asking.transcript(await asking.wait(started.name))
        assert "[CARD_1]" in made.segments[1].text
        assert written(tmp_path) == [b"Susan"]
