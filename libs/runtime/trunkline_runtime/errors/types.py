"""The domain errors: one class per status code, and the one table of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar, Self

import grpc

DOMAIN = "trunkline"


class TrunklineError(Exception):
    """The base of all domain errors.

    `message` is shown to the caller: no secrets, no content. `reason` is UPPER_SNAKE_CASE and stable, for
    programs, and `metadata` are short facts for them. `violations` are (field, message) pairs. `retry_after`
    is in seconds.
    """

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN
    transient: ClassVar[bool] = False
    """Whether the same call may succeed later without anybody changing anything."""

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        metadata: Mapping[str, str] | None = None,
        violations: Iterable[tuple[str, str]] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.metadata: dict[str, str] = dict(metadata or {})
        self.violations: tuple[tuple[str, str], ...] = tuple(violations)
        self.retry_after = retry_after

    @classmethod
    def of(
        cls,
        message: str,
        *,
        reason: str,
        metadata: Mapping[str, str] | None = None,
        violations: Iterable[tuple[str, str]] = (),
        retry_after: float | None = None,
    ) -> Self:
        """Make one from its parts, whatever the class's own constructor takes."""
        error = cls.__new__(cls)
        TrunklineError.__init__(
            error, message, reason=reason, metadata=metadata, violations=violations, retry_after=retry_after
        )
        return error


class InvalidArgument(TrunklineError):
    """A field of the request is wrong whatever the state of the system: BadRequest names the fields."""

    code = grpc.StatusCode.INVALID_ARGUMENT

    def __init__(self, field: str, message: str, *, reason: str = "INVALID_ARGUMENT") -> None:
        super().__init__(f"{field}: {message}", reason=reason, violations=[(field, message)])

    @classmethod
    def many(
        cls, violations: Iterable[tuple[str, str]], *, reason: str = "INVALID_ARGUMENT"
    ) -> InvalidArgument:
        """Make one that names several fields, as (field, message) pairs."""
        pairs = list(violations)
        return cls.of("; ".join(f"{f}: {m}" if f else m for f, m in pairs), reason=reason, violations=pairs)


class OutOfRange(TrunklineError):
    """An iteration went past the end."""

    code = grpc.StatusCode.OUT_OF_RANGE

    def __init__(
        self, message: str, *, reason: str = "OUT_OF_RANGE", metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)


class NotFound(TrunklineError):
    """There is no such resource, or none that the caller may see: the two look the same."""

    code = grpc.StatusCode.NOT_FOUND

    def __init__(self, resource_name: str, *, reason: str = "NOT_FOUND") -> None:
        super().__init__(
            f"{resource_name} was not found", reason=reason, metadata={"resource": resource_name}
        )


class AlreadyExists(TrunklineError):
    """The resource to create is there."""

    code = grpc.StatusCode.ALREADY_EXISTS

    def __init__(self, name: str, *, reason: str = "ALREADY_EXISTS") -> None:
        super().__init__(f"{name} exists already", reason=reason, metadata={"resource": name})


class FailedPrecondition(TrunklineError):
    """The system is not in the state that the call needs: somebody must change it first."""

    code = grpc.StatusCode.FAILED_PRECONDITION

    def __init__(
        self, message: str, *, reason: str = "FAILED_PRECONDITION", metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)


class Aborted(TrunklineError):
    """A concurrent change came first (etag or fencing token do not fit): read again, then retry."""

    code = grpc.StatusCode.ABORTED

    def __init__(
        self, message: str, *, reason: str = "ABORTED", metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)


class PermissionDenied(TrunklineError):
    """The caller is known and may not do this."""

    code = grpc.StatusCode.PERMISSION_DENIED

    def __init__(
        self, message: str, *, reason: str = "PERMISSION_DENIED", metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)


class Unauthenticated(TrunklineError):
    """The caller showed no credentials, or none that are valid."""

    code = grpc.StatusCode.UNAUTHENTICATED

    def __init__(
        self, message: str, *, reason: str = "UNAUTHENTICATED", metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)


class ResourceExhausted(TrunklineError):
    """A quota or a queue is full; QuotaFailure names it (`subject`), RetryInfo says when to come back."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    transient = True

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        subject: str = "",
        reason: str = "RESOURCE_EXHAUSTED",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        facts = dict(metadata or {})
        if subject:
            facts["subject"] = subject
        super().__init__(message, reason=reason, metadata=facts, retry_after=retry_after)


class Unavailable(TrunklineError):
    """Something that is needed is not there now; `retry_after` seconds later it may be."""

    code = grpc.StatusCode.UNAVAILABLE
    transient = True

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        reason: str = "UNAVAILABLE",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata, retry_after=retry_after)


class DeadlineExceeded(TrunklineError):
    """It took longer than the caller waits."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    transient = True

    def __init__(
        self, message: str, *, reason: str = "DEADLINE_EXCEEDED", metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)


class Cancelled(TrunklineError):
    """The other side gave the call up, as a server does at the end of its drain."""

    code = grpc.StatusCode.CANCELLED
    transient = True

    def __init__(
        self, message: str, *, reason: str = "CANCELLED", metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)


class Unimplemented(TrunklineError):
    """The method or the option is not there."""

    code = grpc.StatusCode.UNIMPLEMENTED

    def __init__(
        self, message: str, *, reason: str = "UNIMPLEMENTED", metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)


class Internal(TrunklineError):
    """A bug. Its message is for the log; the caller is told nothing but that it happened."""

    code = grpc.StatusCode.INTERNAL

    def __init__(
        self,
        message: str = "internal error",
        *,
        reason: str = "INTERNAL",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)


class DataLoss(TrunklineError):
    """What was stored is lost or damaged."""

    code = grpc.StatusCode.DATA_LOSS

    def __init__(
        self, message: str, *, reason: str = "DATA_LOSS", metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)


class Unknown(TrunklineError):
    """The other side said no more than that it failed."""

    code = grpc.StatusCode.UNKNOWN

    def __init__(
        self, message: str, *, reason: str = "UNKNOWN", metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)


TABLE: dict[grpc.StatusCode, type[TrunklineError]] = {
    cls.code: cls
    for cls in (
        Cancelled, Unknown, InvalidArgument, DeadlineExceeded, NotFound, AlreadyExists, PermissionDenied,
        Unauthenticated, ResourceExhausted, FailedPrecondition, Aborted, OutOfRange, Unimplemented, Internal,
        Unavailable, DataLoss,
    )
}  # fmt: skip
"""THE table: one class per status code."""
