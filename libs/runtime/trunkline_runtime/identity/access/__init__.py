"""Who may call which RPC, and which field of the request says whose data it is."""

from trunkline_runtime.identity.access.rules import ANY_SERVICE, GATEWAY, OPEN_PREFIXES, TABLE, Rule

__all__ = ["ANY_SERVICE", "GATEWAY", "OPEN_PREFIXES", "TABLE", "Rule"]
