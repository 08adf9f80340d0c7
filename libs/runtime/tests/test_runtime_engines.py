"""What engines of every kind share: they run in a block, show their readiness, and are counted."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import REGISTRY
from trunkline_runtime.config import ConfigError
from trunkline_runtime.engines.account import usage_message
from trunkline_runtime.engines.base import EngineUsage, attended
from trunkline_runtime.engines.loader import load_engine
from trunkline_runtime.rpc.health import Health


class Kettle:
    name = "kettle/1"

    def __init__(self) -> None:
        self.problem = "cold"
        self.running = 0

    async def __aenter__(self) -> Kettle:
        self.running += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self.running -= 1


def metric(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"trunkline_engine_{name}", {"engine": "kettle/1", **labels})


async def test_an_engine_runs_while_the_block_lasts_and_its_readiness_is_shown() -> None:
    kettle, health = Kettle(), Health()
    async with attended(kettle, health) as engine:
        assert engine is kettle
        assert kettle.running == 1
        assert metric("ready") == 0
        assert health.told()[1].splitlines()[1:] == ["engine kettle/1: cold"]
        kettle.problem = ""
        assert metric("ready") == 1
        assert health.told()[1].splitlines()[1:] == []
    assert kettle.running == 0
    assert metric("ready") is None


async def test_two_engines_of_one_name_end_one_after_the_other() -> None:
    async with attended(Kettle(), Health()), attended(Kettle(), Health()):
        assert metric("ready") == 0
    assert metric("ready") is None


def test_what_answers_use_is_counted_and_shown() -> None:
    usage = EngineUsage(audio_seconds=1.5, input_tokens=3, output_tokens=2, cost_micros=7)
    for _ in range(2):
        usage.count("kettle/1")
    assert metric("audio_seconds_total") == 3
    assert metric("tokens_total", kind="input") == 6
    assert metric("tokens_total", kind="output") == 4
    assert metric("cost_micros_total") == 14
    message = usage_message(usage)
    told = (
        message.audio_duration.ToMilliseconds(),
        message.input_tokens,
        message.output_tokens,
        message.cost_micros,
    )
    assert told == (1500, 3, 2, 7)
    assert not usage_message(EngineUsage(input_tokens=1)).HasField("audio_duration")


def loaded(value: str, *members: str) -> Any:
    return load_engine("TRUNKLINE_X_ENGINE", value, {"kettle": Kettle}, members)


def test_an_engine_is_found_by_name_or_by_module_and_factory() -> None:
    assert isinstance(loaded("kettle"), Kettle)
    assert isinstance(loaded(f"{__name__}:Kettle"), Kettle)


@pytest.mark.parametrize("value", ["", "pot", ":", "pot:", "no_such_module:make", "json:nothing"])
def test_an_engine_that_is_not_there_is_refused_with_what_is_allowed(value: str) -> None:
    with pytest.raises(ConfigError, match=r"^TRUNKLINE_X_ENGINE: .*allowed are kettle or module:factory"):
        loaded(value)


def test_an_engine_that_lacks_something_is_refused_with_what_it_lacks() -> None:
    with pytest.raises(ConfigError, match="'kettle' does not make an engine: there is no boil, pour"):
        loaded("kettle", "boil", "name", "pour")
