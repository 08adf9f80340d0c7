"""What can go wrong in the store, told without naming a driver.

Every error carries `reason` (a stable word for logs and ErrorInfo), `code` (the name of the gRPC status it
stands for) and `transient` (True: the same call may succeed later, unchanged).
"""

from __future__ import annotations

from typing import ClassVar


class StoreError(Exception):
    """The base of all errors of the store; raised itself for faults of our own (bad SQL, misuse)."""

    reason: ClassVar[str] = "STORE_ERROR"
    code: ClassVar[str] = "INTERNAL"
    transient: ClassVar[bool] = False


class StoreBusy(StoreError):
    """The bounded queue before the writer is full: nothing was written, try again later."""

    reason = "STORE_BUSY"
    code = "RESOURCE_EXHAUSTED"
    transient = True


class StoreUnavailable(StoreError):
    """The store cannot write or read now (disk full, I/O error, locked by a stranger, server gone).

    Whether a write that ended so was kept is unknown after an I/O error; repeat it under the same key.
    """

    reason = "STORE_UNAVAILABLE"
    code = "UNAVAILABLE"
    transient = True


class StoreClosed(StoreUnavailable):
    """The database was closed, or is closing: it takes no further work."""

    reason = "STORE_CLOSED"


class StoreLocked(StoreError):
    """Another process (or another Database of this one) holds this file."""

    reason = "STORE_LOCKED"
    code = "FAILED_PRECONDITION"


class StoreDamaged(StoreError):
    """The file is not a database or fails its own checks; set it aside and restore."""

    reason = "STORE_DAMAGED"
    code = "DATA_LOSS"


class StoreUnsupported(StoreError):
    """This engine, URL or option is not there."""

    reason = "STORE_UNSUPPORTED"
    code = "UNIMPLEMENTED"


class SchemaMismatch(StoreError):
    """The stored schema's revision is not one that this code knows."""

    reason = "SCHEMA_MISMATCH"
    code = "FAILED_PRECONDITION"


MAY_PASS: tuple[type[StoreError], ...] = (SchemaMismatch, StoreUnavailable)
"""What Database.open raises that can pass without a restart: somebody migrates, a server comes back."""

NEVER_PASS: tuple[type[StoreError], ...] = (StoreLocked, StoreDamaged, StoreUnsupported)
"""What Database.open raises until somebody changes a setting, stops a process, or restores a file."""


class Conflict(StoreError):
    """A row with this key is there already (primary key or unique index)."""

    reason = "CONFLICT"
    code = "ALREADY_EXISTS"


class InvalidValue(StoreError):
    """A value does not fit its column: wrong type, missing, out of range, a lone surrogate, a NUL."""

    reason = "INVALID_VALUE"
    code = "INVALID_ARGUMENT"
