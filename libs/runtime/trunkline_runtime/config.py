"""Settings from the environment, read once into one frozen dataclass.

A field `grpc_address` of the tenant service's config is `TRUNKLINE_TENANT_GRPC_ADDRESS`.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import os
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from trunkline_runtime import forms
from trunkline_runtime.known_settings import NAMES
from trunkline_runtime.settings import REQUIRED, Setting, convert, of_field, setting

__all__ = [
    "CommonConfig", "ConfigError", "Declared", "StoreConfig", "declared", "describe", "env_name", "load", "setting",
]  # fmt: skip

T = TypeVar("T")
_FILE = "_FILE"
_MOST_SHOWN = 200
_ALL_HOSTS = frozenset({"0.0.0.0", "::"})  # noqa: S104 -- compared with, not bound
# Defaults that name nothing: a store in memory, for what has no store.
_NOWHERE = ("sqlite://", "", None)

SUITE_WIDE = {
    "TRUNKLINE_MODELS_FOLDER": "the folder for speech models; by default trunkline/models in "
    "the user's cache, $XDG_CACHE_HOME or ~/.cache",
    "TRUNKLINE_CLI_URL": "where the command `trunkline` finds the gateway, such as https://hooks.example.com",
    "TRUNKLINE_CLI_KEY": "the API key or operator's token that the command shows",
    "TRUNKLINE_CLI_KEY_FILE": "the file of that key",
    "TRUNKLINE_CLI_TENANT": "the tenant of `trunkline tail`, `replay`, `send`, and `costs`",
}
"""Names of no one service, with their meaning."""

# What Kubernetes puts into every container of a namespace that has a service called trunkline-...
_SERVICE_LINK = re.compile(r"TRUNKLINE_[A-Z0-9_]{1,80}_(?:SERVICE_(?:HOST|PORT)|PORT)(?:_[A-Z0-9_]{1,80})?+")


class ConfigError(ValueError):
    """The process cannot start as it is set up; the message names every wrong setting and what is allowed."""

    def __init__(self, problems: list[str] | str) -> None:
        self.problems = [problems] if isinstance(problems, str) else problems
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)
class Declared:
    """One setting of a config class: its variable, the fields that lead to it, type, default, and what is known."""

    name: str
    path: tuple[str, ...]
    kind: Any
    default: Any
    """REQUIRED when there is none."""
    facts: Setting

    @property
    def names(self) -> set[str]:
        """The variables that may give it."""
        return {self.name, self.name + _FILE} if self.facts.secret else {self.name}


@dataclass(frozen=True, kw_only=True)
class CommonConfig:
    """What every service is told."""

    grpc_address: str = setting(
        "127.0.0.1:0",
        "the address that gRPC listens on; port 0 takes a free port",
        by_service={
            "gateway": "127.0.0.1:50050",
            "tenant": "127.0.0.1:50051",
            "audio": "127.0.0.1:50052",
            "ai": "127.0.0.1:50053",
        },
        form=forms.LISTEN,
    )
    metrics_address: str = setting(
        "",
        "the address that serves /metrics and /readyz over HTTP; empty or port 0 turns it off; while the port is in "
        "use, the process serves without it",
        by_service={
            "gateway": "127.0.0.1:9090",
            "tenant": "127.0.0.1:9091",
            "audio": "127.0.0.1:9092",
            "ai": "127.0.0.1:9093",
        },
        form=forms.MAYBE_LISTEN,
    )
    store_url: str = setting(
        "sqlite://",
        "the service's own database",
        by_service={name: f"sqlite:///var/{name}.db" for name in ("gateway", "tenant", "audio", "ai")},
        form=forms.STORE,
    )
    keys: Path = setting(
        Path("var/keys"),
        "the folder with the service's private key and trusted.json, the public keys of all services",
        form=forms.KEYS,
    )
    tls_folder: Path | None = setting(
        None,
        "the folder with the certificate tls.crt, its key tls.key, and the trusted authorities ca.crt; gRPC is then "
        "mutual TLS only, and new files take effect without a restart; if empty, gRPC is plaintext",
        form=forms.TLS,
    )
    plaintext: bool = setting(
        False,
        "allow plaintext gRPC beyond loopback, for a network that encrypts by itself; otherwise, the service doesn't "
        "start with such an address and without tls_folder",
        form=forms.SWITCH,
    )
    probe_address: str = setting(
        "",
        "the address that serves health over plaintext gRPC and nothing else, for probes that can't speak TLS; empty "
        "or port 0 turns it off",
        form=forms.MAYBE_LISTEN,
    )
    log_format: str = setting("json", "the format of logs", choices=("json", "console"))
    log_level: str = setting(
        "info", "the lowest level that is logged", choices=("debug", "info", "warning", "error")
    )
    otlp_endpoint: str | None = setting(
        None,
        "the endpoint for traces, such as http://127.0.0.1:4317; if empty, there are no traces",
        form=forms.MAYBE_WEB,
    )
    otlp_ratio: float = setting(
        1.0, "the share of the traces beginning in this process that are exported", least=0, most=1
    )
    otlp_traces_per_second: int = setting(
        20,
        "the most traces that begin in this process within a second and are exported, of webhooks, of API requests, "
        "and of replays each",
        least=1,
        most=1_000_000,
    )
    drain_seconds: float = setting(
        8.0, "how long requests in flight can take to end after SIGTERM", least=0, most=3600
    )
    drain_notice_seconds: float = setting(
        0.2,
        "the part of drain_seconds during which health is NOT_SERVING and new requests are still accepted",
        least=0,
        most=60,
    )
    max_connection_age_seconds: float = setting(
        30.0,
        "after this time, a client must connect again, so that it finds new replicas",
        least=1,
        most=86_400,
    )
    max_connection_age_grace_seconds: float = setting(
        300.0,
        "how long requests on an old connection can continue, unless a service has streams that may take longer",
        least=1,
        most=86_400,
    )
    grpc_connections: int = setting(
        1_024, "the most gRPC connections at once; further ones are closed", least=4, most=100_000
    )
    grpc_streams: int = setting(
        4_000,
        "the most requests at once on one gRPC connection; further ones wait at the caller",
        least=16,
        most=10_000,
    )
    grpc_calls: int = setting(
        4_000,
        "the most gRPC requests at once; further ones are answered RESOURCE_EXHAUSTED",
        least=16,
        most=100_000,
    )
    grpc_calls_per_tenant: int = setting(
        500,
        "the most gRPC requests of one tenant's keys at once; further ones are answered RESOURCE_EXHAUSTED",
        least=1,
        most=100_000,
    )
    lists_at_once: int = setting(
        2,
        "the most lists and counts of one tenant that this service reads at once; a further one waits for up to a "
        "second, and is then answered RESOURCE_EXHAUSTED",
        least=1,
        most=64,
    )
    list_seconds: float = setting(
        10.0, "the longest time for a list; after that, DEADLINE_EXCEEDED", least=0.1, most=300
    )
    tenant_address: str = setting(
        "127.0.0.1:50051",
        "the address of the tenant service, which authenticates API keys",
        form=forms.ADDRESS,
    )


@dataclass(frozen=True, kw_only=True)
class StoreConfig(CommonConfig):
    """What a service is told that opens its store."""

    readers: int = setting(
        4,
        "the number of connections that read the store by key, and of those that read lists",
        least=1,
        most=64,
    )
    list_staleness_seconds: float = setting(
        5.0,
        "the age of the snapshot that lists read on Spanner; on SQLite, lists are always current",
        least=0,
        most=3600,
    )

    @property
    def list_staleness(self) -> timedelta | None:
        """How old lists may be, None for the latest."""
        return timedelta(seconds=self.list_staleness_seconds) if self.list_staleness_seconds else None


def env_name(service: str, field: str) -> str:
    """Return the environment variable of a service's setting."""
    return f"TRUNKLINE_{service}_{field}".upper()


