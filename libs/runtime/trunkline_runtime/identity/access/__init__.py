"""THE access table: who may call which RPC, and which field of the request says whose data it is.

Each proto package has a file of rules. An RPC that has none is denied to everybody.
"""

from collections.abc import Mapping

from trunkline_runtime.identity.access import ai, audio, edge, gateway, operations, tenant
from trunkline_runtime.identity.access.rules import ANY_SERVICE, GATEWAY, OPEN_PREFIXES, Rule

__all__ = ["ANY_SERVICE", "GATEWAY", "OPEN_PREFIXES", "TABLE", "Rule"]

TABLE: Mapping[str, Rule] = {
    **tenant.RULES,
    **audio.RULES,
    **ai.RULES,
    **gateway.RULES,
    **operations.RULES,
    **edge.RULES,
}
