"""What models cost: the file of prices that the suite brings, or one of the operator's own."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from trunkline_runtime.config import ConfigError
from trunkline_runtime.forms import Form
from trunkline_runtime.observe import logs, metrics

log = logs.get_logger(__name__)

_unpriced = metrics.gauge("trunkline_model_unpriced", "1 for a model in use that has no price", ["model"])

SHIPPED = Path(__file__).with_name("prices.toml")
_AMOUNTS = {
    "input": "input_micros",
    "output": "output_micros",
    "minute": "minute_micros",
    "dynamic_minute": "dynamic_minute_micros",
}
_MOST_BYTES = 1_000_000
_MOST_DOLLARS = 1_000
S = TypeVar("S")


@dataclass(frozen=True)
class Price:
    """What a model costs from a day on; amounts are millionths of a US dollar."""

    model: str
    since: date
    input_micros: int = 0
    """For a million tokens that are read."""
    output_micros: int = 0
    """For a million tokens that are written."""
    minute_micros: int = 0
    """For a minute of sound."""
    dynamic_minute_micros: int = 0
    """For a minute of sound that the provider transcribes in its own time."""


class PriceTable:
    """The prices of models, each from its day on."""

    def __init__(self, prices: Iterable[Price]) -> None:
        self._prices = sorted(prices, key=lambda price: price.since)

    def of(self, model: str, day: date) -> Price | None:
        """Return the price of a model on a day, None if it has none."""
        begun = [price for price in self._prices if price.model == model and price.since <= day]
        return begun[-1] if begun else None


def read_prices(text: str) -> PriceTable:
    """Read a file of prices. Raises ValueError that says what is wrong where."""
    try:
        content = tomllib.loads(text, parse_float=Decimal)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"must be TOML: {error}") from None
    entries = content.pop("price", [])
    if content or not isinstance(entries, list):
        raise ValueError("must have [[price]] tables and nothing else")
    prices = [_price(number, entry) for number, entry in enumerate(entries, 1)]
    if len({(price.model, price.since) for price in prices}) < len(prices):
        raise ValueError("must have one price of a model and a day")
    return PriceTable(prices)


def load_prices(path: Path | None) -> PriceTable:
    """Read the prices of a file, None for those that the suite brings. Raises ConfigError."""
    try:
        return read_prices(_text(path or SHIPPED))
    except ValueError as error:
        raise ConfigError(f"the prices in {path or SHIPPED} {error}") from None


def priced(
    settings: S, table: PriceTable, model: str, fields: Mapping[str, str], today: date | None = None
) -> S:
    """Return an engine's settings with the prices that are not set (below 0) taken from the table.

    `fields` are the settings by the attributes of Price. They stay below 0 for a model that has no price: it counts
    as 0, and a log line and a metric say so.
    """
    unset = [name for name in fields if getattr(settings, name) < 0]
    if not unset:
        return settings
    price = table.of(model, today or datetime.now(UTC).date())
    if price is None:
        log.warning("model_unpriced", model=model)
        _unpriced.labels(model).set(1)
        return settings
    with_prices: Any = dataclasses.replace(
        settings,  # type: ignore[type-var]
        **{name: getattr(price, fields[name]) for name in unset},
    )
    return with_prices  # type: ignore[no-any-return]


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"must be a file that can be read: {error.strerror}") from None
    if len(content) > _MOST_BYTES:
        raise ValueError("must be a file of 1 MB at most")
    return content.decode("utf-8", "replace")


def _price(number: int, entry: Any) -> Price:
    where = f"price {number}"
    if not isinstance(entry, dict):
        raise ValueError(f"must have [[price]] tables and nothing else; {where} is none")
    if unknown := sorted(entry.keys() - {"model", "since", *_AMOUNTS}):
        raise ValueError(f"must not have {unknown[0]!r} ({where})")
    model, since = entry.get("model"), entry.get("since")
    if not isinstance(model, str) or not 0 < len(model) <= 200:
        raise ValueError(f"must have the name of a model ({where})")
    if not isinstance(since, date) or isinstance(since, datetime):
        raise ValueError(f"must have a day such as 2026-11-01 as `since` ({where}, {model})")
    amounts = {_AMOUNTS[name]: _micros(entry[name], name, where) for name in _AMOUNTS if name in entry}
    return Price(model, since, **amounts)


def _micros(amount: Any, name: str, where: str) -> int:
    if isinstance(amount, bool) or not isinstance(amount, int | Decimal):
        raise ValueError(f"must have a number as `{name}` ({where})")
    dollars = Decimal(amount)
    fits = dollars.is_finite() and 0 <= dollars <= _MOST_DOLLARS
    micros = dollars * 1_000_000 if fits else Decimal(0)
    if not fits or micros != micros.to_integral_value():
        told = f"0 to {_MOST_DOLLARS} US dollars with at most six decimals"
        raise ValueError(f"must have {told} as `{name}` ({where})")
    return int(micros)


def _look(path: Path | None, _default: bool) -> None:
    if path is not None:
        read_prices(_text(path))


PRICES = Form("a TOML file with prices, or empty", lambda _path: None, _look)
"""The form of a setting that names a file of prices."""
