"""Durable storage for Trunkline's services: one async face over SQLite and Cloud Spanner."""

from trunkline_store.appender import Appender
from trunkline_store.clock import Clock, FakeClock, SystemClock
from trunkline_store.database import Database, Pressure
from trunkline_store.errors import (
    MAY_PASS,
    NEVER_PASS,
    Conflict,
    InvalidValue,
    SchemaMismatch,
    StoreBusy,
    StoreClosed,
    StoreDamaged,
    StoreError,
    StoreLocked,
    StoreUnavailable,
    StoreUnsupported,
)
from trunkline_store.inserts import BulkInsert, insert_appended, insert_if_absent
from trunkline_store.types import Bool, Bytes, Json, Text, UtcTimestamp

__all__ = [
    "MAY_PASS",
    "NEVER_PASS",
    "Appender",
    "Bool",
    "BulkInsert",
    "Bytes",
    "Clock",
    "Conflict",
    "Database",
    "FakeClock",
    "InvalidValue",
    "Json",
    "Pressure",
    "SchemaMismatch",
    "StoreBusy",
    "StoreClosed",
    "StoreDamaged",
    "StoreError",
    "StoreLocked",
    "StoreUnavailable",
    "StoreUnsupported",
    "SystemClock",
    "Text",
    "UtcTimestamp",
    "insert_appended",
    "insert_if_absent",
]