def load(cls: type[T], service: str, env: Mapping[str, str] | None = None, *, reach: bool = False) -> T:
    """Build a config from `env` (the process's own by default); places on disk are looked at, nothing is opened.

    `reach`: other services' addresses are connected to as well. Raises ConfigError that lists every unknown name,
    missing setting and bad value, each as one line with the name, what is allowed and what was given.
    """
    env = os.environ if env is None else env
    problems: list[str] = []
    values: dict[tuple[str, ...], Any] = {}
    known: set[str] = set()
    listening: dict[str, str] = {}
    for one in declared(cls, service):
        name, facts = one.name, one.facts
        known |= one.names
        try:
            text = _text(env, name, facts.secret)
        except ValueError as error:
            problems.append(f"{name} {error}")
            continue
        if text is None and one.default is REQUIRED:
            also = f" or {name}{_FILE}" if facts.secret else ""
            problems.append(f"{name}{also} is required: {facts.doc}")
            continue
        try:
            value = one.default if text is None else convert(text, one.kind, facts)
            # A service needs not be reached by itself.
            _look(value, text is None, facts, reach and one.path != (f"{service}_address",))
        except ValueError as error:
            got = _shown(one.default) if text is None else text
            problems.append(f"{name} {error}" + ("" if facts.secret else f"; it is {got[:_MOST_SHOWN]!r}"))
        else:
            values[one.path] = value
            if facts.form in (forms.LISTEN, forms.MAYBE_LISTEN):
                listening[name] = value
    problems.extend(_on_one_port(listening))
    problems.extend(_in_the_open(cls, service, values))
    problems.extend(_unknown(env, env_name(service, ""), known))
    if problems:
        raise ConfigError(problems)
    made: T = _made(cls, values)
    return made


def declared(cls: type[Any], service: str, path: tuple[str, ...] = ()) -> Iterator[Declared]:
    """Give every setting of a config class, in order; a field that is a dataclass itself is a part with its own.

    A field `whisper: WhisperSettings` of the audio service's config gives TRUNKLINE_AUDIO_WHISPER_*.
    """
    kinds = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        place = (*path, field.name)
        if _is_part(kinds[field.name]):
            yield from declared(kinds[field.name], service, place)
            continue
        facts = of_field(field)
        default = facts.by_service.get(service, _default(field))
        name = env_name(service, facts.name or "_".join(place))
        yield Declared(name, place, kinds[field.name], default, facts)


