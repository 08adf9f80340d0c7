"""How many receipts are admitted at once: by who presses on the writer, and by how fast it has written so far."""

from hypothesis import given
from hypothesis import strategies as st
from trunkline_gateway.intake.batches import ALONE, CROWDED, PIECE_SECONDS, USUAL, Batches
from trunkline_store import Pressure


def test_before_anything_is_known_the_sizes_are_those_of_the_pressure():
    batches = Batches()
    assert [batches.under(pressure) for pressure in Pressure] == [ALONE, USUAL, CROWDED]


def test_a_slow_writer_is_kept_for_a_few_milliseconds_only():
    batches = Batches()
    batches.took(100, 0.02)
    assert batches.under(Pressure.SOME) == int(PIECE_SECONDS / 0.0002)
    assert batches.under(Pressure.NONE) == ALONE
    assert batches.under(Pressure.CROWD) == CROWDED


def test_one_slow_write_is_forgotten():
    batches = Batches()
    batches.took(1, 5.0)
    assert batches.under(Pressure.SOME) == CROWDED
    for _ in range(60):
        batches.took(256, 256 * 10e-6)
    assert batches.under(Pressure.SOME) == USUAL


@given(st.lists(st.tuples(st.integers(1, 5_000), st.floats(0, 100)), max_size=20), st.sampled_from(Pressure))
def test_whatever_was_seen_the_size_stays_between_its_bounds(seen, pressure):
    batches = Batches.of(64)
    for receipts, seconds in seen:
        batches.took(receipts, seconds)
    assert 16 <= batches.under(pressure) <= 64
