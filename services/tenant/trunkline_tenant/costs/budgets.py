"""Budgets: how a month's cost compares with what a tenant is to spend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trunkline.tenant.v1 import cost_pb2

_WARN_PERCENT = 80
_STATES = {
    cost_pb2.BUDGET_STATE_NEAR: "near",
    cost_pb2.BUDGET_STATE_SPENT: "spent",
}


def budget_of(row: Mapping[Any, Any]) -> cost_pb2.Budget:
    """Return the budget of a tenant's row; an empty one if it has none."""
    return cost_pb2.Budget.FromString(row["budget"] or b"")


def state_of(budget: cost_pb2.Budget, cost_micros: int) -> cost_pb2.BudgetState.ValueType:
    """Return how a cost compares with a budget."""
    if not budget.monthly_micros:
        return cost_pb2.BUDGET_STATE_UNSPECIFIED
    if cost_micros >= budget.monthly_micros:
        return cost_pb2.BUDGET_STATE_SPENT
    if cost_micros * 100 >= budget.monthly_micros * (budget.warn_percent or _WARN_PERCENT):
        return cost_pb2.BUDGET_STATE_NEAR
    return cost_pb2.BUDGET_STATE_WITHIN


def percent_of(budget: cost_pb2.Budget, cost_micros: int) -> int:
    """Return a cost in percent of a budget, at most what the message holds."""
    return min(cost_micros * 100 // budget.monthly_micros, 2**31 - 1) if budget.monthly_micros else 0


def mark_passed(budget: cost_pb2.Budget, before: int, after: int) -> str:
    """Return the mark that a cost has passed, `near` or `spent`; empty if it has passed none."""
    was, now = state_of(budget, before), state_of(budget, after)
    return _STATES.get(now, "") if now > was else ""
