"""What follows from each kind of failure, and the breaker."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

import pytest
from trunkline_gateway.pipeline.policy import (
    POLICIES,
    Dead,
    Degraded,
    Retry,
    Unfetchable,
    Wait,
    follow_up,
    is_expected,
)
from trunkline_gateway.providers.base import Malformed
from trunkline_runtime.breakers import STATE, Breakers, CircuitOpen
from trunkline_runtime.errors import (
    TABLE,
    Aborted,
    AlreadyExists,
    Cancelled,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    TrunklineError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    Unknown,
)
from trunkline_runtime.testing import value_of

DAY = 86_400.0


def after(
    error: Exception, stage: str = "analyse", attempt: int = 1, waited: float = 0.0
) -> Wait | Retry | Dead:
    return follow_up(
        stage, error, attempt=attempt, waited_seconds=waited, give_up_after=DAY, jitter=lambda: 1.0
    )


FOLLOWS: dict[type[TrunklineError], type] = {
    Unavailable: Wait,
    ResourceExhausted: Wait,
    Unauthenticated: Wait,
    PermissionDenied: Wait,
    Unimplemented: Wait,
    DeadlineExceeded: Retry,
    Internal: Retry,
    Unknown: Retry,
    Aborted: Retry,
    Cancelled: Retry,
    InvalidArgument: Dead,
    NotFound: Dead,
    AlreadyExists: Dead,
    FailedPrecondition: Dead,
    OutOfRange: Dead,
    DataLoss: Dead,
}


def test_every_status_has_its_answer() -> None:
    assert set(FOLLOWS) == set(TABLE.values())


@pytest.mark.parametrize("kind", FOLLOWS)
def test_what_follows_from_a_status(kind: type[TrunklineError]) -> None:
    assert type(after(kind.of("words", reason="WHY"))) is FOLLOWS[kind]


@pytest.mark.parametrize("stage", POLICIES)
def test_attempts_end_in_a_dead_letter_that_says_why(stage: str) -> None:
    most = POLICIES[stage].attempts
    assert isinstance(after(Internal(), stage, most - 1), Retry)
    dead = after(Internal(), stage, most)
    assert isinstance(dead, Dead)
    assert dead.reason.startswith(f"given up after {most} attempts: INTERNAL")


@pytest.mark.parametrize("stage", POLICIES)
def test_delays_double_up_to_their_most(stage: str) -> None:
    policy = POLICIES[stage]
    delays = [
        outcome.delay
        for n in range(1, policy.attempts)
        if isinstance(outcome := after(Internal(), stage, n), Retry)
    ]
    assert delays[:2] == [policy.first_delay, 2 * policy.first_delay]
    assert delays == sorted(delays)
    assert delays[-1] <= policy.most_delay


def test_delays_have_jitter() -> None:
    least = follow_up(
        "analyse", Internal(), attempt=1, waited_seconds=0, give_up_after=DAY, jitter=lambda: 0.0
    )
    most = after(Internal())
    assert isinstance(least, Retry)
    assert isinstance(most, Retry)
    assert least.delay == most.delay / 2


def test_waiting_ends_after_a_day_whatever_was_waited_for() -> None:
    for error in (Unavailable("x", reason="RECORDING_NOT_READY"), Unavailable("x"), CircuitOpen("ai", 1.0)):
        assert isinstance(after(error, waited=DAY - 1), Wait)
        dead = after(error, waited=DAY)
        assert isinstance(dead, Dead)
        assert "given up after 24.0 h" in dead.reason


def test_a_recording_is_looked_for_often_first_then_seldom() -> None:
    delays = []
    for waited in (0.0, 60.0, 600.0, 7200.0):
        outcome = after(Unavailable("x", reason="RECORDING_NOT_READY"), "fetch_recording", waited=waited)
        assert isinstance(outcome, Wait)
        delays.append(outcome.delay)
    assert delays == sorted(delays)
    assert delays[0] < 20
    assert delays[-1] <= 1200


def test_a_delay_that_was_asked_for_is_kept() -> None:
    outcome = after(ResourceExhausted("busy", retry_after=7.0))
    assert isinstance(outcome, Wait)
    assert 7.0 <= outcome.delay <= 11.0


@pytest.mark.parametrize("attempt", [1, 5, 50])
def test_a_speech_engine_without_its_model_is_waited_for_ever_more_seldom(attempt: int) -> None:
    missing = Unavailable("no model", reason="ENGINE_NOT_READY", retry_after=1.0)
    delays = []
    for waited in (0.0, 60.0, 600.0, 7200.0):
        outcome = after(missing, "transcribe", attempt, waited)
        assert isinstance(outcome, Wait), "no attempt is spent, however many there were"
        delays.append(outcome.delay)
    assert delays == [2.5, 18.75, 75.0, 75.0]


def test_failures_of_our_own_are_told_apart_and_show_no_content() -> None:
    assert isinstance(after(Malformed("duration must be seconds")), Dead)
    assert isinstance(after(Unfetchable("no account")), Dead)
    assert isinstance(after(TimeoutError()), Retry)
    bug = after(KeyError("+15550100"))
    assert isinstance(bug, Retry)
    assert bug.reason == "INTERNAL: KeyError"
    assert not is_expected(KeyError())
    assert is_expected(Internal())


class TestBreakers:
    async def fail(self, error: Exception) -> None:
        raise error

    async def ask(self, breakers: Breakers, service: str, error: Exception) -> type[Exception]:
        try:
            await breakers.call(service, lambda: self.fail(error))
        except Exception as raised:
            return type(raised)
        raise AssertionError("nothing was raised")

    async def test_answers_that_say_no_are_no_outage(self) -> None:
        breakers = Breakers(2, 60.0, ("audio",), slow=("audio",))
        for error in (
            Unavailable("x", reason="RECORDING_NOT_READY"),
            Unavailable("x", reason="ENGINE_NOT_READY"),
            NotFound("x"),
            ResourceExhausted("x"),
            Internal(),
            DeadlineExceeded("one long recording"),
            asyncio.CancelledError(),
        ):
            for _ in range(3):
                with pytest.raises(type(error)):
                    await breakers.call("audio", lambda error=error: self.fail(error))

    async def test_a_service_that_hangs_is_left_alone(self) -> None:
        breakers = Breakers(2, 60.0, ("ai",))
        seen = [await self.ask(breakers, "ai", DeadlineExceeded("x")) for _ in range(3)]
        assert seen == [DeadlineExceeded, DeadlineExceeded, CircuitOpen]

    async def test_one_service_out_leaves_the_others(self) -> None:
        breakers = Breakers(1, 60.0, ("ai", "tenant"))
        assert await self.ask(breakers, "ai", Unavailable("x")) is Unavailable
        assert await self.ask(breakers, "ai", Unavailable("x")) is CircuitOpen
        assert await self.ask(breakers, "tenant", Unavailable("x")) is Unavailable

    async def test_once_the_rest_is_over_it_is_shown_half_open_also_while_nobody_asks(self) -> None:
        clock = [time.time()]
        breakers = Breakers(1, 60.0, ("redis",), now=lambda: clock[0])
        await self.ask(breakers, "redis", Unavailable("x"))
        assert value_of(STATE.labels("redis")) == 2
        clock[0] += 61.0
        assert value_of(STATE.labels("redis")) == 1


def test_a_degraded_answer_is_made_better_in_the_background_ever_more_seldom():
    first = after(Degraded(30), stage="record")
    assert first == Wait(30 * 1.25, first.reason, background=True)
    assert first.reason.startswith("ANALYSIS_DEGRADED")
    assert after(Degraded(30), stage="record", waited=1200).delay == 300 * 1.25
    assert after(Degraded(30), stage="record", waited=80_000).delay == 900 * 1.25
    assert isinstance(after(Degraded(30), stage="record", waited=DAY), Dead)
    assert is_expected(Degraded(30))


def test_the_operators_table_is_the_policies():
    text = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()
    rows = re.findall(
        r"^\| (\w+) \| (\d+) \| (\d+) s \| (\d+) s \| (\d+) s \| (\d+) s \|$", text, re.MULTILINE
    )
    told = {name: tuple(map(float, numbers)) for name, *numbers in rows}
    assert told == {
        name: (policy.attempts, policy.deadline, policy.call, policy.first_delay, policy.most_delay)
        for name, policy in POLICIES.items()
    }
