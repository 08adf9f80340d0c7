"""What may succeed later is repeated, for as long as it makes sense; the rest is not."""

from __future__ import annotations

import pytest
from trunkline_runtime.errors import FailedPrecondition, ResourceExhausted, TrunklineError, Unavailable
from trunkline_runtime.resilience import Pauses, RetryPolicy, is_transient, retrying


class Flaky:
    """Fails with the given errors in turn, then answers."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0
        self.slept: list[float] = []

    async def __call__(self, value: str) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return value

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


async def test_a_transient_error_is_repeated_with_growing_pauses() -> None:
    flaky = Flaky(Unavailable("a"), TimeoutError(), ConnectionError())
    policy = RetryPolicy(attempts=4, first_seconds=0.1, most_seconds=1.0)
    assert await retrying(policy, sleep=flaky.sleep)(flaky, "x") == "x"
    assert flaky.calls == 4
    assert all(0 <= pause <= most for pause, most in zip(flaky.slept, (0.1, 0.2, 0.4), strict=True))


async def test_the_last_error_is_raised_as_it_is_when_attempts_are_spent() -> None:
    flaky = Flaky(*[Unavailable(str(n)) for n in range(9)])
    with pytest.raises(Unavailable, match=r"^2$"):
        await retrying(RetryPolicy(attempts=3), sleep=flaky.sleep)(flaky, "x")
    assert flaky.calls == 3


async def test_what_cannot_succeed_later_is_not_repeated() -> None:
    for error in (FailedPrecondition("gone"), KeyError("bug")):
        flaky = Flaky(error)
        with pytest.raises(type(error)):
            await retrying(sleep=flaky.sleep)(flaky, "x")
        assert flaky.calls == 1


async def test_a_servers_own_pause_is_the_least() -> None:
    flaky = Flaky(ResourceExhausted("full", retry_after=7.5))
    assert await retrying(RetryPolicy(first_seconds=0.01), sleep=flaky.sleep)(flaky, "x") == "x"
    assert flaky.slept == [7.5]


def test_transient_is_what_the_error_table_says() -> None:
    from trunkline_runtime.errors import TABLE

    for cls in TABLE.values():
        assert is_transient(cls.of("m", reason="R")) is cls.transient
    assert not is_transient(ValueError())
    assert issubclass(Unavailable, TrunklineError)


async def test_a_loop_that_never_gives_up_comes_at_growing_intervals_until_it_went_well() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    pauses = Pauses(1.0, 3.0)
    for _ in range(4):
        await pauses.rest(sleep)
    assert (slept, pauses.seconds) == ([1.0, 2.0, 3.0, 3.0], 3.0)
    pauses.reset()
    await pauses.rest(sleep)
    assert slept[-1] == 1.0


async def test_a_policy_may_read_the_least_pause_elsewhere_and_try_as_often_as_there_is_time() -> None:
    flaky = Flaky(*[ConnectionError(str(seconds)) for seconds in (5, 6, 7, 8, 9)])
    policy = RetryPolicy(None, 0.01, 0.01, pause_of=lambda error: float(str(error)))
    assert await retrying(policy, sleep=flaky.sleep)(flaky, "x") == "x"
    assert flaky.slept == [5.0, 6.0, 7.0, 8.0, 9.0]
