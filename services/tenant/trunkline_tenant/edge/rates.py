"""The limits of requests: how many an hour an address, a user and a tenant may make, by route, and who has which.

A file of JSON changes them while the service runs, for all routes or for one:

    {"tenant": 20000, "throttle": 0.5, "routes": {"api": {"address": 200, "throttle": 0.1}}}

`address`, `user` and `tenant` are requests an hour, 0 for no limit. `throttle` is the emergency brake: every limit is
multiplied by it, a route's by both, and 0 refuses everything that has a limit, or would have one.
"""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from cachetools import TTLCache
from trunkline.tenant.v1 import tenant_pb2
from trunkline_runtime.identity.access.rules import COUNTED_ROUTES
from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.observe.metrics import counter
from trunkline_store import Database

from trunkline_tenant.edge.settings import RateSettings
from trunkline_tenant.edge.windows import Count, Windows
from trunkline_tenant.schema import tenants

log = get_logger(__name__)

ADDRESS, USER, TENANT = "address", "user", "tenant"
KINDS = (ADDRESS, USER, TENANT)
MOST_KEY = 200
"""Characters of a key; what is longer is cut."""
_LOOK_SECONDS = 1.0
_WARM_AFTER_SECONDS = 2.0
_PLAN_SECONDS = 10.0
_MOST_PLANS = 10_000
# Times a STANDARD tenant's limit.
_BY_PLAN = {tenant_pb2.PLAN_TRIAL: 0.2, tenant_pb2.PLAN_LARGE: 10.0}
_PLANS = {
    "trial": tenant_pb2.PLAN_TRIAL,
    "standard": tenant_pb2.PLAN_STANDARD,
    "large": tenant_pb2.PLAN_LARGE,
}
_PLAN_NAMES: dict[int, str] = {int(number): name for name, number in _PLANS.items()}
# Of a lease, as a part of the limit: what a gateway takes at once, so that it need not ask for each request.
_LEASE = 100


@dataclass(frozen=True, slots=True)
class Measure:
    """What one route allows an hour; 0 is no limit."""

    address: int
    user: int
    tenant: int
    throttle: float = 1.0

    def but(self, told: Mapping[str, Any]) -> Self:
        """Return the measure with what a file tells. Raises ValueError."""
        numbers = {name: told[name] for name in (*KINDS, "throttle") if name in told}
        wrong = [name for name, value in numbers.items() if not _is_amount(value, whole=name != "throttle")]
        if wrong or (unknown := set(told) - set(numbers) - {"routes"}):
            raise ValueError(f"not a limit: {', '.join(wrong or sorted(unknown))}")
        if "throttle" in numbers:
            numbers["throttle"] *= self.throttle
        return replace(self, **numbers)

    def of(self, kind: str, plan: int) -> int | None:
        """Return the limit of a kind, None for none."""
        amount = {ADDRESS: self.address, USER: self.user, TENANT: self.tenant}[kind]
        if kind == TENANT:
            amount = int(amount * _BY_PLAN.get(tenant_pb2.Plan.ValueType(plan), 1.0))
        if not amount:
            return 0 if self.throttle == 0 else None
        return int(amount * self.throttle) if self.throttle == 0 else max(1, int(amount * self.throttle))


