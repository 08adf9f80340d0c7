"""Merging is a join: associative, commutative, idempotent; pure, so tried on many statements at once."""

import functools
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trunkline.tenant.v1 import call_pb2
from trunkline_tenant import ids
from trunkline_tenant.calls.facts import FIELDS, Stamp, UnknownField, join, stated_by

_VALUES = {
    "note": st.text(max_size=3),
    "spam": st.booleans(),
    "tags": st.lists(st.text(max_size=2), max_size=3),
    "lead_score": st.integers(0, 100),
    "duration": st.integers(0, 9),
    "source": st.sampled_from(["tenants/t1/sources/aa", "tenants/t1/sources/bb"]),
}


@st.composite
def statements(draw):
    moments = st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 2))
    told = draw(st.lists(moments, min_size=1, max_size=5))
    made = []
    for number, (time, rank, received) in enumerate(told):
        names = draw(st.lists(st.sampled_from(sorted(_VALUES)), unique=True))
        call = call_pb2.Call()
        for name in names:
            value = draw(_VALUES[name])
            if name == "tags":
                call.tags.extend(value)
            elif name == "duration":
                call.duration.seconds = value
            else:
                setattr(call, name, value)
        made.append(stated_by(call, names or ["note"], Stamp(time, rank, received, f"e{number}")))
    return made


def told(statement):
    return statement.facts.SerializeToString(deterministic=True), dict(statement.times)


@given(statements(), st.randoms())
def test_any_order_and_any_repeats_join_to_the_same(made, random):
    expected = told(functools.reduce(join, made))
    for order in itertools.islice(itertools.permutations(made), 24):
        repeated = [*order, *random.choices(made, k=3)]
        assert told(functools.reduce(join, repeated)) == expected


@given(statements())
def test_how_they_are_grouped_does_not_matter(made):
    for cut in range(1, len(made)):
        left, right = functools.reduce(join, made[:cut]), functools.reduce(join, made[cut:])
        assert told(join(left, right)) == told(join(right, left)) == told(functools.reduce(join, made))


@given(statements())
def test_every_value_is_the_latest_statements(made):
    joined = functools.reduce(join, made)
    for name, stamp in joined.times.items():
        of = [s for s in made if name in s.times]
        pick = min if name == "source" else max
        assert stamp == pick(s.times[name] for s in of)
        winner = next(s for s in of if s.times[name] == stamp)
        assert getattr(joined.facts, name) == getattr(winner.facts, name)


def test_of_one_event_a_good_analysis_stands_whatever_comes_after_it():
    fields = ["summary", "degraded", "opening_words"]
    good = stated_by(call_pb2.Call(summary="good", opening_words="hi"), fields, Stamp(1, 0, 0, "e1"))
    poor = stated_by(
        call_pb2.Call(summary="poor", degraded=True, opening_words="hi"), fields, Stamp(1, 0, 0, "e1")
    )
    for joined in (join(good, poor), join(poor, good), join(join(poor, good), poor)):
        assert (joined.facts.summary, joined.facts.degraded) == ("good", False)
    assert join(poor, poor).facts.degraded
    late = stated_by(call_pb2.Call(degraded=True), fields, Stamp(1, 0, 7, "e1"))
    assert not join(good, late).facts.degraded, "a row of before times of receipt were kept"
    newer = stated_by(call_pb2.Call(summary="of other words", degraded=True), fields, Stamp(2, 0, 0, "e2"))
    assert join(good, newer).facts.summary == "of other words", "another event, another recording"


def test_a_lesser_engines_doubt_does_not_outlive_the_good_analysis():
    fields = ["summary", "degraded", "unreliable", "unreliable_reason", "language"]
    good = stated_by(call_pb2.Call(summary="wants a price", language="es"), fields, (1, 0, "e1"))
    poor = call_pb2.Call(
        degraded=True, unreliable=True, unreliable_reason="language_not_analysed", language="es"
    )
    doubtful = stated_by(poor, fields, (1, 0, "e1"))
    for joined in (join(good, doubtful), join(doubtful, good)):
        assert (joined.facts.unreliable, joined.facts.unreliable_reason) == (False, "")
        assert joined.facts.language == "es"


def test_without_a_mask_what_is_set_is_stated():
    said = stated_by(call_pb2.Call(note="x", provider_call_id="1", etag="e"), [], Stamp(1, 0, 0, "e1"))
    assert set(said.times) == {"note"}
    assert said.facts == call_pb2.Call(note="x")


def test_with_a_mask_an_empty_value_is_stated_and_identity_is_passed_over():
    said = stated_by(call_pb2.Call(value="kept"), ["note", "provider_call_id"], Stamp(1, 0, 0, "e1"))
    assert set(said.times) == {"note"}
    newer = stated_by(call_pb2.Call(note=""), ["note"], Stamp(2, 0, 0, "e2"))
    assert join(stated_by(call_pb2.Call(note="x"), [], Stamp(1, 0, 0, "e1")), newer).facts.note == ""


@pytest.mark.parametrize("name", ["nothing", "lead", "etag", "duration.seconds"])
def test_what_cannot_be_stated_is_named(name):
    with pytest.raises(UnknownField, match=name):
        stated_by(call_pb2.Call(), [name], Stamp(1, 0, 0, "e1"))


def test_every_field_of_a_call_is_stated_derived_or_identity():
    others = {"name", "provider", "provider_account", "provider_call_id", "lead", "last_event_time",
              "create_time", "update_time", "etag", "events", "recording_delete_time"}  # fmt: skip
    assert {field.name for field in call_pb2.Call.DESCRIPTOR.fields} == FIELDS.keys() | others


def test_ids_keep_apart_what_is_apart():
    assert ids.call_id("t1", 1, "ab", "c") != ids.call_id("t1", 1, "a", "bc")
    assert ids.call_id("t1", 1, "a", "b").startswith("c")
    assert ids.call_id("t1", 1, "a", "b") == ids.call_id("t1", 1, "a", "b")


@pytest.mark.parametrize("ids_", [("e1", "e2"), ("e2", "e1")])
def test_of_equal_times_the_later_received_stands_whatever_the_ids_are(ids_):
    first = stated_by(call_pb2.Call(note="first"), [], Stamp(5, 40, 100, ids_[0]))
    second = stated_by(call_pb2.Call(note="second"), [], Stamp(5, 40, 101, ids_[1]))
    assert join(first, second).facts.note == join(second, first).facts.note == "second"


def test_a_row_without_times_of_receipt_is_read():
    assert Stamp.kept([5, 40, "e1"]) == Stamp(5, 40, 0, "e1")
    assert Stamp.kept([5, 40, 9, "e1"]) == Stamp(5, 40, 9, "e1")
