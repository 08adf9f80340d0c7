"""Windows: every utterance is listened to once, and each word comes back to the utterance that it was said in."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trunkline_audio.engines import windows
from trunkline_audio.engines.whisper import listener
from trunkline_audio.engines.whisper.engine import LONGEST_SECONDS
from trunkline_audio.media.prepared import Utterance
from trunkline_audio.media.preprocess.timeline import RATE

LONGEST_UTTERANCE = 20.0


def one_after_another(lane, lengths, pause=0.5):
    out, clock = [], 0.0
    for seconds in lengths:
        out.append(Utterance(lane, round(clock * RATE), round((clock + seconds) * RATE)))
        clock += seconds + pause
    return out


lengths = st.lists(st.floats(0.1, LONGEST_UTTERANCE), max_size=30)
calls = st.tuples(lengths, lengths).flatmap(
    lambda both: st.permutations([item for lane in (0, 1) for item in one_after_another(lane, both[lane])])
)


@given(calls)
def test_each_utterance_is_in_one_window_of_its_lane_in_order_of_time(utterances):
    packed = windows.packed(utterances, LONGEST_SECONDS)
    dealt = [item for window in packed for item in window.utterances]
    assert dealt == sorted(utterances, key=lambda item: (item.lane, item.start))
    assert all({item.lane for item in window.utterances} == {window.lane} for window in packed)


@given(calls)
def test_no_window_is_longer_than_the_model_hears_at_a_time(utterances):
    for window in windows.packed(utterances, LONGEST_SECONDS):
        assert 0 < window.seconds <= LONGEST_SECONDS


def fewest(seconds, most):
    """How few runs of neighbours, each at most so long, there can be."""
    count, held = 1, 0.0
    for one in seconds:
        if held and held + one > most:
            count, held = count + 1, 0.0
        held += one
    return count


@given(lengths.filter(len))
def test_there_are_as_few_windows_as_can_be_and_none_is_needlessly_long(seconds):
    utterances = one_after_another(0, seconds)
    packed = windows.packed(utterances, LONGEST_SECONDS)
    lasting = [windows.Window(0, (item,)).seconds for item in utterances]
    assert len(packed) == fewest(lasting, LONGEST_SECONDS)
    longest = max(window.seconds for window in packed)
    if longest - windows.EVEN_SECONDS > max(lasting):
        assert fewest(lasting, longest - windows.EVEN_SECONDS) > len(packed)


def test_windows_of_short_utterances_are_about_equally_long():
    packed = windows.packed(one_after_another(0, [0.7] * 80), LONGEST_SECONDS)
    lasting = [window.seconds for window in packed]
    assert len(packed) > 1
    assert max(lasting) - min(lasting) < 1.0 + windows.EVEN_SECONDS * len(packed)


def test_nothing_said_makes_no_window():
    assert windows.packed([], LONGEST_SECONDS) == []


@given(st.lists(st.tuples(st.floats(0.05, 4.0), st.floats(0.1, LONGEST_UTTERANCE)), min_size=1, max_size=8))
def test_utterances_lie_in_their_window_as_long_as_they_are_with_a_gap_between(pieces):
    spans, clock = [], 0.0
    for pause, length in pieces:
        spans.append((clock + pause, clock + pause + length))
        clock = spans[-1][1]
    spots = windows.places(spans)
    assert spots[0][0] == 0
    for (begin, until), (start, end) in zip(spots, spans, strict=True):
        assert until - begin == pytest.approx(end - start)
    for (_, until), (begin, _) in pairwise(spots):
        assert begin - until == pytest.approx(windows.GAP_SECONDS)


# Utterances as they lie in their window: side by side, and with silence between.
CLOSE = [(0.0, 4.0), (4.0, 9.0), (9.0, 15.0)]
APART = [(0.0, 4.0), (4.3, 9.3), (9.6, 15.6)]

texts = st.sampled_from([" one", " two,", " three.", " why?", " so;", "-and", " ", "¿qué"])
written = st.lists(st.tuples(texts, st.floats(0, 17), st.floats(0, 1.5)), max_size=40).map(
    lambda words: [(text, start, start + length) for text, start, length in sorted(words, key=lambda w: w[1])]
)


@pytest.mark.parametrize("spots", [CLOSE, APART])
@given(written)
def test_words_never_go_back_to_an_earlier_utterance(spots, words):
    owners = windows.attributed(words, spots)
    assert len(owners) == len(words)
    assert owners == sorted(owners)
    assert set(owners) <= set(range(len(spots)))


@pytest.mark.parametrize("spots", [CLOSE, APART])
@given(st.lists(st.tuples(st.integers(0, 2), texts), min_size=1, max_size=12).map(sorted))
def test_words_well_inside_an_utterance_stay_in_it(spots, said):
    owners = [owner for owner, _ in said]
    words = []
    for index, (begin, until) in enumerate(spots):
        mine = [text for owner, text in said if owner == index]
        begin, until = begin + 0.35, until - 0.35
        share = (until - begin) / max(len(mine), 1)
        words += [(text, begin + nth * share, begin + (nth + 1) * share) for nth, text in enumerate(mine)]
    assert windows.attributed(words, spots) == owners


@pytest.mark.parametrize("spots", [CLOSE, APART])
def test_a_sentence_that_starts_after_a_pause_goes_to_the_later_utterance(spots):
    words = [
        (" It", 2.6, 2.8),
        (" leaks.", 2.8, 3.6),
        (" Please", 3.6, 4.6),  # begins before the pause, as the model has it
        (" hurry.", 4.6, 5.1),
    ]
    assert windows.attributed(words, spots) == [0, 0, 1, 1]


@pytest.mark.parametrize("spots", [CLOSE, APART])
def test_a_sentence_that_reaches_into_the_pause_stays_together(spots):
    words = [(" Please", 3.2, 3.6), (" hurry", 3.6, 4.1), (" up.", 4.1, 4.35), (" Yes.", 4.5, 5.0)]
    assert windows.attributed(words, spots) == [0, 0, 0, 1]


def test_an_utterance_that_the_model_left_out_gets_no_word():
    assert windows.attributed([(" Hello.", 0.5, 1.0), (" Goodbye.", 11.0, 12.0)], APART) == [0, 2]


def test_no_words_belong_to_no_utterance():
    assert windows.attributed([], APART) == []


SPANS = [(10 * RATE, 14 * RATE), (20 * RATE, 25 * RATE), (26 * RATE, 32 * RATE)]


@given(written)
def test_words_come_back_inside_their_utterance_in_the_time_of_the_recording(words):
    placed = listener.in_place([(*word, 0.5) for word in words], SPANS)
    assert [word[0] for word in placed] == [word for word, *_ in words if word.strip()]
    for _, owner, start, end, _ in placed:
        first, last = (sample / RATE for sample in SPANS[owner])
        assert first <= start <= end <= last


def test_a_word_has_the_time_at_which_it_was_said():
    third = 9 + 2 * windows.GAP_SECONDS  # where the third utterance begins in the window
    words = [(" Hello.", 0.5, 1.0, 0.87654), (" Bye.", third + 1, third + 1.5, 0.5)]
    assert listener.in_place(words, SPANS) == [
        [" Hello.", 0, 10.5, 11.0, 0.8765],
        [" Bye.", 2, 27.0, 27.5, 0.5],
    ]


def test_a_probability_that_is_no_number_is_none_at_all():
    assert listener.in_place([(" Hello.", 0.5, 1.0, float("nan"))], SPANS)[0][-1] == 0.0


def test_a_window_sounds_as_its_utterances_do_with_silence_after_each(tmp_path):
    lane = np.arange(-8 * RATE, 8 * RATE, dtype=np.int64)
    lane = (lane % 2000 - 1000).astype("<i2")
    path = tmp_path / "lane"
    path.write_bytes(lane.tobytes())
    spans = [(100, 100 + RATE), (5 * RATE, 7 * RATE)]
    heard = windows.samples(path, spans)
    gap = round(windows.GAP_SECONDS * RATE)
    assert len(heard) == 3 * RATE + 2 * gap
    assert np.array_equal(heard[:RATE], lane[100 : 100 + RATE])
    assert not heard[RATE : RATE + gap].any()
    assert np.array_equal(heard[RATE + gap : 3 * RATE + gap], lane[5 * RATE : 7 * RATE])
    assert not heard[3 * RATE + gap :].any()