class Measures:
    """The measure of every route, as the settings and the file say. The file is read again when it changes."""

    def __init__(
        self, usual: Measure, file: Path | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._usual = usual
        self._file = file
        self._clock = clock
        self._seen: tuple[int, ...] = ()
        self._look_at = float("-inf")
        self._all = usual
        self._routes: dict[str, Measure] = {}

    def of(self, route: str) -> Measure:
        """Return what a route allows."""
        if self._file is not None and self._clock() >= self._look_at:
            self._look_at = self._clock() + _LOOK_SECONDS
            self._look(self._file)
        return self._routes.get(route, self._all)

    def _look(self, file: Path) -> None:
        try:
            stat = file.stat()
            seen = (stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size)
            if seen == self._seen:
                return
            self._seen = seen
            told = json.loads(file.read_text(encoding="utf-8"))
            usual = self._usual.but(told)
            routes = {name: usual.but(one) for name, one in told.get("routes", {}).items()}
            if unknown := sorted(set(routes) - set(COUNTED_ROUTES)):
                raise ValueError(
                    f"there is no route {', '.join(unknown)}; there are {', '.join(COUNTED_ROUTES)}"
                )
        except FileNotFoundError:
            usual, routes, self._seen = self._usual, {}, ()
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            # What was told before stays: a slip of the pen must not lift a brake.
            log.error("rates_unreadable", path=str(file), error=str(error))
            return
        if (usual, routes) != (self._all, self._routes):
            log.info("rates_read", path=str(file), throttle=usual.throttle, routes=sorted(routes))
        self._all, self._routes = usual, routes


class EdgeRates:
    """Takes requests from the limits."""

    def __init__(self, db: Database, measures: Measures, windows: Windows) -> None:
        self._db = db
        self._measures = measures
        self._windows = windows
        self._plans: TTLCache[str, int] = TTLCache(_MOST_PLANS, _PLAN_SECONDS)
        self._taken = counter(
            "trunkline_rates_total", "Requests that were counted against a limit", ["kind", "verdict"]
        )

    @classmethod
    def of(cls, db: Database, settings: RateSettings) -> Self:
        """Make them as the settings say."""
        usual = Measure(
            settings.rate_address_per_hour, settings.rate_user_per_hour, settings.rate_tenant_per_hour
        )
        return cls(db, Measures(usual, settings.rates_file), Windows(settings.rates_redis or None))

    async def take(
        self,
        kind: str,
        key: str,
        route: str,
        *,
        wanted: int = 1,
        lease: bool = False,
        plan: int | None = None,
    ) -> Count | None:
        """Take `wanted` requests of an address, a user (`tenant/user`) or a tenant; None where nothing limits them.

        With `lease`, at least one, and at most what a caller may hold in advance.
        """
        measure = self._measures.of(route)
        if kind == TENANT and plan is None:
            plan = await self._plan(key)
        limit = measure.of(kind, plan or 0)
        if limit is None:
            return None
        key = network(key) if kind == ADDRESS else key[:MOST_KEY]
        if lease:
            wanted = max(1, limit // _LEASE)
        count = await self._windows.take(f"{route}/{kind}", key, limit, wanted, least=1 if lease else wanted)
        self._taken.labels(kind, "ok" if count.granted else "over").inc()
        return count

    async def warm(self, sleep: Callable[[float], Awaitable[object]]) -> None:
        """Make ready for the first request, once the service's own start is over."""
        await sleep(_WARM_AFTER_SECONDS)
        await self._windows.warm()

    async def close(self) -> None:
        """Let go of Redis."""
        await self._windows.close()

    async def plan_name(self, tenant: str) -> str:
        """Return the plan of a tenant as descriptors name it."""
        return _PLAN_NAMES.get(await self._plan(tenant), "standard")

    async def _plan(self, tenant: str) -> int:
        known = self._plans.get(tenant)
        if known is None:
            query = sa.select(tenants.c.plan).where(tenants.c.tenant_id == tenant[:MOST_KEY])
            known = await self._db.read(lambda conn: conn.execute(query).scalar()) or tenant_pb2.PLAN_STANDARD
            self._plans[tenant] = known
        return known


def plan_of(name: str) -> int | None:
    """Return the plan that a descriptor names, None when it names none."""
    return _PLANS.get(name)


def network(address: str) -> str:
    """Return what one sender has: an IPv4 address, or the /64 that every IPv6 host has to itself."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:MOST_KEY]
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))


def _is_amount(value: object, *, whole: bool) -> bool:
    kinds: tuple[type, ...] = (int,) if whole else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and 0 <= value <= 10**9  # type: ignore[operator]
