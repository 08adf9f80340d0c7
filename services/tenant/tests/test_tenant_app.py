"""Starting and stopping: settings, first secrets, key rotation, schema, health, errors of the store."""

import os
import stat
import subprocess
import sys

import pytest
from cryptography.fernet import Fernet
from grpc_health.v1 import health_pb2, health_pb2_grpc
from trunkline.tenant.v1 import source_service_pb2
from trunkline_runtime.config import ConfigError
from trunkline_runtime.testing import KEY_FOLDER
from trunkline_store import Database
from trunkline_store.testing.schema import differences, undeclared
from trunkline_tenant.app import build
from trunkline_tenant.config import load_config
from trunkline_tenant.crypto import SecretBox, UnreadableSecret
from trunkline_tenant.schema import metadata
from trunkline_tenant.sources import secret_rows

from .conftest import make_config, running


def environment(folder, **changes):
    return {
        "TRUNKLINE_TENANT_KEYS": str(KEY_FOLDER),
        "TRUNKLINE_TENANT_STORE_URL": f"sqlite:///{folder}/tenant.db",
        "TRUNKLINE_TENANT_SECRET_KEYS_FILE": f"{folder}/secrets.key",
        "TRUNKLINE_TENANT_OPERATOR_TOKEN_FILE": f"{folder}/operator.token",
        **changes,
    }


def test_the_first_start_makes_the_files_for_their_owner_alone_and_the_second_reads_them(tmp_path):
    folder = tmp_path / "var"
    folder.mkdir()
    first = load_config(environment(folder))
    assert Fernet(first.secret_keys[0].encode())
    assert first.operator_token.startswith("tl_op_")
    for name in ("secrets.key", "operator.token"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    assert sorted(path.name for path in folder.iterdir()) == ["operator.token", "secrets.key"]
    second = load_config(environment(folder))
    assert (second.secret_keys, second.operator_token) == (first.secret_keys, first.operator_token)
    assert first.secret_keys[0] not in repr(first)
    assert first.operator_token not in repr(first)


def test_lost_keys_of_a_database_are_not_replaced(tmp_path):
    (tmp_path / "tenant.db").touch()
    with pytest.raises(ConfigError, match="SECRET_KEYS_FILE"):
        load_config(environment(tmp_path))
    assert not (tmp_path / "secrets.key").exists()


def test_keys_are_never_made_for_a_shared_store(tmp_path):
    env = environment(
        tmp_path, TRUNKLINE_TENANT_STORE_URL="spanner+spanner:///projects/p/instances/in/databases/d"
    )
    with pytest.raises(ConfigError, match="SECRET_KEYS_FILE"):
        load_config(env)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("SECRET_KEYS", "short"), ("OPERATOR_TOKEN", "tl_op_short"), ("OPERATOR_TOKEN", "x" * 60)],
)
def test_bad_secrets_are_told_by_the_name_of_the_setting(tmp_path, name, value):
    env = environment(tmp_path)
    del env[f"TRUNKLINE_TENANT_{name}_FILE"]
    with pytest.raises(ConfigError, match=f"TRUNKLINE_TENANT_{name}") as caught:
        load_config({**env, f"TRUNKLINE_TENANT_{name}": value})
    assert value not in str(caught.value)


async def test_a_new_newest_key_seals_everything_again_and_the_old_one_may_go(store_url):
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    config = make_config(store_url, secret_keys=(old,))

    async def resolved(suite):
        request = source_service_pb2.ResolveSourceRequest(source_id=source.name.rpartition("/")[2])
        answer = await suite.gateway.ResolveSource(request)
        return [secret.value for secret in answer.secrets], answer.fetch_credential

    async with running(config) as suite:
        await suite.tenant()
        source = await suite.source(fetch_credential="k", provider_account="A")
    async with running(make_config(store_url, secret_keys=(new, old))) as suite:
        assert await resolved(suite) == (["s3cret"], "k")
    async with running(make_config(store_url, secret_keys=(new,))) as suite:
        assert await resolved(suite) == (["s3cret"], "k")
        assert await secret_rows.reseal(suite.app.db, SecretBox((new,))) == 0
    said = r"^TRUNKLINE_TENANT_SECRET_KEYS: .*; put the earlier key back after the others, behind a comma$"
    with pytest.raises(ConfigError, match=said):
        async with build(make_config(store_url, secret_keys=(old,))):
            pass
    async with running(make_config(store_url, secret_keys=(new,))) as suite:
        assert await resolved(suite) == (["s3cret"], "k")  # the start that failed let go of the file


