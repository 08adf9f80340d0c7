"""The busiest keys have a series, the others share one; a disk's room is looked up when asked for."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from trunkline_runtime.observe import disks
from trunkline_runtime.observe.top import Top


def test_the_first_have_a_series_the_others_share_one() -> None:
    top: Top[str] = Top(2)
    assert [top.takes(key) for key in ("a", "b", "c", "a")] == [True, True, False, True]


def test_a_clearly_busier_one_takes_the_place_of_the_quietest() -> None:
    gone: list[str] = []
    top = Top(2, gone.append)
    for key in ("a", "b", "a", "a", *["c"] * 5):
        top.takes(key)
    top.rank()
    assert gone == ["b"]
    assert [top.takes(key) for key in ("a", "b", "c")] == [True, False, True]


def test_one_that_is_hardly_busier_takes_no_place() -> None:
    gone: list[str] = []
    top = Top(1, gone.append)
    for key in ("a", "a", "b", "b", "b"):
        top.takes(key)
    top.rank()
    assert gone == []


@given(st.lists(st.one_of(st.integers(0, 300), st.none()), max_size=400))
def test_there_are_never_more_than_the_most(keys: list[int | None]) -> None:
    shown: set[int] = set()
    top = Top(3, shown.discard)
    for key in keys:
        if key is None:
            top.rank()
        elif top.takes(key):
            shown.add(key)
        assert len(shown) <= 3


def test_the_disk_of_a_file_that_is_not_there_yet_is_that_of_its_folder(tmp_path: Path) -> None:
    disks.show_store(f"sqlite:///{tmp_path}/not/there.db")
    free = REGISTRY.get_sample_value("trunkline_disk_free_bytes", {"keeps": "store"})
    size = REGISTRY.get_sample_value("trunkline_disk_size_bytes", {"keeps": "store"})
    assert free is not None
    assert size is not None
    assert 0 < free <= size


def test_a_store_elsewhere_has_no_disk_here() -> None:
    disks.show_store("spanner+spanner:///projects/p/instances/i/databases/d")
