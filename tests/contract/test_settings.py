"""Settings of the real processes: each mistake is one line before anything is opened; --help, --check, and the docs."""

from __future__ import annotations

import os
import re
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from trunkline_runtime.config import env_name, rows
from trunkline_runtime.testing import KEY_FOLDER
from trunkline_store.sqlite.lock import FileLock

from tests.forked import forked
from tools.make_settings import CONFIGS, FILES, page

MODULES = {
    "gateway": ("trunkline_gateway", "serve"),
    "worker": ("trunkline_gateway", "work"),
    "tenant": ("trunkline_tenant",),
    "audio": ("trunkline_audio",),
    "ai": ("trunkline_ai",),
}


def run(folder: Path, service: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a service's command in an empty folder with right secrets and these settings."""
    env = {env_name(service, "keys"): str(KEY_FOLDER)}
    if service == "tenant":
        env[env_name(service, "secret_keys")] = Fernet.generate_key().decode()
    module, *role = MODULES[service]
    return command(folder, module, *role, *arguments, **env | settings)


def command(folder: Path, module: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m module` in a folder with these settings alone."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("TRUNKLINE_")}
    return forked(module).run(arguments, env | settings, folder)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that a refused start leaves as it was."""
    (tmp_path / "file").write_text("x")
    with sqlite3.connect(tmp_path / "gateway.db") as conn:
        conn.execute("CREATE TABLE t (x)")
    conn.close()
    before = sorted(tmp_path.rglob("*"))
    yield tmp_path
    assert sorted(tmp_path.rglob("*")) == before, "something was made"


GATEWAY = [
    ("HTTP_ADDRESS", "localhost", "must be host:port"),
    ("HTTP_ADDRESS", "", "must be host:port"),
    ("GRPC_ADDRESS", "", "must be host:port"),
    ("SOURCE_CACHE", '"var/cache"', "must not have quotes"),
    ("STORE_URL", "sqlite:///gateway.db ", "must not have quotes or spaces around it"),
    ("HTTP_ADDRESS", "127.0.0.1:abc", "port from 0 to 65535"),
    ("HTTP_ADDRESS", "192.0.2.1:8080", "with a host of this machine"),
    ("GRPC_ADDRESS", "192.0.2.1:50050", "with a host of this machine"),
    ("METRICS_ADDRESS", "nowhere.invalid:9090", "with a host that can be resolved"),
    ("GRPC_ADDRESS", "127.0.0.1:65536", "port from 0 to 65535"),
    ("METRICS_ADDRESS", "9090", "must be host:port"),
    ("AUDIO_ADDRESS", "audio", "must be host:port"),
    ("AI_ADDRESS", "ai:0", "port from 1 to 65535"),
    ("PUBLIC_URL", "example.com", "must be a URL with http:// or https://"),
    ("PUBLIC_URL", "https://", "must be a URL with http:// or https://"),
    ("PUBLIC_URL", "https://example.com:port", "must be a URL with http:// or https://"),
    ("PUBLIC_URL", "https://example.com/?a=1", "without a query"),
    ("OTLP_ENDPOINT", "127.0.0.1:4317", "such as http://127.0.0.1:4317"),
    ("STORE_URL", "var/gateway.db", "must be sqlite:///path"),
    ("STORE_URL", "sqlite:///nowhere/gateway.db", "must be in a folder that exists"),
    ("STORE_URL", "sqlite:///gatewya.db", "a typo?"),
    (
        "STORE_URL",
        "spanner+spanner:///projects/p/instances/i",
        "projects/PROJECT/instances/INSTANCE/databases/DATABASE",
    ),
    ("STORE_URL", "sqlite:///file/gateway.db", "must be in a folder that exists"),
    ("SOURCE_CACHE", "file/cache", "must be in a folder, and"),
    ("SPOOL_PATH", "file/spool", "must be in a folder, and"),
    ("KEYS", "file", "must be a folder with trusted.json"),
]


def starts() -> list[dict[str, tuple[str, str]]]:
    """The mistakes above in as few starts as can be: each has one mistake of a setting, of as many as are left."""
    found: list[dict[str, tuple[str, str]]] = []
    for name, value, allowed in GATEWAY:
        start = next((start for start in found if name not in start), None)
        if start is None:
            found.append(start := {})
        start[name] = (value, allowed)
    return found


@pytest.mark.parametrize("wrong", starts(), ids=lambda wrong: ",".join(value for value, _ in wrong.values()))
def test_a_wrong_setting_is_one_line_with_its_name_what_is_allowed_and_what_it_got(folder, wrong):
    ended = run(folder, "gateway", **{env_name("gateway", name): value for name, (value, _) in wrong.items()})
    assert (ended.returncode, ended.stdout) == (2, "")
    lines = ended.stderr.splitlines()
    assert len(lines) == len(wrong)
    for name, (value, allowed) in wrong.items():
        (line,) = [line for line in lines if line.startswith(f"error: {env_name('gateway', name)} ")]
        assert allowed in line
        assert value in line


@pytest.mark.parametrize(
    ("service", "name", "value", "allowed"),
    [
        ("audio", "BLOBS_FOLDER", "file", "must be in a folder, and"),
        ("audio", "SCRATCH_FOLDER", "file/below", "must be in a folder, and"),
        ("audio", "FETCH_ALLOWED_NETWORKS", "10.0.0.1/8", "networks in CIDR form"),
        ("worker", "LOOKUP_ORIGINS", "127.0.0.1:9000", "must be a URL"),
        ("worker", "GATEWAY_ADDRESS", "gateway", "must be host:port"),
        ("audio", "ENGINE", "wisper", "must be whisper, google, or module:factory"),
        ("audio", "WHISPER_COMPUTE_TYPE", "foo", "must be one of int8, int8_float32,"),
        ("ai", "ENGINE", "opnai", "must be local, vertex, openai, or module:factory"),
        ("ai", "ENGINE", "mine:", "must be local, vertex, openai, or module:factory"),
        ("tenant", "OPERATOR_TOKEN", "tl_op_short", "32 characters"),
        ("tenant", "SECRET_KEYS", "short", ""),
    ],
)
def test_so_is_one_of_another_service(folder, service, name, value, allowed):
    setting = env_name(service, name)
    ended = run(folder, service, **{setting: value})
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"error: {setting} ")
    assert allowed in line


@pytest.mark.parametrize(
    ("service", "name", "other"),
    [
        ("gateway", "HTTP_ADDRESS", "METRICS_ADDRESS"),
        ("gateway", "HTTP_ADDRESS", "GRPC_ADDRESS"),
        ("tenant", "GRPC_ADDRESS", "METRICS_ADDRESS"),
        ("audio", "GRPC_ADDRESS", "METRICS_ADDRESS"),
        ("ai", "GRPC_ADDRESS", "METRICS_ADDRESS"),
    ],
)
def test_one_port_for_two_listeners_is_refused_with_both_names(folder, service, name, other):
    given = {env_name(service, name): "127.0.0.1:9955", env_name(service, other): "0.0.0.0:9955"}
    ended = run(folder, service, **given, **{env_name(service, "plaintext"): "true"})
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ")
    assert "must not be the same port" in line
    assert all(setting in line and repr(address) in line for setting, address in given.items())


def test_other_hosts_and_free_ports_may_have_one_port(folder):
    different = {"GRPC_ADDRESS": "127.0.0.2:9955", "METRICS_ADDRESS": "127.0.0.1:9955"}
    free = {"GRPC_ADDRESS": "127.0.0.1:0", "METRICS_ADDRESS": "127.0.0.1:0"}
    for given in (different, free):
        ended = run(folder, "tenant", "--check", **{env_name("tenant", n): a for n, a in given.items()})
        assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    ("service", "engine", "said"),
    [
        ("ai", "json:loads", "cannot make an engine"),
        ("ai", "builtins:dict", "does not make an engine: there is no name"),
        ("audio", "json:loads", "cannot make an engine"),
        ("audio", "builtins:dict", "does not make an engine: there is no name"),
    ],
)
def test_a_plug_in_that_makes_no_engine_is_refused(folder, service, engine, said):
    ended = run(folder, service, **{env_name(service, "engine"): engine})
    assert ended.returncode == 2
    line = ended.stderr.splitlines()[-1]
    assert line.startswith(f"error: {env_name(service, 'engine')}: ")
    assert said in line
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("service", "name", "place"),
    [(service, "store_url", "sqlite:///{}") for service in ("gateway", "tenant", "audio", "ai")]
    + [("gateway", "spool_path", "{}")],
)
def test_what_another_process_has_open_is_refused_with_its_id(tmp_path, service, name, place):
    held = tmp_path / "held"
    settings = {
        env_name(service, "store_url"): f"sqlite:///{tmp_path}/own.db",
        env_name(service, name): place.format(held),
    }
    lock = FileLock(held)
    try:
        ended = run(tmp_path, service, **settings)
    finally:
        lock.release()
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line == f"error: {env_name(service, name)}: {held} is open in process {os.getpid()}"


def test_check_refuses_a_speech_model_that_can_never_be_found(folder):
    setting = env_name("audio", "whisper_model")
    with socket.create_server(("127.0.0.1", 0)) as there:
        tenant = {env_name("audio", "tenant_address"): f"127.0.0.1:{there.getsockname()[1]}"}
        for value, said in (("bsae", "must be one of base, base.en, tiny,"), ("/no/where", "or a folder")):
            ended = run(folder, "audio", "--check", **{setting: value}, **tenant)
            assert ended.returncode == 2
            (line,) = ended.stderr.splitlines()
            assert line.startswith(f"error: {setting} ")
            assert said in line
            assert repr(value) in line
        ended = run(folder, "audio", "--check", TRUNKLINE_MODELS_FOLDER=str(folder / "gone"), **tenant)
        assert "needs TRUNKLINE_MODELS_FOLDER to be a folder" in ended.stderr
        assert ended.returncode == 2


def test_check_refuses_a_speech_model_that_is_not_there_unless_another_engine_is_set(folder):
    (folder / "models").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as there:
        given = {
            "TRUNKLINE_AUDIO_TENANT_ADDRESS": f"127.0.0.1:{there.getsockname()[1]}",
            "TRUNKLINE_MODELS_FOLDER": str(folder / "models"),
        }
        ended = run(folder, "audio", "--check", **given)
        assert ended.returncode == 2
        (line,) = ended.stderr.splitlines()
        assert line.startswith("error: TRUNKLINE_AUDIO_WHISPER_MODEL: model base is not in ")
        assert "fetch base` fetches it" in line
        ended = run(folder, "audio", "--check", **given, TRUNKLINE_AUDIO_ENGINE="json:loads")
        assert (ended.returncode, ended.stderr) == (0, "")
    (folder / "models").rmdir()


def test_check_imports_an_engine_of_ones_own(folder):
    with socket.create_server(("127.0.0.1", 0)) as there:
        tenant = {"TRUNKLINE_AI_TENANT_ADDRESS": f"127.0.0.1:{there.getsockname()[1]}"}
        for engine, said in (
            ("nowhere:make", "cannot be loaded: ModuleNotFoundError: "),
            ("json:nothing", "cannot be loaded: AttributeError: "),
            ("json:__doc__", "must be a factory, and it cannot be called"),
        ):
            ended = run(folder, "ai", "--check", **tenant, TRUNKLINE_AI_ENGINE=engine)
            assert ended.returncode == 2
            (line,) = ended.stderr.splitlines()
            assert line.startswith(f"error: TRUNKLINE_AI_ENGINE {said}")
        assert run(folder, "ai", "--check", **tenant, TRUNKLINE_AI_ENGINE="json:loads").returncode == 0


@pytest.mark.parametrize("service", MODULES)
def test_a_name_of_no_service_ends_every_service(folder, service):
    ended = run(folder, service, TRUNKLINE_GATEWAY_HTTP_ADRESS="127.0.0.1:1")
    assert ended.returncode == 2
    assert ended.stderr == (
        "error: TRUNKLINE_GATEWAY_HTTP_ADRESS is not a setting; did you mean TRUNKLINE_GATEWAY_HTTP_ADDRESS?\n"
    )


@pytest.mark.parametrize("service", MODULES)
def test_every_setting_says_what_it_allows(service):
    assert [name for name, kind, _, allowed, _ in rows(CONFIGS[service], service) if not allowed] == []


@pytest.mark.parametrize("service", MODULES)
def test_help_lists_every_setting_with_default_and_bounds_and_starts_nothing(folder, service):
    ended = run(folder, service, "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    for name, _, default, allowed, doc in rows(CONFIGS[service], service):
        assert name in ended.stdout
        assert default in ended.stdout
        assert allowed in ended.stdout
        assert doc.split()[0] in ended.stdout


def test_an_argument_that_is_none_starts_nothing(folder):
    for service in MODULES:
        ended = run(folder, service, "--chekc")
        assert ended.returncode == 2
        assert "--help | --check | --version" in ended.stderr
    for arguments in ((), ("server",), ("--check",)):
        ended = command(folder, "trunkline_gateway", *arguments)
        assert ended.returncode == 2
        assert "serve|work" in ended.stderr


def test_help_without_a_role_is_that_of_both_and_every_command_tells_its_version(folder):
    ended = command(folder, "trunkline_gateway", "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "TRUNKLINE_GATEWAY_HTTP_ADDRESS" in ended.stdout
    assert "TRUNKLINE_WORKER_LEASE_SECONDS" in ended.stdout
    told = command(folder, "trunkline_gateway", "--version").stdout
    assert re.fullmatch(r"trunkline \d+\.\d+\.\d+\n", told)
    assert all(run(folder, service, "--version").stdout == told for service in MODULES)


def test_check_verifies_the_settings_and_that_the_others_are_there(folder):
    with socket.create_server(("127.0.0.1", 0)) as there:
        address = f"127.0.0.1:{there.getsockname()[1]}"
        reached = {f"TRUNKLINE_WORKER_{n}_ADDRESS": address for n in ("GATEWAY", "TENANT", "AUDIO", "AI")}
        right = run(folder, "worker", "--check", **reached)
        assert (right.returncode, right.stdout, right.stderr) == (0, "the settings are correct\n", "")
    ended = run(folder, "worker", "--check", **reached)
    assert ended.returncode == 2
    assert (
        f"error: TRUNKLINE_WORKER_GATEWAY_ADDRESS cannot be reached: Connection refused; it is {address!r}"
        in (ended.stderr.splitlines())
    )


def test_check_of_a_first_start_makes_no_secrets(tmp_path):
    settings = {"TRUNKLINE_TENANT_OPERATOR_TOKEN_FILE": str(tmp_path / "operator.token")}
    ended = run(tmp_path, "tenant", "--check", **settings)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_the_default_folder_of_models_is_told():
    (line,) = [line for line in page().splitlines() if "`TRUNKLINE_MODELS_FOLDER`" in line]
    assert "by default trunkline/models in " in line


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_is_generated_from_the_settings_is_up_to_date(path):
    assert path.read_text() == FILES[path](), "run `make settings`"
