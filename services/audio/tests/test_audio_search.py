"""Search within a transcript: what is found, where, and when it was said."""

import html
import re

import audio_transcripts as made
import pytest
from audio_transcripts import CUSTOMER, segment, transcript
from hypothesis import given
from hypothesis import strategies as st
from trunkline_audio.transcripts.search import Query, page_of
from trunkline_runtime.api.paging import Place
from trunkline_runtime.errors import InvalidArgument

CALL = transcript(
    segment("The Water Heater is leaking, and the water's cold.", 0, 9),
    segment("Señora Núñez, don't worry: it’s covered.", 10, 17, CUSTOMER, 1),
    segment("Cafe\u0301 heaters are not water heaters.", 20, 26),
    segment("昨日は東京に行きました", 30, 40, words=()),
)


def found(query, of=CALL):
    return [
        (match.segment, of.segments[match.segment]["text"][match.first : match.last])
        for match in Query(query).matches(of)
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("leak", [(0, "leaking")]),
        ("WATER", [(0, "Water"), (0, "water's"), (2, "water")]),
        ('"water heater"', [(0, "Water Heater")]),
        ("“water heaters”", [(2, "water heaters")]),
        ("nunez senora", [(1, "Señora"), (1, "Núñez")]),
        ("NÚÑEZ", [(1, "Núñez")]),
        ("cafe", [(2, "Cafe\u0301")]),
        ("café", [(2, "Cafe\u0301")]),
        ("dont it's", [(1, "don't"), (1, "it’s")]),
        ("eater", []),
        ('"water heat"', []),
        ('"the water" water', [(0, "The Water"), (0, "water's"), (2, "water")]),
        ("東京", [(3, "東京")]),
        ("行き", [(3, "行き")]),
        ("le.king lea.*", [(0, "leaking")]),
    ],
)
def test_what_is_found(query, expected):
    assert found(query) == expected


def test_a_match_has_the_times_of_its_words():
    (match,) = Query('"is leaking"').matches(CALL)
    assert (match.start, match.end) == (3_000_000, 4_875_000), "without the comma"
    (match,) = Query("東京").matches(CALL)
    assert (match.start, match.end) == (32_727_272, 34_545_454), "spread evenly: there are no words"


def test_a_snippet_is_escaped_and_cut_between_words():
    said = "alpha " * 30 + "<b>needle</b> & " + "omega " * 30
    (match,) = Query("needle").matches(transcript(segment(said, 0, 1)))
    assert match.snippet == (
        "…"
        + " ".join(["alpha"] * 9)
        + " &lt;b&gt;<mark>needle</mark>&lt;/b&gt; &amp; "
        + "omega " * 7
        + "omega…"
    )


@pytest.mark.parametrize("query", ["", "  ", '""', "!?", 'a "b', " ".join(f"w{n}" for n in range(17))])
def test_a_query_without_a_word_is_refused(query):
    with pytest.raises(InvalidArgument):
        Query(query)


def test_pages_hold_each_match_once():
    of = transcript(*(segment("yes yes no yes", n, n + 1) for n in range(5)))
    seen, token = [], ""
    while True:
        page = page_of(Query("yes"), of, Place(4, token, "d"))
        assert len(page.matches) <= 4
        seen += [(match.segment, match.text_offset, match.text_length) for match in page.matches]
        token = page.next_page_token
        if not token:
            break
    assert seen == [(n, offset, 3) for n in range(5) for offset in (0, 4, 11)]


@given(made.transcripts(), st.text(min_size=1, max_size=30))
def test_any_query_gives_matches_of_the_text(of, text):
    try:
        query = Query(text)
    except InvalidArgument:
        return
    last = (-1, -1)
    for match in query.matches(of):
        said = of.segments[match.segment]["text"]
        assert 0 <= match.first < match.last <= len(said)
        assert (match.segment, match.first) > last
        last = (match.segment, match.first)
        assert match.start <= match.end
        marked = re.search("<mark>(.*)</mark>", match.snippet, re.DOTALL)
        assert html.unescape(marked.group(1)) == said[match.first : match.last]


@given(made.transcripts(), st.data())
def test_every_word_is_found(of, data):
    words = [
        (n, word) for n, item in enumerate(of.segments) for word in re.findall(r"[a-zA-Z]+", item["text"])
    ]
    if words:
        number, word = data.draw(st.sampled_from(words))
        folded = [match.segment for match in Query(word).matches(of)]
        whole = re.search(rf"(?<![^\s]){word}", of.segments[number]["text"])
        assert whole is None or number in folded
