"""Faults of the machine: callers are told to come again, and logs that cannot be written fail nobody."""

from __future__ import annotations

import errno
import io
import logging
import sys
from typing import Any

import grpc
import pytest
import structlog
from trunkline_runtime.errors import from_rpc_error
from trunkline_runtime.observe import logs
from trunkline_runtime.process.machine import unavailable


@pytest.mark.parametrize(("code", "reason"), [
    (errno.ENOSPC, "DISK_FULL"), (errno.EDQUOT, "DISK_FULL"), (errno.EIO, "DISK_BROKEN"),
    (errno.EROFS, "DISK_READ_ONLY"), (errno.EMFILE, "NO_DESCRIPTORS"), (errno.EACCES, "NO_PERMISSION"),
])  # fmt: skip
async def test_a_call_that_meets_a_fault_of_the_machine_is_to_come_again(
    suite: Any, code: int, reason: str
) -> None:
    async def broken(_request: Any, _context: Any) -> None:
        raise OSError(code, "it failed", "/var/secret/path")

    suite.handlers["One"] = broken
    with pytest.raises(grpc.RpcError) as caught:
        await suite.call()
    error = from_rpc_error(caught.value)
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, reason)
    assert error.retry_after
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "bug", [FileNotFoundError(errno.ENOENT, "gone"), ValueError("no"), OSError("without a number")]
)
def test_what_is_a_bug_stays_one(bug: Exception) -> None:
    assert unavailable(bug) is None


def test_a_log_line_that_cannot_be_written_is_lost_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def flush(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    kept = logging.getLogger().handlers[:]
    monkeypatch.setattr(sys, "stdout", Full())
    try:
        logs.configure("test")
        before = logs._lost._value.get()
        logs.get_logger("test").error("it_happened")
        logging.getLogger("other").error("it happened")
        assert logs._lost._value.get() >= before + 2
    finally:
        logging.getLogger().handlers[:] = kept
        structlog.reset_defaults()
