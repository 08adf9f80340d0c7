"""Settings are read once, typed, and every mistake in them is said at once."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path

import pytest
from trunkline_runtime.config import CommonConfig, ConfigError, describe, load, setting

KEY = "ab" * 32


@dataclass(frozen=True, kw_only=True)
class Config(CommonConfig):
    hooks: int = setting(3, "how many", least=1, most=9)
    ratio: float = setting(0.5, "how much")
    fast: bool = setting(False, "whether")
    folder: Path = setting(Path("var"), "where")
    names: tuple[str, ...] = setting(("a",), "who")
    account: str | None = setting(None, "whose")
    pin: str = setting("", "a secret", secret=True)
    needed: str = setting(doc="what must be given")


def env(**values: str) -> dict[str, str]:
    return {
        "TRUNKLINE_TENANT_SUITE_KEY": KEY,
        "TRUNKLINE_TENANT_NEEDED": "x",
        **{f"TRUNKLINE_TENANT_{k}": v for k, v in values.items()},
    }


def test_defaults_stand_where_nothing_is_set() -> None:
    config = load(Config, "tenant", env())
    assert (config.hooks, config.fast, config.folder, config.names, config.account) == (
        3,
        False,
        Path("var"),
        ("a",),
        None,
    )
    assert config.grpc_address == "127.0.0.1:50051"
    assert config.metrics_address == "127.0.0.1:9091"
    assert config.drain_seconds == 8.0


def test_every_type_is_converted() -> None:
    config = load(
        Config,
        "tenant",
        env(
            HOOKS="9",
            RATIO="0.25",
            FAST="yes",
            FOLDER="/srv/x",
            NAMES="a, b,,c",
            ACCOUNT="z",
            LOG_FORMAT="console",
        ),
    )
    assert config.hooks == 9
    assert config.ratio == 0.25
    assert config.fast is True
    assert config.folder == Path("/srv/x")
    assert config.names == ("a", "b", "c")
    assert config.account == "z"
    assert config.log_format == "console"


def test_every_problem_is_said_at_once_with_what_is_allowed() -> None:
    wrong = env(HOOKS="ten", RATIO="nan", FAST="perhaps", LOG_LEVEL="loud", HOOK="3", FOLDER="")
    del wrong["TRUNKLINE_TENANT_NEEDED"], wrong["TRUNKLINE_TENANT_SUITE_KEY"]
    with pytest.raises(ConfigError) as error:
        load(Config, "tenant", wrong)
    assert sorted(error.value.problems) == [
        "TRUNKLINE_TENANT_FAST is 'perhaps', and must be true or false",
        "TRUNKLINE_TENANT_FOLDER is '', and must be a path",
        "TRUNKLINE_TENANT_HOOK is not a setting; did you mean TRUNKLINE_TENANT_HOOKS?",
        "TRUNKLINE_TENANT_HOOKS is 'ten', and must be a whole number",
        "TRUNKLINE_TENANT_LOG_LEVEL is 'loud', and must be one of debug, info, warning, error",
        "TRUNKLINE_TENANT_NEEDED is required: what must be given",
        "TRUNKLINE_TENANT_RATIO is 'nan', and must be a number",
        "TRUNKLINE_TENANT_SUITE_KEY or TRUNKLINE_TENANT_SUITE_KEY_FILE is required: the key that signs tokens between "
        "services: 32 bytes or more as hex or base64url",
    ]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("0", "HOOKS is '0', and must be from 1 to 9"),
        ("1" * 99, "HOOKS is '1{60}...', and must be from 1 to 9"),
    ],
)
def test_bounds_hold(value: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(Config, "tenant", env(HOOKS=value))


def test_settings_of_other_services_do_not_disturb() -> None:
    assert load(Config, "tenant", env() | {"TRUNKLINE_AUDIO_WHATEVER": "1"}).hooks == 3


def test_a_secret_comes_from_a_file_and_stays_out_of_repr(tmp_path: Path) -> None:
    path = tmp_path / "pin"
    path.write_text("s3cr3t-value\n")
    config = load(Config, "tenant", env(PIN_FILE=str(path)))
    assert config.pin == "s3cr3t-value"
    assert "s3cr3t" not in repr(config)
    assert KEY not in repr(config)


def test_a_secret_given_twice_or_from_a_missing_file_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="TRUNKLINE_TENANT_PIN and TRUNKLINE_TENANT_PIN_FILE are both set"):
        load(Config, "tenant", env(PIN="1", PIN_FILE="2"))
    with pytest.raises(ConfigError, match="TRUNKLINE_TENANT_PIN cannot be read from"):
        load(Config, "tenant", env(PIN_FILE=str(tmp_path / "missing")))


def test_a_bad_value_of_a_secret_is_not_shown() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Numbered:
        pin: int = setting(0, "a secret number", secret=True)

    with pytest.raises(ConfigError) as error:
        load(Numbered, "tenant", {"TRUNKLINE_TENANT_PIN": "hunter2"})
    assert "hunter2" not in str(error.value)


def test_only_secrets_have_a_file_form() -> None:
    with pytest.raises(ConfigError, match="TRUNKLINE_TENANT_HOOKS_FILE is not a setting"):
        load(Config, "tenant", env(HOOKS_FILE="x"))


def test_the_config_cannot_be_changed() -> None:
    config = load(Config, "tenant", env())
    with pytest.raises(FrozenInstanceError):
        config.hooks = 4  # type: ignore[misc]


def test_describe_has_one_row_per_setting() -> None:
    text = describe(Config, "tenant")
    assert "| `TRUNKLINE_TENANT_GRPC_ADDRESS` | str | `127.0.0.1:50051` |" in text
    assert "`TRUNKLINE_TENANT_PIN_FILE`" in text
    assert "| `TRUNKLINE_TENANT_NEEDED` | str | required | what must be given |" in text
    assert len(text.splitlines()) == 2 + len(Config.__dataclass_fields__)
