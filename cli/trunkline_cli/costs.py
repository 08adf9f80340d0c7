"""What engines cost a tenant, or each tenant, by month."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from trunkline_cli.api import Api
from trunkline_cli.screen import Misuse

_KINDS = {"ai": "analyses", "audio": "transcripts"}
_COLUMNS = ("answers", "no price", "sound, s", "tokens read", "tokens written", "US dollars")
# Of a pipe or a file, which has no width of its own.
_WIDTH = 140
Row = tuple[str, ...]


def months(last: str, count: int, now: datetime | None = None) -> list[str]:
    """Return so many months, the last of them named or the current one (UTC). Raises Misuse."""
    now = now or datetime.now(UTC)
    try:
        at = datetime.strptime(last, "%Y-%m").replace(tzinfo=UTC) if last else now
    except ValueError:
        raise Misuse(f"{last!r} is not a month such as {now:%Y-%m}") from None
    counted = [at.year * 12 + at.month - 1 - back for back in range(count)]
    return [f"{number // 12:04}-{number % 12 + 1:02}" for number in reversed(counted)]


def of_tenant(api: Api, tenant: str, wanted: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Return a tenant's Costs (as JSON) of each month. Raises Failure."""
    for month in wanted:
        yield api.get(f"tenants/{tenant}/costs", month=month)


def of_all(api: Api, wanted: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Return the Costs (as JSON) of each tenant that cost something, month by month. Raises Failure."""
    for month in wanted:
        yield from api.pages("costs", "costs", month=month, pageSize=500)


def show(found: list[dict[str, Any]], tenant: str | None) -> None:
    """Print a table: of a tenant by month, kind, and engine; of all tenants by month and tenant."""
    from rich.console import Console  # noqa: PLC0415 -- a tenth of a second, which --help would wait for
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    named = ("month", "kind", "engine") if tenant else ("month", "tenant")
    for name in named:
        table.add_column(name, overflow="fold")
    for name in (*_COLUMNS, *(() if tenant else ("budget",))):
        table.add_column(name, justify="right", no_wrap=True)
    for row in (row for costs in found for row in (_by_engine(costs) if tenant else [_in_all(costs)])):
        table.add_row(*row)
    if len(found) > 1 or tenant:
        total = ("all", *("",) * (len(named) - 1), *_sums(_total(found)), *(() if tenant else ("",)))
        table.add_row(*total, style="bold")
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _WIDTH
    console.print(table)
    for costs in found if tenant else ():
        if told := _budget(costs):
            console.print(f"{costs['month']}: {told}")


def _by_engine(costs: dict[str, Any]) -> list[Row]:
    return [
        (costs["month"], _KINDS.get(one["service"], one["service"]), one["engine"], *_sums(one))
        for one in costs.get("engines", [])
    ]


def _in_all(costs: dict[str, Any]) -> Row:
    percent = costs.get("budgetPercent", 0) if "budget" in costs else None
    budget = "" if percent is None else f"{percent}%"
    return (costs["month"], costs["name"].split("/")[1], *_sums(costs), budget)


def _total(found: list[dict[str, Any]]) -> dict[str, Any]:
    usage = [costs.get("usage", {}) for costs in found]
    return {
        "answerCount": sum(int(costs.get("answerCount", 0)) for costs in found),
        "unpricedCount": sum(int(costs.get("unpricedCount", 0)) for costs in found),
        "usage": {
            "audioDuration": f"{sum(_seconds(one) for one in usage)}s",
            **{
                name: sum(int(one.get(name, 0)) for one in usage)
                for name in ("inputTokens", "outputTokens", "costMicros")
            },
        },
    }


def _sums(told: dict[str, Any]) -> Row:
    """Return the cells of _COLUMNS."""
    usage = told.get("usage", {})
    return (
        f"{int(told.get('answerCount', 0)):,}",
        f"{int(told.get('unpricedCount', 0)):,}",
        f"{_seconds(usage):,.0f}",
        f"{int(usage.get('inputTokens', 0)):,}",
        f"{int(usage.get('outputTokens', 0)):,}",
        dollars(int(usage.get("costMicros", 0))),
    )


def _seconds(usage: dict[str, Any]) -> float:
    return float(usage.get("audioDuration", "0s").removesuffix("s"))


def _budget(costs: dict[str, Any]) -> str:
    if "budget" not in costs:
        return ""
    amount = dollars(int(costs["budget"]["monthlyMicros"]))
    state = str(costs.get("budgetState", "")).removeprefix("BUDGET_STATE_").lower()
    return f"{costs.get('budgetPercent', 0)}% of the budget of {amount} US dollars ({state})"


def dollars(micros: int) -> str:
    """Return an amount in US dollars, with the four digits that one analysis needs."""
    return f"{micros / 1_000_000:,.4f}"
