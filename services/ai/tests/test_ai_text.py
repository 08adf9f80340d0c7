import pytest
from hypothesis import given
from hypothesis import strategies as st
from trunkline_ai.engines.local.text import canonical, sentences


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("It’s $2,000.50!", "it is 2000 dollars"),
        ("a $5k job", "a five dollars k job"),
        ("10 o'clock, 9:30 p.m. or 9:05", "ten oclock nine thirty pm or nine 05"),
        ("call 555-0158 or 1-800", "call 555 0158 or one 800"),
        ("We’re in, she'll see; were well, shell", "we are in she will see were well shell"),
        ("Mm-hmm, uh, OK. You guys can’t.", "ok you can not"),
        ("25 Main St., the 1st", "twenty five main st the 1st"),
        ("40 acres, 0 heat, 007", "forty acres zero heat 007"),
    ],
)
def test_what_is_written_is_brought_into_the_form_of_speech(written, form):
    assert canonical(written) == form


def test_a_title_or_an_hour_does_not_end_a_sentence():
    assert sentences("Dr. Lee comes at 9 a.m. Monday. Mrs. Smith? Yes. At 5.") == [
        "Dr. Lee comes at 9 a.m. Monday.", "Mrs. Smith?", "Yes.", "At 5.",
    ]  # fmt: skip


ODD = [
    "it's", "It’s", "$5", "$2,000.50", "$", "5", "9:30", "p.m.", "p.", "m.", "a", "U.S.A.", "you", "guys", "all,", "uh",
    "1,000", "555-0158", "…", "¿Qué?", "e\u0301", "\u200b", "we're", "were", "x" * 40, "can`t",
    "\x1c", "\xa0", "ʼtis", "_", "0",
]  # fmt: skip


@given(st.lists(st.sampled_from(ODD), max_size=8))
def test_words_have_the_same_form_alone_and_in_a_text_that_is_read_whole(said):
    text = " ".join(said)
    read_whole = canonical(f"{text} ; . q. z")  # initials apart are one word, so words are not read alone
    assert f"{canonical(text)} q z".strip() == read_whole
