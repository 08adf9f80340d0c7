"""Answers leave in one write, and those without a body leave too."""

from __future__ import annotations

import asyncio

import pytest
from trunkline_gateway.edge.one_write import OneWrite

BODY = b'{"ok":true}'


class Wire(asyncio.Transport):
    """Keeps what was written, write by write."""

    def __init__(self):
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data):
        self.writes.append(bytes(data))

    def close(self):
        self.closed = True

    def is_closing(self):
        return self.closed

    def can_write_eof(self):
        return False

    def get_write_buffer_size(self):
        return 0

    pause_reading = resume_reading = abort = lambda self: None

    def set_protocol(self, protocol):
        pass


@pytest.fixture
def wire():
    return Wire()


def test_head_and_body_are_one_write(wire):
    out = OneWrite(wire)
    out.write(b"HTTP/1.1 202 Accepted\r\n\r\n")
    assert wire.writes == []
    out.write(BODY)
    assert wire.writes == [b"HTTP/1.1 202 Accepted\r\n\r\n" + BODY]


def test_what_comes_after_the_first_of_a_body_does_not_wait(wire):
    out = OneWrite(wire)
    out.write(b"HTTP/1.1 200 OK\r\n\r\n")
    out.writelines([b"5\r\n", b"first\r\n"])
    out.write(b"6\r\nsecond\r\n")
    assert wire.writes[1:] == [b"6\r\nsecond\r\n"]


def test_an_interim_answer_does_not_wait(wire):
    OneWrite(wire).write(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert wire.writes == [b"HTTP/1.1 100 Continue\r\n\r\n"]


@pytest.mark.parametrize("end", ["flush", "close"])
def test_a_head_alone_goes_when_the_answer_ends(wire, end):
    out = OneWrite(wire)
    out.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    getattr(out, end)()
    getattr(out, end)()
    assert wire.writes == [b"HTTP/1.1 204 No Content\r\n\r\n"]
    assert wire.closed == (end == "close")