async def test_a_check_tries_the_keys_on_the_store_and_makes_nothing(tmp_path):
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    env = environment(tmp_path)
    (tmp_path / "operator.token").write_text("tl_op_" + "0" * 32)
    keys = tmp_path / "secrets.key"
    keys.write_text(old)

    def check(text):
        keys.write_text(text)
        before = sorted(tmp_path.iterdir())
        try:
            load_config(env, reach=True)
        finally:
            assert sorted(tmp_path.iterdir()) == before

    check(new)  # there is no store yet
    async with running(make_config(env["TRUNKLINE_TENANT_STORE_URL"], secret_keys=(old,))) as suite:
        await suite.tenant()
        await suite.source()
        with pytest.raises(ConfigError, match="put the earlier key back"):
            check(new)  # beside a process that has it open
        check(f"{new},{old}")
    with pytest.raises(ConfigError, match="put the earlier key back"):
        check(new)
    check(f"{new},{old}")


def test_a_secret_opens_in_its_own_place_only():
    box = SecretBox((Fernet.generate_key().decode(),))
    sealed = box.seal("s3cret\0more", "acme/s1/x")
    assert box.open(sealed.data, "acme/s1/x") == "s3cret\0more"
    with pytest.raises(UnreadableSecret):
        box.open(sealed.data, "other/s1/x")
    with pytest.raises(UnreadableSecret):
        SecretBox((Fernet.generate_key().decode(),)).open(sealed.data, "acme/s1/x")


async def test_the_migrations_make_the_declared_tables(tmp_path):
    url = f"sqlite:///{tmp_path}/tenant.db"
    async with await Database.open(url, metadata, migrations="trunkline_tenant.migrations") as db:
        assert await db.read(lambda conn: differences(conn, metadata)) == []
    assert undeclared(metadata) == []


def test_the_tenant_leads_every_key_that_a_tenant_owns():
    for table in metadata.tables.values():
        if table.name != "source_revision":
            assert next(iter(table.primary_key.columns)).name == "tenant_id", table.name


async def test_it_serves_once_the_store_answers_and_again_says_so_by_name(suite):
    stub = health_pb2_grpc.HealthStub(suite.channel)
    async for answer in stub.Watch(health_pb2.HealthCheckRequest(service="trunkline.tenant.v1.CallService")):
        if answer.status == health_pb2.HealthCheckResponse.SERVING:
            break
    await suite.app.server.health.wait_serving()


async def test_a_second_service_on_the_same_file_is_refused_by_the_name_of_the_setting(suite):
    with pytest.raises(ConfigError, match="TRUNKLINE_TENANT_STORE_URL"):
        async with build(suite.config):
            pass


def test_a_process_with_wrong_settings_ends_and_lists_them_all(tmp_path):
    env = {name: value for name, value in os.environ.items() if not name.startswith("TRUNKLINE_")}
    ended = subprocess.run(
        [sys.executable, "-m", "trunkline_tenant"],
        env={**env, "TRUNKLINE_TENANT_COLOUR": "red", "TRUNKLINE_TENANT_READERS": "many"},
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 2
    for name in ("COLOUR", "READERS", "KEYS", "SECRET_KEYS"):
        assert f"TRUNKLINE_TENANT_{name}" in ended.stderr
    assert list(tmp_path.iterdir()) == []
