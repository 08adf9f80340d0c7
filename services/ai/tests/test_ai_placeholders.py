"""Analyses of transcripts that were stored with placeholders: they say what those of the words would have said."""

import json
import threading
from dataclasses import replace

import pytest
from test_ai_keywords import AGENT, CUSTOMER, keyword, request_of
from test_ai_redaction import Telling
from trunkline.ai.v1 import analysis_pb2, analysis_service_pb2
from trunkline_ai.analyses.additions import analysis_of
from trunkline_ai.analyses.analyser import Analyser, AnalysisTask
from trunkline_ai.analyses.dialogue import Dialogue, dialogue_of
from trunkline_ai.engines.base import Prompt, Transcript
from trunkline_ai.engines.local.engine import LocalEngine
from trunkline_ai.engines.local.text import canonical
from trunkline_ai.engines.prompts.fence import fenced
from trunkline_ai.engines.quotes import Script, words_of
from trunkline_ai.redaction.engine import RedactedEngine
from trunkline_ai.redaction.stored import redact_message
from trunkline_ai.routing.router import Routed
from trunkline_runtime.errors import InvalidArgument
from trunkline_store.clock import SystemClock
from trunkline_words.personal.placeholders import Redaction
from trunkline_words.personal.policy import ALL, PiiKind

from tools.eval import data

ENGINE = LocalEngine()
CALL = (
    (AGENT, "River City Plumbing, this is Susan. How can I help you?"),
    (CUSTOMER, "My name is John Carter, a pipe burst in my basement and there is water everywhere."),
    (AGENT, "What is your address, and how do you pay?"),
    (
        CUSTOMER,
        "It's 25 Main Street. My number is 503-555-0127. The card is 4242 4242 4242 4242, please hurry.",
    ),
)


def stored(request, kinds=ALL):
    """The same request with the transcript as a tenant has it stored."""
    conversation = dialogue_of(request)
    texts = Redaction(conversation.transcript.turns, kinds).texts
    made = analysis_service_pb2.AnalyzeCallRequest()
    made.CopyFrom(request)
    for segment, text in zip(made.transcript.segments, texts, strict=True):
        segment.text = text
    return made


def analysed(request):
    conversation = dialogue_of(request)
    result = ENGINE.analyze_now(conversation.transcript, conversation.context)
    return analysis_of(result, conversation)


def test_it_says_what_the_analysis_of_the_words_says_with_placeholders():
    request = request_of(*CALL)
    plain, hidden = analysed(request), analysed(stored(request))
    redact_message(plain, dialogue_of(request).transcript, ALL)
    assert hidden.intent == plain.intent
    assert (hidden.lead_level, hidden.urgency) == (plain.lead_level, plain.urgency)
    assert hidden.scorecard.gave_name.answer == analysis_pb2.ANSWER_YES
    assert hidden.scorecard.gave_name.quote.text == "River City Plumbing, this is [NAME_1]."
    assert [(one.type, one.text, one.value) for one in hidden.entities] == [
        (analysis_pb2.ENTITY_TYPE_PERSON, "[NAME_1]", "[NAME_1]"),
        (analysis_pb2.ENTITY_TYPE_PERSON, "[NAME_2]", "[NAME_2]"),
        (analysis_pb2.ENTITY_TYPE_ADDRESS, "[ADDRESS_1]", "[ADDRESS_1]"),
        (analysis_pb2.ENTITY_TYPE_PHONE_NUMBER, "[PHONE_1]", "[PHONE_1]"),
    ]
    assert "Send help now to [ADDRESS_1]" in hidden.action_items
    reasons = [reason.text for reason in hidden.lead_evidence]
    assert {"gives an address", "gives a number", "gives a name"} <= set(reasons)
    assert reasons == [reason.text for reason in plain.lead_evidence]


def test_a_card_that_was_read_out_is_flagged_where_its_placeholder_stands():
    request = stored(request_of(*CALL))
    (flag,) = analysed(request).compliance_flags
    assert flag.type == analysis_pb2.COMPLIANCE_TYPE_CARD_NUMBER
    text = dialogue_of(request).transcript.text
    assert text[flag.quote.start_char : flag.quote.end_char] == "[CARD_1]"
    assert (flag.quote.text, flag.quote.start_offset.seconds) == ("", 30)


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("it's [SSN_1] and [CARD_2]", ["SOCIAL_SECURITY_NUMBER", "CARD_NUMBER"]),
        ("it's [CARD_1], I mean 4111 1111 1111 1111", ["CARD_NUMBER"]),
        ("call [PHONE_1]", []),
        ("[CARD_] [CARD_1234567] [card_1]", []),
    ],
)
def test_numbers_are_flagged_by_their_placeholders(text, flags):
    found = analysed(request_of((CUSTOMER, text))).compliance_flags
    names = {analysis_pb2.ComplianceType.Name(flag.type).removeprefix("COMPLIANCE_TYPE_") for flag in found}
    assert names == set(flags)


def test_a_keyword_is_not_found_in_a_placeholder():
    request = request_of(
        (CUSTOMER, "[PHONE_1] is my phone, [CARD_1]"),
        keywords=[keyword("k", "phone", "card", "1", "phone 1")],
    )
    (mention,) = analysed(request).keywords
    assert (mention.phrase, mention.quote.start_char) == ("phone", 16)


