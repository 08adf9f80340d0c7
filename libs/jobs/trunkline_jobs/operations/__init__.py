"""Long-running operations of one service, kept in its own store and worked on through its own queue."""

from trunkline_jobs.operations.model import Operation, OperationState
from trunkline_jobs.operations.rows import Beside, Operations
from trunkline_jobs.operations.runner import OperationKind, OperationRunner, Work
from trunkline_jobs.operations.service import OperationsServicer
from trunkline_jobs.operations.table import create_operations_v1, operations_table

__all__ = [
    "Beside",
    "Operation",
    "OperationKind",
    "OperationRunner",
    "OperationState",
    "Operations",
    "OperationsServicer",
    "Work",
    "create_operations_v1",
    "operations_table",
]
