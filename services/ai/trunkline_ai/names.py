"""Resource names of this service and the ids that are derived."""

from __future__ import annotations

from trunkline_runtime.api import resources
from trunkline_runtime.digests import digest, letters

SERVICE = "ai"
"""The service's own name, in the names of its settings too."""

TENANT = "tenants/{tenant}"
CALL = "tenants/{tenant}/calls/{call}"
ANALYSIS = "tenants/{tenant}/analyses/{analysis}"


def call_name(tenant: str, call: str) -> str:
    """The name of a call."""
    return resources.format(CALL, tenant=tenant, call=call)


def analysis_name(tenant: str, analysis: str) -> str:
    """The name of an analysis."""
    return resources.format(ANALYSIS, tenant=tenant, analysis=analysis)


def analysis_id(call: str, input_digest: bytes, generation: int) -> str:
    """The id of a call's analysis: the same input and generation give the same id."""
    return letters(digest(call, input_digest.hex(), str(generation)), 32)
