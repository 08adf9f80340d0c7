"""API keys over gRPC: shown once, stored as a hash, refused when revoked, expired or suspended."""

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from trunkline.tenant.v1 import api_key_pb2, api_key_service_pb2, tenant_pb2, tenant_service_pb2

from .conftest import OPERATOR


async def authenticate(suite, token):
    return await suite.audio.Authenticate(api_key_service_pb2.AuthenticateRequest(token=token))


async def test_a_key_tells_who_holds_it_and_is_shown_once(suite, tmp_path):
    key = await suite.api_key(role=api_key_pb2.ROLE_VIEWER, display_name="dashboard")
    assert key.key.startswith(key.prefix + "_")
    assert key.prefix.startswith("tl_")
    answer = await authenticate(suite, key.key)
    assert (answer.operator, answer.tenant) == (False, "tenants/acme")
    assert (answer.role, answer.api_key) == (api_key_pb2.ROLE_VIEWER, key.name)
    listed = await suite.operator.ListApiKeys(api_key_service_pb2.ListApiKeysRequest(parent="tenants/acme"))
    assert [(k.name, k.key) for k in listed.api_keys] == [(key.name, "")]
    secret = key.key.removeprefix(key.prefix + "_").encode()
    assert not any(secret in path.read_bytes() for path in tmp_path.iterdir())


async def test_an_operator_token_is_an_operator(suite):
    answer = await authenticate(suite, OPERATOR)
    assert (answer.operator, answer.tenant, answer.role) == (True, "", 0)


@pytest.mark.parametrize(
    "change",
    [
        lambda key: key[:-1] + ("A" if key[-1] != "A" else "B"),
        lambda key: "tl_aaaaaaaaaaaaaaaaaaaaaa_" + key.rsplit("_", 1)[1],
        lambda key: key.rsplit("_", 1)[0] + "_",
        lambda key: "tl_",
        lambda key: "tl__",
        lambda key: "xx_" + key[3:],
        lambda key: OPERATOR + "x",
        lambda key: "tl_op_",
    ],
)
async def test_what_nobody_holds_is_unauthenticated(suite, raised, change):
    key = (await suite.api_key()).key
    error = await raised(authenticate(suite, (change(key) + "    ")[:256].strip().ljust(4, "x")))
    assert (error.code, error.reason) == (grpc.StatusCode.UNAUTHENTICATED, "API_KEY_INVALID")


def guessed(key):
    """A key of the same id with a wrong secret."""
    return key.key[:-1] + ("A" if key.key[-1] != "A" else "B")


async def test_the_holder_of_a_revoked_key_is_told_so_for_30_days(suite, raised):
    key = await suite.api_key()
    request = api_key_service_pb2.DeleteApiKeyRequest(name=key.name)
    await suite.operator.DeleteApiKey(request)
    error = await raised(authenticate(suite, key.key))
    assert (error.code, error.reason) == (grpc.StatusCode.UNAUTHENTICATED, "KEY_REVOKED")
    assert (await raised(authenticate(suite, guessed(key)))).reason == "API_KEY_INVALID"
    assert (await raised(suite.operator.DeleteApiKey(request))).code is grpc.StatusCode.NOT_FOUND
    get = api_key_service_pb2.GetApiKeyRequest(name=key.name)
    assert (await raised(suite.operator.GetApiKey(get))).code is grpc.StatusCode.NOT_FOUND
    listing = api_key_service_pb2.ListApiKeysRequest(parent="tenants/acme")
    assert not (await suite.operator.ListApiKeys(listing)).api_keys
    suite.clock.advance(31 * 86_400)
    other = await suite.api_key()
    await suite.operator.DeleteApiKey(api_key_service_pb2.DeleteApiKeyRequest(name=other.name))
    assert (await raised(authenticate(suite, key.key))).reason == "API_KEY_INVALID"
    assert (await raised(authenticate(suite, other.key))).reason == "KEY_REVOKED"


