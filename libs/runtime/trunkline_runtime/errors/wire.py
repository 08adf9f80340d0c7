"""Domain errors as google.rpc.Status on the wire, and back."""

from __future__ import annotations

import math
from typing import Any

import grpc
from google.protobuf import duration_pb2, message
from google.rpc import error_details_pb2, status_pb2

from trunkline_runtime.errors import types as errors

DETAILS_KEY = "grpc-status-details-bin"
_MOST_MESSAGE = 1000
_MOST_VIOLATIONS = 20
_MOST_VIOLATION = 200
# Metadata past 8 KiB makes gRPC drop the whole answer for RESOURCE_EXHAUSTED; base64 adds a third.
_MOST_BYTES = 4096


def to_status(exc: BaseException, *, request_id: str = "") -> status_pb2.Status:
    """Return the status for an error. Internal, and what is no TrunklineError, show no cause."""
    error = exc if isinstance(exc, errors.TrunklineError) else errors.Internal()
    if isinstance(error, errors.Internal):
        error = errors.Internal()
    status = status_pb2.Status(code=error.code.value[0], message=error.message[:_MOST_MESSAGE])
    _pack(
        status,
        error_details_pb2.ErrorInfo(reason=error.reason, domain=errors.DOMAIN, metadata=error.metadata),
    )
    if request_id:
        _pack(status, error_details_pb2.RequestInfo(request_id=request_id))
    if error.retry_after is not None:
        _pack(status, error_details_pb2.RetryInfo(retry_delay=_duration(error.retry_after)))
    if isinstance(error, errors.ResourceExhausted):
        subject = error.metadata.get("subject", "")
        violation = error_details_pb2.QuotaFailure.Violation(
            subject=subject, description=error.message[:_MOST_VIOLATION]
        )
        _pack(status, error_details_pb2.QuotaFailure(violations=[violation]))
    if error.violations:
        bad = error_details_pb2.BadRequest()
        told = error.violations[:_MOST_VIOLATIONS]
        share = _MOST_BYTES // 2 // len(told)  # a few may say more each
        most = max(_MOST_VIOLATION, min(_MOST_MESSAGE, share))
        for field, text in told:
            bad.field_violations.add(field=field[:_MOST_VIOLATION], description=text[:most])
        _pack(status, bad)
    return status


# What channels try again (rpc/channels.py).
_RETRIED = frozenset(code.value[0] for code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED))


def to_trailers(status: status_pb2.Status) -> tuple[tuple[str, str | bytes], ...]:
    """Return the trailing metadata that carries a status."""
    details: tuple[tuple[str, str | bytes], ...] = ((DETAILS_KEY, status.SerializeToString()),)
    if status.code in _RETRIED:
        # A handler said so: the channel's own retries are for lost connections.
        details += (("grpc-retry-pushback-ms", "-1"),)
    return details


def from_status(status: status_pb2.Status) -> errors.TrunklineError:
    """Return the domain error that a status stands for."""
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    bad = error_details_pb2.BadRequest()
    after: float | None = None
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            detail.Unpack(retry)
            after = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            detail.Unpack(bad)
    return errors.TABLE.get(code, errors.Unknown).of(
        status.message,
        reason=info.reason or code.name,
        metadata=info.metadata,
        violations=[(v.field, v.description) for v in bad.field_violations],
        retry_after=after,
    )


def from_rpc_error(error: grpc.RpcError) -> errors.TrunklineError:
    """Return the domain error that a failed call stands for; one without details keeps code and message."""
    code = error.code() if hasattr(error, "code") else grpc.StatusCode.UNKNOWN
    text = (error.details() if hasattr(error, "details") else None) or code.name
    return from_status(sent_status(error) or status_pb2.Status(code=code.value[0], message=text))


def sent_status(error: grpc.RpcError) -> status_pb2.Status | None:
    """Return the status that a handler sent along with a failed call, None when the failure is gRPC's own."""
    trailers: Any = error.trailing_metadata() if hasattr(error, "trailing_metadata") else None
    for key, value in trailers or ():
        if key == DETAILS_KEY:
            try:
                status: status_pb2.Status = status_pb2.Status.FromString(value)
            except message.DecodeError:
                return None
            return status if status.code == error.code().value[0] else None
    return None


_CODES = {code.value[0]: code for code in grpc.StatusCode}


def _pack(status: status_pb2.Status, detail: message.Message) -> None:
    """Add a detail unless the answer would become too big to arrive."""
    if status.ByteSize() + detail.ByteSize() < _MOST_BYTES:
        status.details.add().Pack(detail)


def _duration(seconds: float) -> duration_pb2.Duration:
    fraction, whole = math.modf(max(0.0, seconds))
    return duration_pb2.Duration(seconds=int(whole), nanos=int(fraction * 1e9))
