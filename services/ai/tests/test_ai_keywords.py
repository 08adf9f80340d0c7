"""What the suite finds itself in any engine's analysis: tracked keywords, numbers read out, and where words stand."""

import pytest
from trunkline.ai.v1 import analysis_pb2, analysis_service_pb2
from trunkline.audio.v1 import transcript_pb2
from trunkline.common.v1 import analysis_settings_pb2 as settings_pb2
from trunkline_ai.analyses.additions import analysis_of
from trunkline_ai.analyses.compliance import numbers_read_out
from trunkline_ai.analyses.dialogue import dialogue_of
from trunkline_ai.analyses.keywords import mentions_of
from trunkline_ai.engines.base import SpeakerRole, Transcript, Turn
from trunkline_ai.engines.findings import Compliance
from trunkline_ai.engines.quotes import Script

from tests.standins.instant_ai import InstantEngine

AGENT, CUSTOMER = transcript_pb2.SPEAKER_AGENT, transcript_pb2.SPEAKER_CUSTOMER


def script(*turns):
    return Script(Transcript(tuple(Turn(SpeakerRole(role), text) for role, text in turns)))


def keyword(name, *phrases, side=settings_pb2.KEYWORD_SIDE_UNSPECIFIED):
    return settings_pb2.TrackedKeyword(name=name, phrases=phrases, side=side)


CALL = script(
    ("agent", "Do you want financing? FINANCING—zero percent."),
    ("customer", "No refinancing. I'm with Joe's Plumbing, you'd match Joes plumbing?"),
    ("unknown", "Zero-percent!"),
)


@pytest.mark.parametrize(
    ("sought", "said"),
    [
        (keyword("f", "financing"), ["financing", "FINANCING"]),
        (keyword("f", "Zero percent"), ["zero percent", "Zero-percent"]),
        (
            keyword("f", "zero percent", side=settings_pb2.KEYWORD_SIDE_AGENT),
            ["zero percent", "Zero-percent"],
        ),
        (keyword("f", "financing", side=settings_pb2.KEYWORD_SIDE_CUSTOMER), []),
        (keyword("f", "joe’s plumbing"), ["Joe's Plumbing", "Joes plumbing"]),
        (keyword("f", "plumbing you'd", "plumbing"), ["Plumbing, you'd", "plumbing"]),
        (keyword("f", "percent no"), []),
        (keyword("f", "finan"), []),
        (keyword("f", "!?"), []),
    ],
)
def test_a_keyword_is_whole_words_of_its_side_in_one_turn(sought, said):
    found = mentions_of([sought], CALL)
    assert [one.quote.text for one in found] == said
    assert all(CALL.text[one.quote.start : one.quote.end] == one.quote.text for one in found)


def test_marks_that_nobody_sees_hide_no_keyword():
    assert len(mentions_of([keyword("f", "cash")], script(("customer", "ca\u200bsh and c\u00adash")))) == 2


@pytest.mark.parametrize(
    ("phrase", "said"), [("Jos\u00e9 Gas", "Jose\u0301 Gas"), ("Jose\u0301 Gas", "JOS\u00c9 gas")]
)
def test_a_keyword_is_found_however_its_accents_are_written(phrase, said):
    (found,) = mentions_of([keyword("f", phrase)], script(("customer", f"I called {said}, twice")))
    assert found.quote.text == said


def test_mentions_are_bounded():
    assert len(mentions_of([keyword("a", "a")], script(("customer", "a " * 1_000)))) == 200


def test_a_keyword_that_is_said_often_hides_no_other():
    said = script(("customer", "the " * 300 + "Drain Kings, the Drain Kings"))
    found = mentions_of([keyword("common", "the"), keyword("rival", "Drain Kings")], said)
    assert len(found) == 200
    assert [one.keyword for one in found[-2:]] == ["rival", "rival"]
    assert [one.quote.start for one in found] == sorted(one.quote.start for one in found)


class Counted(list):
    """A list that counts how often one of its items is looked at by its place."""

    looks = 0

    def __getitem__(self, place):
        self.looks += 1
        return super().__getitem__(place)


def test_phrases_that_begin_alike_are_looked_for_together():
    said = script(("customer", "a " * 1_000))
    said.__dict__["words"] = words = Counted(said.words)
    sought = [keyword(f"k{n}", *(f"{'a ' * 40}{n}z{m}" for m in range(20))) for n in range(10)]
    assert mentions_of(sought, said) == ()
    assert words.looks < 1_000 * 2 * 45, "for each word, the words of one phrase and not of 200"