async def test_the_holder_of_an_expired_key_is_told_so(suite, raised):
    expire = Timestamp()
    expire.FromDatetime(suite.clock.now())
    expire.seconds += 60
    key = await suite.api_key(expire_time=expire)
    assert (await authenticate(suite, key.key)).api_key == key.name
    suite.clock.advance(61)
    error = await raised(authenticate(suite, key.key))
    assert (error.reason, "expired at 20" in error.message) == ("KEY_EXPIRED", True)
    assert (await raised(authenticate(suite, guessed(key)))).reason == "API_KEY_INVALID"
    assert (await raised(suite.api_key(expire_time=expire))).violations[0][0] == "api_key.expire_time"


async def test_one_key_is_shown_without_the_key_itself(suite, raised):
    key = await suite.api_key(role=api_key_pb2.ROLE_VIEWER, display_name="dashboard")
    shown = await suite.operator.GetApiKey(api_key_service_pb2.GetApiKeyRequest(name=key.name))
    assert (shown.name, shown.prefix, shown.display_name, shown.key) == (
        key.name,
        key.prefix,
        "dashboard",
        "",
    )
    nobodys = api_key_service_pb2.GetApiKeyRequest(name="tenants/acme/apiKeys/aaaaaaaaaaaaaaaaaaaaaa")
    assert (await raised(suite.operator.GetApiKey(nobodys))).code is grpc.StatusCode.NOT_FOUND


async def test_the_keys_of_a_suspended_tenant_are_refused_until_it_is_back(suite, raised):
    key = await suite.api_key()
    for state, works in ((tenant_pb2.TENANT_STATE_SUSPENDED, False), (tenant_pb2.TENANT_STATE_ACTIVE, True)):
        await suite.operator.UpdateTenant(
            tenant_service_pb2.UpdateTenantRequest(tenant=tenant_pb2.Tenant(name="tenants/acme", state=state))
        )
        if works:
            assert (await authenticate(suite, key.key)).api_key == key.name
        else:
            assert (await raised(authenticate(suite, key.key))).reason == "TENANT_SUSPENDED"


async def test_an_unknown_tenant_gets_no_key(suite, raised):
    assert (await raised(suite.api_key("nobody"))).code is grpc.StatusCode.NOT_FOUND


async def test_roles_include_the_one_before_and_keys_stay_in_their_tenant(suite, raised):
    await suite.tenant("other")
    viewer = suite.key((await suite.api_key(role=api_key_pb2.ROLE_VIEWER)).key)
    admin = suite.key((await suite.api_key(role=api_key_pb2.ROLE_ADMIN)).key)
    mine = api_key_service_pb2.ListApiKeysRequest(parent="tenants/acme")
    theirs = api_key_service_pb2.ListApiKeysRequest(parent="tenants/other")
    assert len((await admin.ListApiKeys(mine)).api_keys) == 2
    assert (await raised(viewer.ListApiKeys(mine))).reason == "ROLE_TOO_LOW"
    assert (await raised(admin.ListApiKeys(theirs))).code is grpc.StatusCode.NOT_FOUND


async def test_a_program_with_a_key_may_not_ask_who_holds_one(suite, raised):
    key = (await suite.api_key()).key
    request = api_key_service_pb2.AuthenticateRequest(token=key)
    for caller in (suite.key(key), suite.operator):
        assert (await raised(caller.Authenticate(request))).code is grpc.StatusCode.PERMISSION_DENIED


async def test_a_plan_bounds_a_tenants_keys_and_a_revoked_one_makes_room(suite, raised):
    tenant = tenant_pb2.Tenant(name="tenants/acme", plan=tenant_pb2.PLAN_TRIAL)
    mask = FieldMask(paths=["plan"])
    changed = await suite.operator.UpdateTenant(
        tenant_service_pb2.UpdateTenantRequest(tenant=tenant, update_mask=mask)
    )
    assert changed.quotas.api_keys == 20
    keys = [await suite.api_key() for _ in range(20)]
    error = await raised(suite.api_key())
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "API_KEYS_QUOTA")
    assert "20 API keys" in error.message
    await suite.operator.DeleteApiKey(api_key_service_pb2.DeleteApiKeyRequest(name=keys[0].name))
    assert (await suite.api_key()).key
