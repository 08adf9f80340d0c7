"""Settings are read once, typed, and every mistake in them is said at once."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path

import pytest
from trunkline_runtime import forms
from trunkline_runtime.config import CommonConfig, ConfigError, describe, load, setting
from trunkline_runtime.identity.authority import Authority
from trunkline_runtime.testing import KEY_FOLDER


@dataclass(frozen=True, kw_only=True)
class Config(CommonConfig):
    hooks: int = setting(3, "how many", least=1, most=9)
    ratio: float = setting(0.5, "how much")
    fast: bool = setting(False, "whether")
    folder: Path = setting(Path("var"), "where", form=forms.FOLDER)
    names: tuple[str, ...] = setting(("a",), "who")
    account: str | None = setting(None, "whose")
    pin: str = setting("", "a secret", secret=True)
    needed: str = setting(doc="what must be given")


def env(**values: str) -> dict[str, str]:
    return {
        "TRUNKLINE_TENANT_KEYS": str(KEY_FOLDER),
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
    del wrong["TRUNKLINE_TENANT_NEEDED"]
    with pytest.raises(ConfigError) as error:
        load(Config, "tenant", wrong)
    assert sorted(error.value.problems) == [
        "TRUNKLINE_TENANT_FAST must be true or false; it is 'perhaps'",
        "TRUNKLINE_TENANT_FOLDER must be a path; it is ''",
        "TRUNKLINE_TENANT_HOOK is not a setting; did you mean TRUNKLINE_TENANT_HOOKS?",
        "TRUNKLINE_TENANT_HOOKS must be a whole number; it is 'ten'",
        "TRUNKLINE_TENANT_LOG_LEVEL must be one of debug, info, warning, error; it is 'loud'",
        "TRUNKLINE_TENANT_NEEDED is required: what must be given",
        "TRUNKLINE_TENANT_RATIO must be a number; it is 'nan'",
    ]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("0", "HOOKS must be 1 to 9; it is '0'"),
        ("1" * 300, "HOOKS must be 1 to 9; it is '1{200}'"),
    ],
)
def test_bounds_hold(value: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(Config, "tenant", env(HOOKS=value))


@pytest.mark.parametrize("text", ["/srv/x\r", " /srv/x", "'/srv/x'", '"/srv/x"', "/srv/\nx", "/srv/x\x00"])
def test_what_a_file_of_settings_leaves_around_a_value_is_no_part_of_it(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(Config, "tenant", env(FOLDER=text))
    said = "must not have quotes or spaces around it, or line breaks"
    assert error.value.problems == [f"TRUNKLINE_TENANT_FOLDER {said}; it is {text!r}"]


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("GRPC_ADDRESS", "0.0.0.0:50051"),
        ("GRPC_ADDRESS", "[::]:50051"),
        ("TENANT_ADDRESS", "dns:///tenant:50051"),
        ("TENANT_ADDRESS", "dns://10.0.0.10:53/tenant:50051"),
        ("TENANT_ADDRESS", "10.1.2.3:50051"),
    ],
)
def test_plaintext_beyond_loopback_is_refused_unless_a_setting_says_so(
    tmp_path: Path, name: str, address: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        load(Config, "tenant", env(**{name: address}))
    assert raised.value.problems == [
        f"TRUNKLINE_TENANT_{name} must be on loopback, unless TRUNKLINE_TENANT_TLS_FOLDER is set, or "
        f"TRUNKLINE_TENANT_PLAINTEXT is true; it is {address!r}"
    ]
    assert load(Config, "tenant", env(**{name: address, "PLAINTEXT": "true"})).plaintext
    folder = Authority(tmp_path).issue("tenant")
    assert load(Config, "tenant", env(**{name: address, "TLS_FOLDER": str(folder)})).tls_folder == folder


@pytest.mark.parametrize("address", ["localhost:1", "127.9.9.9:1", "[::1]:1", "dns:///localhost:1"])
def test_loopback_may_be_plaintext(address: str) -> None:
    assert load(Config, "tenant", env(TENANT_ADDRESS=address)).tenant_address == address


def test_health_and_metrics_may_be_plaintext_anywhere() -> None:
    load(Config, "tenant", env(PROBE_ADDRESS="0.0.0.0:50061", METRICS_ADDRESS="0.0.0.0:9091"))


def test_a_folder_without_a_certificate_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "tls.crt").touch()
    with pytest.raises(ConfigError, match=r"TLS_FOLDER must be a folder with .*; it lacks tls.key, ca.crt"):
        load(Config, "tenant", env(TLS_FOLDER=str(tmp_path)))
    authority = Authority(tmp_path)
    folder, other = authority.issue("tenant"), authority.issue("ai")
    (folder / "tls.key").write_bytes((other / "tls.key").read_bytes())
    with pytest.raises(ConfigError, match=r"TLS_FOLDER must be .*: tls.key is not the key of tls.crt"):
        load(Config, "tenant", env(TLS_FOLDER=str(folder)))


def test_settings_of_other_services_do_not_disturb() -> None:
    others = {"TRUNKLINE_AUDIO_WHISPER_MODEL": "small", "TRUNKLINE_MODELS_FOLDER": "/m", "PATH": "x"}
    assert load(Config, "tenant", env() | others).hooks == 3


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("TRUNKLINE_AUDIO_WHISPER_MODLE", "TRUNKLINE_AUDIO_WHISPER_MODEL"),
        ("TRUNKLINE_GATWAY_HTTP_ADDRESS", "TRUNKLINE_GATEWAY_HTTP_ADDRESS"),
        ("TRUNKLINE_GATEWAY_SOURCE_CAHCE", "TRUNKLINE_GATEWAY_SOURCE_CACHE"),
        ("TRUNKLINE_MODEL_FOLDER", "TRUNKLINE_MODELS_FOLDER"),
        ("trunkline_tenant_hooks", "TRUNKLINE_TENANT_HOOKS"),
        ("Trunkline_Gateway_Http_Address", "TRUNKLINE_GATEWAY_HTTP_ADDRESS"),
    ],
)
def test_a_name_of_no_service_is_an_error_with_what_may_be_meant(name: str, meant: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(Config, "tenant", env() | {name: "1"})
    assert error.value.problems == [f"{name} is not a setting; did you mean {meant}?"]


def test_names_that_kubernetes_gives_every_container_are_no_error() -> None:
    links = {
        "TRUNKLINE_GATEWAY_SERVICE_HOST": "10.0.0.1",
        "TRUNKLINE_GATEWAY_SERVICE_PORT_HTTP": "8080",
        "TRUNKLINE_TENANT_PORT": "tcp://10.0.0.1:50051",
        "TRUNKLINE_TENANT_PORT_50051_TCP_ADDR": "10.0.0.1",
    }
    assert load(Config, "tenant", env() | links).hooks == 3


def test_a_secret_comes_from_a_file_and_stays_out_of_repr(tmp_path: Path) -> None:
    path = tmp_path / "pin"
    path.write_text("s3cr3t-value\n")
    config = load(Config, "tenant", env(PIN_FILE=str(path)))
    assert config.pin == "s3cr3t-value"
    assert "s3cr3t" not in repr(config)


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
    assert "| `TRUNKLINE_TENANT_NEEDED` | str | required |  | what must be given |" in text
    assert len(text.splitlines()) == 2 + len(Config.__dataclass_fields__)


def test_a_folder_that_cannot_be_written_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, _mode: Path(path) != tmp_path)
    with pytest.raises(ConfigError) as error:
        load(Config, "tenant", env(FOLDER=str(tmp_path / "a" / "b")))
    assert str(error.value).startswith(
        f"TRUNKLINE_TENANT_FOLDER must be in a folder that this user can write, and {tmp_path} is not; it is "
    )


def test_a_store_whose_name_is_near_that_of_another_is_a_problem_and_any_other_is_made(
    tmp_path: Path,
) -> None:
    (tmp_path / "trunkline-ai.db").write_bytes(b"SQLite format 3\0")
    (tmp_path / "tenant.dc").write_text("no database")
    for name in ("trunkline-tenant.db", "tenant.db", "trunkline-audio.db"):
        assert load(Config, "tenant", env(STORE_URL=f"sqlite:///{tmp_path}/{name}"))
    for name in ("trunkline-ia.db", "trunkline-aii.db", "trunklin-ai.db"):
        with pytest.raises(ConfigError, match=r"trunkline-ai\.db is beside it: a typo\?"):
            load(Config, "tenant", env(STORE_URL=f"sqlite:///{tmp_path}/{name}"))
