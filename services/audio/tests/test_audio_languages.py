"""Languages: a hint is believed unless the recording speaks clearly of another language."""

import pytest
from trunkline_audio.engines.whisper import languages
from trunkline_audio.engines.whisper.languages import HeardLanguage
from trunkline_audio.engines.whisper.listener import (
    CLEARER,
    CONFIDENT,
    RIVAL,
    Wording,
    chosen,
    likelier,
    tried,
)


@pytest.mark.parametrize(
    ("tag", "code"),
    [
        ("", ""),
        ("es", "es"),
        ("es-MX", "es"),
        ("EN_us", "en"),
        ("zh-Hant-TW", "zh"),
        ("cmn-Hans-CN", "zh"),
        ("nb-NO", "no"),
        ("iw", "he"),
        ("fil-PH", "tl"),
        ("jv", "jw"),
    ],
)
def test_a_tag_is_known_by_the_name_that_the_model_has_for_it(tag, code):
    assert languages.code(tag) == code


SURE = [("es", CONFIDENT), ("en", 0.1)]
UNSURE = [("es", CONFIDENT - 0.3), ("pt", 0.4), ("en", 0.05)]


@pytest.mark.parametrize("wanted", ["", "en", "es", "fr"])
@pytest.mark.parametrize("decide", [True, False])
def test_a_window_that_is_certain_is_written_in_its_own_language(wanted, decide):
    assert chosen(SURE, wanted, decide=decide) == "es"


@pytest.mark.parametrize("decide", [True, False])
def test_a_window_that_is_not_certain_and_agrees_with_the_hint_is_written_at_once(decide):
    assert chosen(UNSURE, "es", decide=decide) == "es"


@pytest.mark.parametrize("wanted", ["", "en"])
def test_a_window_that_is_not_certain_waits_for_the_rest_of_the_call(wanted):
    assert chosen(UNSURE, wanted, decide=False) == ""


@pytest.mark.parametrize(("wanted", "language"), [("", "es"), ("pt", "pt"), ("en", "es"), ("no such", "es")])
def test_a_window_that_is_the_whole_call_follows_a_hint_that_may_well_be_right(wanted, language):
    assert chosen(UNSURE, wanted, decide=True) == language


def test_a_window_that_is_not_certain_is_tried_in_two_languages():
    assert tried(UNSURE, "es", "") == ["es", "pt"]
    assert tried([("cs", 0.7), ("pl", 0.1), ("la", 0.05)], "cs", "en") == ["cs", "pl"]


@pytest.mark.parametrize(
    ("heard", "language", "wanted"),
    [
        (SURE, "es", ""),
        (UNSURE, "es", "es"),
        (UNSURE, "pt", "pt"),
        ([("es", CONFIDENT - 0.1), ("pt", (CONFIDENT - 0.1) * RIVAL * 0.9)], "es", ""),
        ([("en", 1.0)], "en", ""),
    ],
    ids=["certain", "named", "named, not the likeliest", "no rival", "an English model"],
)
def test_a_window_is_written_once_where_one_language_stands_out(heard, language, wanted):
    assert tried(heard, language, wanted) == [language]


def written(language, log_probability, no_speech=0.0, tokens=20, **more):
    return Wording(language, [1] * tokens, log_probability, no_speech, **more)


def test_the_text_that_the_model_believes_in_decides_between_two_languages():
    english, german = written("en", -1.25), written("de", -0.5)
    assert likelier([english, german]) is german
    assert likelier([german, english]) is german


def test_the_language_that_the_sound_is_likelier_in_keeps_a_near_draw():
    first = written("es", -0.5)
    assert likelier([first, written("pt", -0.5 + CLEARER * 0.9 / 20)]) is first


def test_a_script_of_many_tokens_does_not_win_by_their_number():
    french, thai = written("fr", -0.9, tokens=40), written("th", -0.7, tokens=120)
    assert likelier([french, thai]) is french


def test_text_in_circles_never_wins_by_being_probable():
    first, circles = written("ru", -1.2), written("mn", -0.1, looped=True)
    assert likelier([first, circles]) is first
    assert likelier([circles, first]) is first
    assert likelier([circles, written("ka", -0.1, looped=True)]) is circles


def test_no_other_language_makes_words_of_what_is_no_speech():
    silent = written("en", -1.2, no_speech=0.9)
    assert likelier([silent, written("la", -0.8, no_speech=0.9)]) is silent


def test_most_of_the_speech_says_which_language_a_call_is_in():
    heard = [(25.0, [("es", 0.9), ("pt", 0.1)]), (4.0, [("en", 0.6), ("es", 0.2)]), (8.0, [("pt", 0.5)])]
    assert languages.likeliest(heard) == "es"


def test_a_long_window_counts_more_than_short_ones():
    assert languages.likeliest([(20.0, [("de", 0.7)]), (5.0, [("nl", 0.9)]), (5.0, [("nl", 0.9)])]) == "de"


def test_the_hint_wins_where_the_call_may_well_be_in_it():
    heard = [(20.0, [("es", 0.5), ("pt", 0.4)])]
    assert languages.likeliest(heard, "pt") == "pt"
    assert languages.likeliest(heard, "en") == "es"
    assert languages.likeliest([(20.0, [("es", 0.7), ("pt", 0.2)])], "pt") == "es"


def test_where_nothing_was_heard_no_language_is_likely():
    assert languages.likeliest([], "en") == ""


def test_a_language_that_was_asked_for_keeps_its_region_when_it_was_heard():
    assert languages.verdict("en-US", [("en", 20.0, 0.9)]) == HeardLanguage("en-US", 0.9)
    assert languages.verdict("nb", [("no", 20.0, 0.9)]) == HeardLanguage("nb", 0.9)


def test_a_language_that_was_not_heard_is_told_as_overruled():
    assert languages.verdict("en-US", [("es", 20.0, 0.9)]) == HeardLanguage("es", 0.9, overruled="en-US")


def test_without_a_hint_nothing_is_overruled():
    assert languages.verdict("", [("es", 20.0, 0.9)]) == HeardLanguage("es", 0.9)


def test_the_language_of_a_mixed_call_is_the_one_spoken_longest_and_its_certainty_counts_by_length():
    written = [("en", 12.0, 0.99), ("es", 20.0, 0.9), ("es", 5.0, 0.4)]
    assert languages.verdict("", written) == HeardLanguage("es", 0.8)


def test_the_models_own_names_do_not_leave_the_service():
    assert languages.verdict("", [("jw", 20.0, 0.9)]).language == "jv"


def test_silence_stays_in_the_language_that_was_asked_for_and_says_nothing_of_it():
    assert languages.verdict("fr-CA", []) == HeardLanguage("fr-CA", 0.0)