def test_a_quote_with_a_placeholder_is_found_again():
    script = Script(
        dialogue_of(request_of((AGENT, "Hi"), (CUSTOMER, "Call me: on [PHONE_1], please."))).transcript
    )
    quote = script.find("me on [PHONE_1] please")
    assert quote is not None
    assert quote.text == "me: on [PHONE_1], please"
    assert [word.text for word in words_of("x[NAME_12]'s [A_1]")] == ["x", "[name_12]", "s", "a", "1"]


def test_rules_and_model_read_something_of_the_kind():
    said = "this is [NAME_1] my number is [PHONE_1] i live at [ADDRESS_12]"
    assert canonical(said) == canonical("this is John my number is 5550123 i live at 25 Main Street")
    assert canonical("[NAME_] [FOO_1]") == "name foo 1"


@pytest.mark.parametrize("kind", PiiKind)
def test_a_placeholder_is_no_topic(kind):
    request = request_of((AGENT, "How can I help?"), (CUSTOMER, f"It is [{kind.name}_1]. Thank you."))
    assert list(analysed(request).topics) == []


def test_most_labels_of_transcripts_with_placeholders_are_those_of_the_words():
    items = data.read(data.DATA / "heldout.jsonl")[:80]
    agree = hidden = 0
    for item in items:
        redaction = Redaction(item.transcript.turns)
        turns = zip(item.transcript.turns, redaction.texts, strict=True)
        shown = Transcript(tuple(replace(turn, text=text) for turn, text in turns))
        context = dialogue_of(request_of()).context
        one, other = (ENGINE.analyze_now(said, context) for said in (item.transcript, shown))
        agree += (one.intent, one.lead_level, one.spam) == (other.intent, other.lead_level, other.spam)
        hidden += bool(redaction.placeholders)
    assert hidden >= 10
    assert agree >= len(items) - 2


def prompt(words, redacted=ALL):
    turns = [{"speaker": "customer", "text": words}]
    return Prompt("p.v1", "Do it.", fenced({"kind": "call", "turns": turns}), "t", redacted=redacted)


@pytest.mark.parametrize("inside", [False, True])
async def test_a_model_is_told_what_placeholders_of_a_stored_transcript_are(inside):
    model = Telling("{}")
    model.capabilities = replace(model.capabilities, inside=inside)
    for words in ("call [PHONE_1]", "call me"):
        await RedactedEngine(model).complete(prompt(words), {})
    told, plain = model.prompts
    assert "placeholders" in told.instructions
    assert json.loads(told.data)["turns"][0]["text"] == "call [PHONE_1]"
    assert plain.instructions == "Do it."


def test_other_kinds_that_are_found_get_other_numbers():
    request = stored(request_of(*CALL), {PiiKind.NAME})
    texts = Redaction(dialogue_of(request).transcript.turns).texts
    assert texts[1].startswith("My name is [NAME_2], a pipe")
    assert "[ADDRESS_1]. My number is [PHONE_1]. The card is [CARD_1]" in texts[3]


READERS = set()
"""The threads that have read a conversation."""


class Watched(tuple):
    """Turns that note who reads them."""

    def __iter__(self):
        READERS.add(threading.get_ident())
        return super().__iter__()


class Kept:
    """Analyses of a store that keeps nothing."""

    async def get(self, tenant, analysis):
        return None

    async def to_make(self, tenant, analysis):
        return None

    async def add(self, analysis):
        return analysis

    async def improve(self, analysis):
        pass


class Answering:
    """A router whose engine answers without reading."""

    def __init__(self, result):
        self.result = result

    async def answer(self, transcript, context, *, standing, refused):
        return Routed(self.result, True)


async def test_numbers_and_keywords_are_looked_for_off_the_event_loop():
    request = request_of(*CALL, keywords=[keyword("pipes", "pipe")])
    read = dialogue_of(request)
    result = ENGINE.analyze_now(read.transcript, read.context)
    watched = Dialogue(Transcript(Watched(read.transcript.turns)), read.context, read.digest)
    analyser = Analyser(Kept(), Answering(result), SystemClock())
    made = await analyser.analyse(AnalysisTask("acme", "call-1", 0, watched))
    assert made.message.keywords[0].keyword == "pipes"
    assert made.message.compliance_flags
    assert READERS
    assert threading.get_ident() not in READERS


@pytest.mark.parametrize("seconds", [2**62, -(2**62), 315_576_000_000, 366 * 86_400 + 1])
@pytest.mark.parametrize(
    ("place", "name"),
    [
        (lambda one: one.start_offset, "transcript.segments[1].start_offset"),
        (lambda one: one.end_offset, "transcript.segments[1].end_offset"),
        (lambda one: one.words[1].start_offset, "transcript.segments[1].words[1].start_offset"),
        (lambda one: one.words[1].end_offset, "transcript.segments[1].words[1].end_offset"),
    ],
)
def test_a_time_that_no_conversation_has_is_refused_by_its_name(seconds, place, name):
    request = request_of((CUSTOMER, "hello"), (CUSTOMER, "a quote"))
    for text in ("a", "quote"):
        request.transcript.segments[1].words.add(text=text)
    place(request.transcript.segments[1]).seconds = seconds
    with pytest.raises(InvalidArgument) as refused:
        dialogue_of(request)
    assert refused.value.message == f"{name}: must be at most 31622400 seconds"


def test_a_call_of_days_is_read():
    request = request_of((CUSTOMER, "hello"))
    request.transcript.segments[0].end_offset.FromSeconds(30 * 86_400)
    assert dialogue_of(request).transcript.turns[0].times[0].end_seconds == 30 * 86_400
