"""The service's settings: TRUNKLINE_TENANT_*; an embedded run's own secrets are made at its first start."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from cryptography.fernet import Fernet
from trunkline_runtime import forms
from trunkline_runtime.config import ConfigError, StoreConfig, env_name, load, setting
from trunkline_store import StoreError
from trunkline_store.sqlite.connect import connect_observer, engine_over

from trunkline_tenant.crypto import SecretBox, UnreadableSecret
from trunkline_tenant.edge.settings import RateSettings
from trunkline_tenant.keys.service import EDGE_PREFIX, OPERATOR_PREFIX
from trunkline_tenant.sources import secret_rows

SERVICE = "tenant"
_DEFAULT_STORE = f"sqlite:///var/{SERVICE}.db"
_LEAST_SECRET = 32


def _token(prefix: str) -> forms.Form:
    allowed = f"{prefix} and {_LEAST_SECRET} characters or more"

    def check(token: str | None) -> None:
        if token and (not token.startswith(prefix) or len(token) < len(prefix) + _LEAST_SECRET):
            raise ValueError(f"must be {allowed}")

    return forms.Form(allowed, check)


@dataclass(frozen=True, kw_only=True)
class TenantConfig(RateSettings, StoreConfig):
    """What the tenant service is told."""

    secret_keys: tuple[str, ...] = setting(
        doc="the keys that encrypt the sources' secrets, comma-separated, the newest first, each 32 bytes in "
        "URL-safe base64; the first start of an embedded run creates the file if it is missing",
        secret=True,
        form=forms.Form("keys, comma-separated", SecretBox),
    )
    operator_token: str | None = setting(
        None,
        "the token that operators authenticate with, tl_op_ and 32 characters or more; if empty, there "
        "are no operators; the first start of an embedded run creates the file if it is missing",
        secret=True,
        form=_token(OPERATOR_PREFIX),
    )
    watch_poll_seconds: float = setting(
        1.0,
        "the interval at which a watch of sources looks for changes by other replicas",
        least=0.05,
        most=60,
    )
    watch_heartbeat_seconds: float = setting(
        10.0, "the interval at which a watch of sources reports that it is up to date", least=0.1, most=300
    )
    edge_token: str | None = setting(
        None,
        "the token that Envoy authenticates with, tl_edge_ and 32 characters or more; if empty, Envoy's ext_authz "
        "and ratelimit services are not served",
        secret=True,
        form=_token(EDGE_PREFIX),
    )

    def box(self) -> SecretBox:
        """Return what seals secrets. Raises ConfigError for keys that are none."""
        try:
            return SecretBox(self.secret_keys)
        except ValueError as error:
            raise ConfigError(f"{env_name(SERVICE, 'secret_keys')}: {error}") from None


def load_config(env: Mapping[str, str] | None = None, *, reach: bool = False) -> TenantConfig:
    """Return the settings; with `reach` nothing is made, and the keys are tried on the store if it is a file.

    Raises ConfigError that lists what is wrong.
    """
    env = os.environ if env is None else env
    first = _first_secrets(env)
    # All else is right before anything is made.
    files = {name + "_FILE" for name in first}
    tried = {name: value for name, value in env.items() if name not in files} | first
    config = load(TenantConfig, SERVICE, tried, reach=reach)
    if reach:
        _try_keys(config)
    if reach or not first:
        return config
    for name, secret in first.items():
        _make(Path(env[name + "_FILE"]), secret)
    return load(TenantConfig, SERVICE, env)


def lacking_key(error: UnreadableSecret) -> ConfigError:
    """Return what to say of keys that do not open what is stored."""
    return ConfigError(
        f"{env_name(SERVICE, 'secret_keys')}: {error}; put the earlier key back after the others, behind a comma"
    )


def _try_keys(config: TenantConfig) -> None:
    """Look into a file that is there. Raises ConfigError; what else is wrong with the file, its start says."""
    url = sa.make_url(config.store_url)
    if url.get_backend_name() != "sqlite" or not url.database or not (path := Path(url.database)).exists():
        return
    engine = engine_over(lambda: connect_observer(path))
    try:
        with engine.connect() as conn:
            secret_rows.try_keys(conn, config.box())
    except UnreadableSecret as error:
        raise lacking_key(error) from None
    except StoreError:
        return
    finally:
        engine.dispose()


def _first_secrets(env: Mapping[str, str]) -> dict[str, str]:
    """Return new secrets by the names of their settings, for files that are not there, on an embedded run only.

    Not the keys when there is a database already: then they are lost, and new ones would hide it.
    """
    try:
        url = sa.make_url(env.get(env_name(SERVICE, "store_url"), _DEFAULT_STORE))
    except sa.exc.ArgumentError:
        return {}  # the settings say what is wrong with it
    if url.get_backend_name() != "sqlite" or not url.database:
        return {}
    made = {"operator_token": OPERATOR_PREFIX + secrets.token_urlsafe(32)}
    if not Path(url.database).exists():
        made["secret_keys"] = Fernet.generate_key().decode()
    named = {env_name(SERVICE, field): secret for field, secret in made.items()}
    return {
        name: secret
        for name, secret in named.items()
        if name not in env and (file := env.get(name + "_FILE")) and not Path(file).exists()
    }


def _make(path: Path, secret: str) -> None:
    """Write a file for its owner's eyes only, whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secret + "\n")
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except OSError as error:
        raise ConfigError(f"cannot make {path}: {error.strerror}") from error
