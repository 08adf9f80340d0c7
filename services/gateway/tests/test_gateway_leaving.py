"""Before a gateway is stopped, its spool is waited for: as long as that helps, and no longer."""

from __future__ import annotations

import socket

import pytest
from trunkline_gateway.edge.leaving import SETTING, leave, main, spooled
from trunkline_gateway.intake.spool import ROWS
from trunkline_runtime.observe.endpoint import MetricsEndpoint


class Time:
    def __init__(self):
        self.seconds = 0.0

    def sleep(self, seconds):
        self.seconds += seconds


def left(rows, **more):
    time = Time()
    told = iter(rows)
    return leave(lambda: next(told), now=lambda: time.seconds, sleep=time.sleep, **more), time.seconds


def test_it_waits_until_the_spool_is_empty():
    assert left([3, 2, 0], least=5, most=60) == (0, 5.5)


@pytest.mark.parametrize("rows", [[0], [None]])
def test_an_empty_spool_and_a_dead_gateway_are_not_waited_for(rows):
    assert left(rows, least=5, most=60) == (rows[0], 5)


def test_a_store_that_stays_down_is_not_waited_for_without_end():
    assert left(iter(lambda: 3, None), least=5, most=60) == (3, 60)


def test_the_gateway_is_asked_on_its_metrics_address():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free_port = listener.getsockname()[1]
    endpoint = MetricsEndpoint(f"127.0.0.1:{free_port}", "gateway", SETTING)
    try:
        everywhere = f"0.0.0.0:{free_port}"
        for number, code in ((0, 0), (7, 1)):
            ROWS.set(number)
            assert spooled(everywhere) == number
            assert main(["--least", "0", "--most", "0"], {SETTING: everywhere}) == code
    finally:
        ROWS.set(0)
        endpoint.close()
    assert spooled(everywhere) is None
