"""Who is given how many of the workers' slots."""

import pytest
from trunkline_gateway.jobs.shares import Shares
from trunkline_jobs import QueueClass

REALTIME = int(QueueClass.REALTIME)


@pytest.fixture
def shares():
    return Shares(tenant_in_flight=100, contended_share=0.25)


def test_a_tenant_alone_is_bounded_by_the_setting_alone(shares):
    shares.claims("w1", 16, now=0)
    shares.gave(["acme"], now=0)
    assert shares.caps()[REALTIME] == 100


def test_while_others_are_served_it_gets_a_share_of_all_workers_slots(shares):
    shares.gave(["acme", "globex"], now=0)
    shares.claims("w1", 16, now=0)
    assert shares.caps()[REALTIME] == 4
    shares.claims("w2", 24, now=1)
    shares.claims("w1", 16, now=2)
    assert shares.caps()[REALTIME] == 10, "a worker counts once"


def test_a_share_is_never_nothing_and_never_above_the_setting(shares):
    shares.gave(["acme", "globex"], now=0)
    assert shares.caps()[REALTIME] == 1
    shares.claims("w1", 1000, now=0)
    assert shares.caps()[REALTIME] == 100


def test_workers_that_stopped_or_vanished_do_not_count(shares):
    shares.gave(["acme", "globex"], now=0)
    shares.claims("gone", 100, now=0)
    shares.claims("stopped", 100, now=60)
    shares.claims("w1", 40, now=91)
    shares.leaves("stopped")
    assert shares.caps()[REALTIME] == 10


def test_who_has_had_nothing_for_a_while_shares_no_more(shares):
    shares.claims("w1", 16, now=0)
    shares.gave(["globex"], now=0)
    shares.gave(["acme"], now=1)
    assert shares.caps()[REALTIME] == 4
    shares.gave(["acme"], now=31)
    assert shares.caps()[REALTIME] == 100


@pytest.mark.parametrize(("slots", "reserve"), [(0, 0), (1, 0), (2, 1), (3, 1), (16, 4)])
def test_some_slots_are_kept_for_the_quiet_but_never_all(shares, slots, reserve):
    assert shares.room(slots).reserve == reserve
