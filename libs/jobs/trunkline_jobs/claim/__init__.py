"""The fair claim: class by class, tenant by tenant in turns, one job a turn.

Tenants are found by a skip-scan of the index (class, shard, tenant, visible_at): a step per tenant, whatever
the number of jobs behind it, so a flood of one costs the others nothing.
"""

from trunkline_jobs.claim.asked import NO_BOUNDS, Asked, Load, Room, Tries
from trunkline_jobs.claim.claims import Claims

__all__ = ["NO_BOUNDS", "Asked", "Claims", "Load", "Room", "Tries"]
