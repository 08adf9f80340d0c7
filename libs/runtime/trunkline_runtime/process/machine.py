"""Faults of the machine that met a call: a full or broken disk, no descriptors left. They pass; callers come again."""

from __future__ import annotations

import errno

from trunkline_runtime.errors import Unavailable
from trunkline_runtime.observe.metrics import counter

FAULTS = counter("trunkline_machine_faults_total", "Calls refused over a fault of the machine.", ["fault"])

_RETRY_SECONDS = 5.0
_FAULTS = {
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
    errno.EROFS: "disk_read_only",
    errno.EIO: "disk_broken",
    errno.EACCES: "no_permission",
    errno.EPERM: "no_permission",
    errno.EMFILE: "no_descriptors",
    errno.ENFILE: "no_descriptors",
}


def unavailable(cause: Exception) -> Unavailable | None:
    """Return what a call is answered that met such a fault, None for any other error. Names no path: that is ours."""
    if not isinstance(cause, OSError) or cause.errno not in _FAULTS:
        return None
    fault = _FAULTS[cause.errno]
    FAULTS.labels(fault).inc()
    told = f"the service cannot read or write its files: {fault.replace('_', ' ')}"
    return Unavailable(told, reason=fault.upper(), retry_after=_RETRY_SECONDS)
