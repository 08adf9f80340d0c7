"""Repetition: what the model says in circles is said once, what people repeat stays."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trunkline_audio.engines.whisper.listener import MOST_COMPRESSION, compression
from trunkline_audio.engines.whisper.repetition import LONGEST_PHRASE, without_loops


def cut(text):
    return " ".join(word for word, _ in without_loops([(word, 0.0) for word in text.split()]))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Hello.",
        "No, no, no, no!",
        "Thank you, thank you, thank you.",
        "Come to the kitchen, come to the kitchen now.",
        "My number is 5 5 5 1 2 1 2, that is 5 5 5 1 2 1 2.",
        "It drips. It drips and it leaks and it drips.",
    ],
)
def test_what_people_say_again_stays(text):
    assert cut(text) == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("no no no no no", "no"),
        ("Well, " + "bye. " * 200, "Well, bye."),
        ("Thank you. " * 4 + "Bye.", "Thank you. Bye."),
        ("So where you are. " * 3 + "Where", "So where you are. Where"),
        (
            "I have " + "a pipe that burst in " * 9 + "the basement",
            "I have a pipe that burst in the basement",
        ),
    ],
)
def test_what_runs_in_circles_is_said_once(text, left):
    assert cut(text) == left


def test_case_and_punctuation_do_not_hide_a_circle():
    assert cut("Where you are? where You are. WHERE YOU ARE, Goodbye.") == "Where you are? Goodbye."


def test_a_phrase_up_to_the_longest_is_recognised():
    phrase = " ".join(f"w{n}" for n in range(LONGEST_PHRASE))
    assert cut(" ".join([phrase] * 3)) == phrase
    longer = f"{phrase} more"
    assert cut(" ".join([longer] * 3)) == " ".join([longer] * 3)


words = st.lists(st.sampled_from(["a", "B", "b,", "c."]), max_size=60).map(
    lambda texts: list(zip(texts, itertools.count(), strict=False))
)


@given(words)
def test_words_are_left_out_and_never_changed_or_moved(said):
    kept = [number for _, number in without_loops(said)]
    assert kept == sorted(set(kept))
    assert [said[number] for number in kept] == without_loops(said)
    assert (not said) == (not kept)


@given(words)
def test_no_word_is_left_more_than_four_times_in_a_row(said):
    texts = ["".join(filter(str.isalpha, word.lower())) for word, _ in without_loops(said)]
    longest = max((len(list(run)) for _, run in itertools.groupby(texts)), default=0)
    assert longest <= 4


def test_text_that_repeats_itself_is_told_by_how_small_it_packs():
    said = "My name is John Carter. The address is twenty five Main Street. Please send someone right away."
    assert compression(said) < MOST_COMPRESSION < compression("It is time to go home. " * 8)
    assert compression("") == 0.0


def test_a_script_of_three_bytes_a_letter_is_not_taken_for_a_loop():
    article = (
        "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है। उन्हें बुद्धि और "
        "अन्तरात्मा की देन प्राप्त है और परस्पर उन्हें भाईचारे के भाव से बर्ताव करना चाहिए।"
    )
    assert compression(article) < MOST_COMPRESSION < compression(article[:20] * 12)
