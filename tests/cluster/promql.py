"""As much of PromQL as the adapter's rules use, over what /metrics of the services' own registry shows."""

from __future__ import annotations

import re
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]
_TERM = re.compile(r"(max|sum)\((rate\()?(\w+)\{(.*?)\}(?:\[(\d+)m\]\))?\)")
_MATCHER = re.compile(r'(\w+)(=~|=)"([^"]*)"')


def series(text: str) -> Series:
    """Return the samples of a /metrics page."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[(sample.name, frozenset(sample.labels.items()))] = sample.value
    return found


def evaluate(query: str, matchers: Mapping[str, str], now: Series, before: Series, seconds: float) -> float:
    """Return a rule's value: `before` is what was `seconds` ago, for rates. Raises ValueError for other PromQL."""
    rest = _TERM.sub("", query).replace("+", "").strip()
    if rest:
        raise ValueError(query)
    total = 0.0
    for how, rated, name, selector, _ in _TERM.findall(query):
        wanted = _MATCHER.findall(selector.replace("<<.LabelMatchers>>", ""))
        wanted += [(label, "=", value) for label, value in matchers.items()]
        values = []
        for key, value in now.items():
            if key[0] == name and _matches(dict(key[1]), wanted):
                values.append((value - before.get(key, 0.0)) / seconds if rated else value)
        if values:
            total += max(values) if how == "max" else sum(values)
    return total


def _matches(labels: dict[str, str], wanted: list[tuple[str, str, str]]) -> bool:
    return all(
        re.fullmatch(value, labels.get(label, "")) if how == "=~" else labels.get(label, "") == value
        for label, how, value in wanted
    )