def request_of(*segments, **settings):
    spoken = []
    for number, (speaker, text) in enumerate(segments):
        one = transcript_pb2.Segment(speaker=speaker, text=text)
        one.start_offset.FromSeconds(10 * number)
        one.end_offset.FromSeconds(10 * number + 9)
        spoken.append(one)
    request = analysis_service_pb2.AnalyzeCallRequest(
        parent="tenants/acme", transcript=transcript_pb2.Transcript(segments=spoken)
    )
    request.settings.MergeFrom(settings_pb2.AnalysisSettings(**settings))
    return request


async def analysed(request):
    conversation = dialogue_of(request)
    result = await InstantEngine().analyze(conversation.transcript, conversation.context)
    return analysis_of(result, conversation)


async def test_any_engines_analysis_has_the_keywords_with_places_and_times():
    request = request_of(
        (AGENT, " Hello "), (AGENT, ""), (CUSTOMER, "a quote"), (CUSTOMER, "and financing"),
        keywords=[keyword("money", "financing", "quote")],
    )  # fmt: skip
    quote, financing = (await analysed(request)).keywords
    text = "Hello\na quote and financing"
    for mention, said, seconds in ((quote, "quote", 20), (financing, "financing", 30)):
        where = mention.quote
        assert text[where.start_char : where.end_char] == where.text == mention.phrase == said
        assert (where.start_offset.seconds, where.end_offset.seconds) == (seconds, seconds + 9)
        assert mention.side == analysis_pb2.SIDE_CUSTOMER


async def test_the_time_of_a_word_is_its_own_where_words_have_times():
    request = request_of((CUSTOMER, "I need a quote, please"), keywords=[keyword("q", "quote please")])
    for number, word in enumerate(["I", "need", "a", "quote,", "please"]):
        one = request.transcript.segments[0].words.add(text=word)
        one.start_offset.FromMilliseconds(500 * number + 100)
        one.end_offset.FromMilliseconds(500 * number + 400)
    (mention,) = (await analysed(request)).keywords
    times = mention.quote.start_offset.ToMilliseconds(), mention.quote.end_offset.ToMilliseconds()
    assert times == (1600, 2400)


async def test_a_text_has_places_and_no_times():
    request = analysis_service_pb2.AnalyzeCallRequest(parent="tenants/acme", text=" a quote")
    request.settings.keywords.append(keyword("q", "quote"))
    (mention,) = (await analysed(request)).keywords
    assert (mention.quote.start_char, mention.quote.HasField("start_offset")) == (3, False)


@pytest.mark.parametrize(
    ("turns", "kinds"),
    [
        ([("customer", "It's 4111 1111 1111 1111.")], [Compliance.CARD_NUMBER]),
        ([("customer", "4111-1111-1111-1111, 12 27")], [Compliance.CARD_NUMBER]),
        ([("customer", "four one one one uh one one one one"), ("customer", "1111 1111")], [Compliance.CARD_NUMBER]),
        ([("customer", "3782 822463 10005")], [Compliance.CARD_NUMBER]),
        ([("customer", "٤١١١ ١١١١ ١١١١ ١١١١")], [Compliance.CARD_NUMBER]),
        ([("customer", "4111 1111 1111 1112")], []),
        ([("customer", "call 312 555 0199 or 312 555 0188")], []),
        ([("customer", "078-05-1120")], [Compliance.SOCIAL_SECURITY_NUMBER]),
        ([("agent", "Your social?"), ("customer", "oh seven eight oh five one one two oh")],
         [Compliance.SOCIAL_SECURITY_NUMBER]),
        ([("customer", "the number is 078051120")], []),
    ],
)  # fmt: skip
def test_numbers_that_were_read_out_are_flagged_without_their_figures(turns, kinds):
    flags = numbers_read_out(script(*turns))
    assert [flag.type for flag in flags] == kinds
    assert all(flag.quote.text == "" and flag.quote.end > flag.quote.start for flag in flags)


def test_a_quote_is_found_in_any_case_and_within_one_turn():
    assert CALL.find("do you want FINANCING").text == "Do you want financing"
    assert CALL.find("percent. no refinancing") is None
    assert CALL.find("") is None
    assert script(("customer", "a a b")).find("A, B").text == "a b"