def _is_part(kind: Any) -> bool:
    return dataclasses.is_dataclass(kind)


def _made(cls: type[Any], values: Mapping[tuple[str, ...], Any], path: tuple[str, ...] = ()) -> Any:
    kinds = typing.get_type_hints(cls)
    given = {}
    for field in dataclasses.fields(cls):
        place, kind = (*path, field.name), kinds[field.name]
        given[field.name] = _made(kind, values, place) if _is_part(kind) else values[place]
    return cls(**given)


def _on_one_port(listening: Mapping[str, str]) -> Iterator[str]:
    """Say which settings, by name, give the same port of one host to two listeners."""
    places = {name: forms.split(address) for name, address in listening.items() if address}
    for (name, (host, port)), (other, (other_host, other_port)) in itertools.combinations(places.items(), 2):
        one_host = host == other_host or not {host, other_host}.isdisjoint(_ALL_HOSTS)
        if port and port == other_port and one_host:
            yield f"{name} and {other} must not be the same port; they are {listening[name]!r} and {listening[other]!r}"


def _in_the_open(cls: type[Any], service: str, values: Mapping[tuple[str, ...], Any]) -> Iterator[str]:
    """Say which addresses would have gRPC go in plaintext where others may listen."""
    if values.get(("tls_folder",)) or values.get(("plaintext",), True):
        return
    for one in declared(cls, service):
        # A listener that may be turned off serves nothing but health, metrics, or the like.
        served = one.path == ("grpc_address",) and one.facts.form is forms.LISTEN
        address = values.get(one.path)
        if (served or one.facts.form is forms.ADDRESS) and address and not forms.is_loopback(address):
            yield (
                f"{one.name} must be on loopback, unless {env_name(service, 'tls_folder')} is set, or "
                f"{env_name(service, 'plaintext')} is true; it is {address!r}"
            )


def _look(value: Any, default: bool, facts: Setting, reach: bool) -> None:
    """Look at the disk, or with `reach` at the network, for a value that names something there. Raises ValueError."""
    if facts.form is None or (default and value in _NOWHERE):
        return
    if facts.form.look is not None:
        facts.form.look(value, default)
    if reach and facts.form.reach is not None:
        facts.form.reach(value)


def rows(cls: type[Any], service: str) -> Iterator[tuple[str, str, str, str, str]]:
    """Give each setting's name, type, default, what is allowed, and meaning."""
    for one in declared(cls, service):
        shown = "required" if one.default is REQUIRED else _shown(one.default)
        yield one.name, _kind(one.kind), shown, one.facts.allowed(), one.facts.doc


def describe(cls: type[Any], service: str) -> str:
    """Return the settings as a Markdown table: name, type, default, what is allowed, meaning."""
    secret = {one.name for one in declared(cls, service) if one.facts.secret}
    lines = ["| setting | type | default | allowed | meaning |", "|---|---|---|---|---|"]
    for name, kind, default, allowed, doc in rows(cls, service):
        shown = f"`{default}`" if default not in ("", "required") else default or "empty"
        also = f", or `{name}{_FILE}`" if name in secret else ""
        lines.append(f"| `{name}`{also} | {kind.replace('|', 'or')} | {shown} | {allowed} | {doc} |")
    return "\n".join(lines) + "\n"


def _text(env: Mapping[str, str], name: str, secret: bool) -> str | None:
    """Return what was set, a secret perhaps in a file. Raises ValueError."""
    path = env.get(name + _FILE) if secret else None
    if path is None:
        return env.get(name)
    if name in env:
        raise ValueError(f"and {name}{_FILE} are both set; set one of them")
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot be read from {name}{_FILE}={path}: {error}") from None


def _unknown(env: Mapping[str, str], prefix: str, known: set[str]) -> Iterator[str]:
    """Say which names are no setting of any service; of this one's own the class knows best."""
    others = {name for name in NAMES if not name.startswith(prefix)} | SUITE_WIDE.keys()
    # In small letters it is no setting either, but meant as one.
    for name in sorted(n for n in env if n.upper().startswith("TRUNKLINE_") and n not in known | others):
        if _SERVICE_LINK.fullmatch(name) and (
            name.endswith("_HOST") or env[name][:1].isdigit() or "://" in env[name]
        ):
            continue
        near = difflib.get_close_matches(name.upper(), sorted(known) + sorted(others), n=1)
        yield f"{name[:_MOST_SHOWN]} is not a setting" + (f"; did you mean {near[0]}?" if near else "")


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return REQUIRED if field.default_factory is dataclasses.MISSING else field.default_factory()


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(str(v) for v in value) if isinstance(value, tuple) else str(value)


def _kind(kind: Any) -> str:
    return (
        kind.__name__
        if isinstance(kind, type) and not typing.get_args(kind)
        else str(kind).replace("pathlib.", "")
    )
