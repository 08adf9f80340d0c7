"""Personal data: what is found, what stands in its place, and what a tenant has found."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trunkline.common.v1 import analysis_settings_pb2 as settings_pb2
from trunkline_words.personal.finder import find_pii
from trunkline_words.personal.numbers import luhn
from trunkline_words.personal.placeholders import Redaction
from trunkline_words.personal.policy import ALL, PiiKind, hidden_kinds, remote_kinds, transcript_kinds
from trunkline_words.personal.speech import PlainTurn

from tools.eval.pii import DATA, DOCS, count, documented, read

A, C = "agent", "customer"


def turns(*said):
    """Turns of caller and agent in turn, the caller first."""
    return [PlainTurn((C, A)[number % 2], text) for number, text in enumerate(said)]


def found(*said):
    talk = turns(*said)
    return [
        (str(find.kind), [talk[one.turn].text[one.start : one.end] for one in find.places])
        for find in find_pii(talk)
    ]


@pytest.mark.parametrize(
    ("said", "kind", "parts"),
    [
        (["it's 4242 4242 4242 4242 thanks"], "card", ["4242 4242 4242 4242"]),
        (["4242-4242-4242-4242"], "card", ["4242-4242-4242-4242"]),
        (["it's double 4242424242424242"], "card", ["double 4242424242424242"]),
        (["four two " * 8], "card", ["four two " * 7 + "four two"]),
        (["forty two " * 8], "card", ["forty two " * 7 + "forty two"]),
        (["four one one one uh one one one one", "mm-hm", "one one one one one one one one"], "card",
         ["four one one one uh one one one one", "one one one one one one one one"]),
        (["4242", "4242", "4242", "4242", "4242", "yep", "4242. Expires 12/27"], "card", ["4242"] * 6),
        (["my visa number is 4111 1111 1111 1112"], "card", ["4111 1111 1111 1112"]),
        (["my social is one two three", "uh huh", "four five", "yes", "six seven eight nine"], "ssn",
         ["one two three", "four five", "six seven eight nine"]),
        (["219-09-9999"], "ssn", ["219-09-9999"]),
        (["it's jane dot doe at gmail dot com"], "email", ["jane dot doe at gmail dot com"]),
        (["Write to j.d+x@mail.example.co.uk."], "email", ["j.d+x@mail.example.co.uk"]),
        (["call (503) 555-0127 now"], "phone", ["(503) 555-0127"]),
        (["five oh three, five five five, oh one two seven"], "phone",
         ["five oh three, five five five, oh one two seven"]),
        (["my cell is 503 triple five 0144"], "phone", ["503 triple five 0144"]),
        (["area code two one two five five five", "okay", "oh one nine eight"], "phone",
         ["two one two five five five", "oh one nine eight"]),
        (["call +44 20 7946 0958"], "phone", ["+44 20 7946 0958"]),
        (["I was born 6/30/1991 there"], "birth_date", ["6/30/1991"]),
        (["my birthday is july twenty second nineteen fifty eight"], "birth_date",
         ["july twenty second nineteen fifty eight"]),
        (["at 412 Maple Street, Apartment 3B, Springfield, Illinois 62704."], "address",
         ["412 Maple Street, Apartment 3B, Springfield, Illinois 62704"]),
        (["twelve forty seven oak ridge drive in plano texas seven five oh two three"], "address",
         ["twelve forty seven oak ridge drive in plano texas seven five oh two three"]),
        (["P.O. Box 331, Fargo, ND 58102"], "address", ["P.O. Box 331, Fargo, ND 58102"]),
        (["my name is thomas whitfield"], "name", ["thomas whitfield"]),
        (["hi", "your name please", "ngozi okonkwo"], "name", ["ngozi okonkwo"]),
        (["this is Mrs. Feldman"], "name", ["Feldman"]),
    ],
)  # fmt: skip
def test_a_kind_is_found_as_it_is_written_and_spoken(said, kind, parts):
    assert found(*said) == [(kind, parts)]


@pytest.mark.parametrize(
    "said",
    [
        "order 7712440918830025 ships may tenth",
        "it's fifteen minutes down the road, 3 bedrooms, 1500 square feet",
        "April 12, 2025 at 10:15 for $1,250.00",
        "i will mark it down, may i call back",
        "the model is four one zero zero two two zero zero three three zero zero four four zero zero",
        "we met on fifth avenue next to the chase bank",
        "Bennett Plumbing, open Sunday in June",
    ],
)
def test_what_only_looks_like_it_is_left_alone(said):
    assert found(said) == []


def test_the_check_digit():
    assert luhn("4242424242424242")
    assert not luhn("4242424242424241")
    assert found("0000 0000 0000 0000") == []


def test_the_figures_of_the_half_that_finders_were_written_with_hold():
    counts = count([item for item in read(DATA) if item.split == "dev"])
    assert counts.recall() >= 0.98
    assert counts.precision() >= 0.97


def test_the_figures_of_the_other_half_are_those_of_the_docs():
    page = DOCS.read_text(encoding="utf-8")
    assert documented(page, count([item for item in read(DATA) if item.split == "heldout"])) == page, (
        "make eval"
    )


def test_one_value_has_one_placeholder_in_all_turns_and_wordings():
    redaction = Redaction(
        turns("call 503-555-0127", "five oh three five five five oh one two seven?", "or 503-555-0188")
    )
    assert redaction.texts == ["call [PHONE_1]", "[PHONE_1]?", "or [PHONE_2]"]


def test_kinds_that_are_not_asked_for_stay():
    redaction = Redaction(turns("my name is thomas whitfield, 503-555-0127"), {PiiKind.PHONE})
    assert redaction.texts == ["my name is thomas whitfield, [PHONE_1]"]


def test_a_quote_comes_back_as_it_was_said_and_a_value_in_its_normal_form():
    redaction = Redaction(
        turns("call 503-555-0127", "okay five oh three five five five oh one two seven then")
    )
    assert (
        redaction.restored("okay [PHONE_1] then") == "okay five oh three five five five oh one two seven then"
    )
    assert redaction.restored("Call [PHONE_1] back.") == "Call 503-555-0127 back."
    assert redaction.restored("[PHONE_1]", normal=True) == "+15035550127"
    assert (
        redaction.restored("from [PHONE_1] and [PHONE_9] or [phone_1]")
        == "from 503-555-0127 and [PHONE_9] or [phone_1]"
    )


def test_what_somebody_writes_is_never_read_as_a_placeholder():
    redaction = Redaction(turns("send it to [PHONE_1] and [CARD_1], my number is 503-555-0127"))
    assert redaction.texts == ["send it to [PHONE_1] and [CARD_1], my number is [PHONE_2]"]
    assert redaction.restored("[PHONE_1] [CARD_1] [PHONE_2]") == "[PHONE_1] [CARD_1] 503-555-0127"


WORDS = (
    "4242", "four", "two", "oh", "one", "uh", "call", "my", "number", "is", "name", "karen", "will", "at", "dot",
    "gmail", "com", "12", "main", "street", ",", ".", "[PHONE_1]", "\u200b", "é", "İ",
)  # fmt: skip
TALK = st.lists(st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join), max_size=6)


@given(TALK)
def test_each_turn_comes_back_whole(said):
    redaction = Redaction(turns(*said))
    whole = "\n".join(redaction.texts)
    assert redaction.restored(whole) == "\n".join(said)
    for text, shown in zip(said, redaction.texts, strict=True):
        if redaction.restored(shown) != text:  # the same stands earlier, in another wording
            assert shown in whole


@given(st.lists(st.text(max_size=60), max_size=4), st.text(max_size=40))
def test_no_text_breaks_it(said, answer):
    redaction = Redaction(turns(*said))
    redaction.restored(answer)
    redaction.redacted(answer)


def settings(**told):
    return settings_pb2.AnalysisSettings(redaction=settings_pb2.Redaction(**told))


def test_a_tenant_chooses_and_saying_nothing_is_all_kinds():
    off = settings_pb2.REMOTE_REDACTION_OFF
    card = settings_pb2.PII_KIND_CARD
    assert remote_kinds(settings_pb2.AnalysisSettings()) == ALL
    assert remote_kinds(settings(remote=off)) == frozenset()
    assert remote_kinds(settings(kinds=[card])) == {PiiKind.CARD}
    assert remote_kinds(settings(kinds=[card, 99])) == ALL
    assert hidden_kinds(settings(), local=False) == frozenset()
    assert hidden_kinds(settings(keep_placeholders=True), local=False) == ALL
    assert hidden_kinds(settings(keep_placeholders=True), local=True) == frozenset()
    for told in ({"stored": True}, {"stored_transcripts": True}):
        assert hidden_kinds(settings(**told, remote=off, kinds=[card]), local=True) == {PiiKind.CARD}
    assert transcript_kinds(settings(stored=True).redaction) == frozenset()
    assert transcript_kinds(settings(stored_transcripts=True).redaction) == ALL
    assert transcript_kinds(settings(stored_transcripts=True, kinds=[card, 99]).redaction) == ALL
    assert transcript_kinds(settings(stored_transcripts=True, kinds=[card]).redaction) == {PiiKind.CARD}


def test_words_that_stand_at_several_places_are_redacted_as_at_the_first_that_has_something():
    talk = turns("room 4242 and may I come in may", "sure", "my card is 4242 4242 4242 4242", "and the name",
                 "it's Karen Grace, and grace before dinner")  # fmt: skip
    redaction = Redaction(talk)
    assert redaction.texts[0] == "room 4242 and may I come in may"
    assert redaction.redacted("4242") == "[CARD_1]", "the card's, though a room has the same number"
    assert redaction.redacted("room 4242") == "room 4242"
    assert redaction.redacted("may") == "may", "an ordinary word"
    assert redaction.redacted("grace") == "grace"


def test_a_text_that_stands_at_many_places_is_looked_for_once():
    redaction = Redaction(turns("at 5 " * 10_000, "call 503-555-0127"))
    began = time.thread_time()
    for _ in range(200):
        assert redaction.redacted("at 5") == "at 5"
    assert time.thread_time() - began < 1.0


@pytest.mark.parametrize(
    "said",
    [
        "Me llamo Carlos García. Mi tarjeta es 4242 4242 4242 4242, correo c.garcia@example.com",
        "Mein Name ist Jürgen Müller, Karte 4242 4242 4242 4242, c.garcia@example.com",
        "Je m'appelle Pierre Dupont, la carte 4242424242424242, et c.garcia@example.com",
    ],
)
def test_in_other_languages_cards_and_addresses_of_email_are_found_where_they_are_written(said):
    (text,) = Redaction(turns(said)).texts
    assert "4242" not in text
    assert "example.com" not in text


def test_what_stands_for_personal_data_is_one_mark():
    assert found("my name is [NAME_1], card [CARD_2], number [PHONE_1] [PHONE_2] [PHONE_3]") == []
    assert found("it's [NAME_1] Whitfield, 503-555-0127") == [("phone", ["503-555-0127"])]
