"""The file of prices: what it may say, which price applies on a day, and what is told of a model without one."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from trunkline_runtime.config import ConfigError
from trunkline_runtime.engines.prices import PRICES, SHIPPED, load_prices, priced, read_prices

TODAY = date(2026, 11, 30)
FIELDS = {"input_price_micros": "input_micros", "output_price_micros": "output_micros"}
OWN = """
[[price]]
model = "m"
since = 2026-01-01
input = 0.30
output = 2.5

[[price]]
model = "m"
since = 2026-12-01
input = 1
"""


@dataclass(frozen=True)
class Settings:
    input_price_micros: int = -1
    output_price_micros: int = -1


def test_the_latest_price_that_has_begun_applies():
    table = read_prices(OWN)
    assert table.of("m", date(2025, 12, 31)) is None
    assert table.of("m", TODAY).input_micros == 300_000
    after = table.of("m", date(2026, 12, 1))
    assert (after.input_micros, after.output_micros) == (1_000_000, 0)
    assert table.of("other", TODAY) is None


def test_the_table_sets_the_prices_that_are_not_set():
    table = read_prices(OWN)
    assert priced(Settings(), table, "m", FIELDS, TODAY) == Settings(300_000, 2_500_000)
    assert priced(Settings(output_price_micros=7), table, "m", FIELDS, TODAY) == Settings(300_000, 7)
    assert priced(Settings(0, 0), table, "none", FIELDS, TODAY) == Settings(0, 0)


def test_a_model_without_a_price_is_told_of():
    assert priced(Settings(), read_prices(OWN), "unheard-of", FIELDS, TODAY) == Settings()
    assert REGISTRY.get_sample_value("trunkline_model_unpriced", {"model": "unheard-of"}) == 1


def test_the_prices_that_ship_have_every_default_model():
    table = load_prices(None)
    assert table.of("gemini-2.5-flash", TODAY).output_micros == 2_500_000
    assert table.of("gpt-4.1-mini", TODAY).input_micros == 400_000
    chirp = table.of("chirp_3", TODAY)
    assert (chirp.minute_micros, chirp.dynamic_minute_micros) == (16_000, 3_000)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[price]", "must be TOML"),
        ("price = 1", "must have [[price]] tables"),
        ("price = [1]", "must have [[price]] tables"),
        ("[prices]", "must have [[price]] tables"),
        ("[[price]]\nsince = 2026-01-01", "the name of a model (price 1)"),
        ('[[price]]\nmodel = "m"', "a day such as"),
        ('[[price]]\nmodel = "m"\nsince = 2026-01-01T00:00:00', "a day such as"),
        ('[[price]]\nmodel = "m"\nsince = 2026-01-01\ncost = 1', "must not have 'cost'"),
        ('[[price]]\nmodel = "m"\nsince = 2026-01-01\ninput = "1"', "a number as `input`"),
        ('[[price]]\nmodel = "m"\nsince = 2026-01-01\ninput = true', "a number as `input`"),
        ('[[price]]\nmodel = "m"\nsince = 2026-01-01\ninput = -1', "0 to 1000 US dollars"),
        ('[[price]]\nmodel = "m"\nsince = 2026-01-01\ninput = nan', "0 to 1000 US dollars"),
        ('[[price]]\nmodel = "m"\nsince = 2026-01-01\ninput = 1e999999999', "0 to 1000 US dollars"),
        ('[[price]]\nmodel = "m"\nsince = 2026-01-01\ninput = 0.0000001', "at most six decimals"),
        (OWN + '[[price]]\nmodel = "m"\nsince = 2026-01-01', "one price of a model and a day"),
    ],
)
def test_what_a_file_may_not_say(text, told):
    with pytest.raises(ValueError, match="must") as error:
        read_prices(text)
    assert told in str(error.value)


def test_a_file_that_is_not_there_is_refused_by_the_setting_and_at_start(tmp_path):
    missing = tmp_path / "prices.toml"
    with pytest.raises(ConfigError, match="must be a file that can be read"):
        load_prices(missing)
    with pytest.raises(ValueError, match="must be a file that can be read"):
        PRICES.look(missing, False)
    PRICES.look(None, True)
    PRICES.look(Path(SHIPPED), False)
