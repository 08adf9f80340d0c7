"""Each error of the store is told to a caller by its own code, and says whether a retry helps."""

from __future__ import annotations

import grpc
import pytest
from trunkline_runtime.errors.coded import domain_error
from trunkline_store.errors import Conflict, InvalidValue, StoreBusy, StoreError, StoreUnavailable


@pytest.mark.parametrize(
    ("error", "code", "transient"),
    [
        (StoreBusy("full"), grpc.StatusCode.RESOURCE_EXHAUSTED, True),
        (StoreUnavailable("disk"), grpc.StatusCode.UNAVAILABLE, True),
        (Conflict("row"), grpc.StatusCode.ALREADY_EXISTS, False),
        (InvalidValue("NUL"), grpc.StatusCode.INVALID_ARGUMENT, False),
        (StoreError("bug"), grpc.StatusCode.INTERNAL, False),
    ],
)
def test_an_error_of_the_store_says_whether_a_retry_helps(error, code, transient):
    domain = domain_error(error)
    assert (domain.code, domain.transient) == (code, transient)
    assert (domain.retry_after is not None) == transient


@pytest.mark.parametrize(
    "error", [ValueError(), OSError(2, "no such file"), UnicodeDecodeError("utf-8", b"", 0, 1, "x")]
)
def test_another_error_is_none_of_the_stores(error):
    assert domain_error(error) is None
