"""Resource names of this service and the ids that are derived."""

from __future__ import annotations

import base64
import hashlib

from trunkline_runtime import resources

TENANT = "tenants/{tenant}"
CALL = "tenants/{tenant}/calls/{call}"
ANALYSIS = "tenants/{tenant}/analyses/{analysis}"


def call_name(tenant: str, call: str) -> str:
    """The name of a call."""
    return resources.format(CALL, tenant=tenant, call=call)


def analysis_name(tenant: str, analysis: str) -> str:
    """The name of an analysis."""
    return resources.format(ANALYSIS, tenant=tenant, analysis=analysis)


def digest(*parts: str) -> bytes:
    """A SHA-256 that the same parts always give; no two lists of parts share one by joining."""
    running = hashlib.sha256()
    for part in parts:
        data = part.encode()
        running.update(len(data).to_bytes(4, "big") + data)
    return running.digest()


def analysis_id(call: str, input_digest: bytes, generation: int) -> str:
    """The id of a call's analysis: the same input and generation give the same id."""
    derived = digest(call, input_digest.hex(), str(generation))
    return base64.b32encode(derived[:20]).decode("ascii").lower()
