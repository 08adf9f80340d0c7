"""Every statement that an RPC about one tenant issues carries a condition on tenant_id."""

import re
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from google.protobuf.field_mask_pb2 import FieldMask
from sqlalchemy.engine import Engine
from trunkline.common.v1 import purge_pb2
from trunkline.tenant.v1 import (
    api_key_pb2,
    api_key_service_pb2,
    call_service_pb2,
    cost_pb2,
    cost_service_pb2,
    lead_service_pb2,
    source_pb2,
    source_service_pb2,
    tenant_pb2,
    tenant_service_pb2,
)
from trunkline_runtime.identity import access

from .conftest import record_request

# RPCs that are about no tenant, or find out which one: they are the gateway's, other services' or operators'.
NOT_ABOUT_ONE = {
    "ListTenants", "CreateTenant", "ListTombstones", "ResolveSource", "WatchSources", "Authenticate",
    "TakeRequests", "ListCosts",
}  # fmt: skip
OF_THE_GATEWAY = {"RecordCall", "RecordCallState", "EraseCall", "PurgeTenant", "ConfirmPurge"}
OF_AUDIO = {"ForgetRecording", "ForgetTranscript", "RecordCharges"}
# Tables without a tenant: one row, a number.
SUITE_TABLES = {"source_revision"}
# The one statement that forgets deletions of all tenants, on the way of deleting a source.
FORGETS = re.compile(r"source_changes\.deleted (?:IS|=) (?:\?|1|%s|true)")
# Rows that are looked for by whole keys, each with its tenant.
KEYS = re.compile(r"FROM UNNEST\(%s\) AS r INNER JOIN@\{[^}]*\} \w+ AS t ON t\.tenant_id = r\.f\d+ AND ")


def lacks_tenant(statement: str) -> bool:
    text = " ".join(statement.split())
    if text.startswith(("SAVEPOINT", "RELEASE", "ROLLBACK", "BEGIN", "PRAGMA", "SELECT 1")):
        return False
    if KEYS.search(text):
        return False
    tables = set(re.findall(r"(?:FROM|INTO|UPDATE|JOIN) (\w+)", text))
    if tables <= SUITE_TABLES:
        return False
    if text.startswith("INSERT"):
        return "tenant_id" not in text.partition(" VALUES ")[0]
    where = text.partition(" WHERE ")[2]
    return not all(re.search(rf"(?:\b{table}\.)?tenant_id (?:= (?:\?|%s)|IN \()", where) for table in tables)


@contextmanager
def statements():
    seen = []

    def listen(conn, cursor, statement, parameters, context, executemany):
        seen.append(statement)

    sa.event.listen(Engine, "before_cursor_execute", listen)
    try:
        yield seen
    finally:
        sa.event.remove(Engine, "before_cursor_execute", listen)


async def requests(suite):
    """One request, or several, for each RPC about one tenant; those that write take their longest way."""
    source = await suite.source(fetch_credential="k", provider_account="A")
    gone = await suite.source()
    key = await suite.api_key()
    await suite.record("e1", 1, provider_call_id="766", caller_number="+12148654559")
    call = await suite.record("e2", 2, provider_call_id="CAL766", caller_number="+14045558514")
    parent = "tenants/acme"
    mask = FieldMask(paths=["state"])
    return [
        ("GetTenant", tenant_service_pb2.GetTenantRequest(name=parent)),
        ("CreateSource", source_service_pb2.CreateSourceRequest(
            parent=parent, source=source_pb2.Source(provider=1, provider_account="A", secret="s"), request_id="r1")),
        ("GetSource", source_service_pb2.GetSourceRequest(name=source.name)),
        ("ListSources", source_service_pb2.ListSourcesRequest(parent=parent)),
        ("UpdateSource", source_service_pb2.UpdateSourceRequest(
            source=source_pb2.Source(name=source.name, display_name="x", fetch_credential="y"))),
        ("RotateSourceSecret", source_service_pb2.RotateSourceSecretRequest(name=source.name, secret="t")),
        ("DeleteSource", source_service_pb2.DeleteSourceRequest(name=gone.name)),
        ("CreateApiKey", api_key_service_pb2.CreateApiKeyRequest(
            parent=parent, api_key=api_key_pb2.ApiKey(role=api_key_pb2.ROLE_VIEWER))),
        ("ListApiKeys", api_key_service_pb2.ListApiKeysRequest(parent=parent)),
        ("GetApiKey", api_key_service_pb2.GetApiKeyRequest(name=key.name)),
        ("DeleteApiKey", api_key_service_pb2.DeleteApiKeyRequest(name=key.name)),
        ("GetLead", lead_service_pb2.GetLeadRequest(name=call.lead)),
        ("RecordCall", record_request("e3", 3, provider_call_id="CAL766", aliases=["766", "x"], spam=True,
            recording=f"{parent}/recordings/r1", state="CALL_STATE_FETCHING")),
        ("RecordCallState", call_service_pb2.RecordCallStateRequest(
            name=call.name, event=f"{parent}/events/e3", state="CALL_STATE_DONE", state_sequence=1)),
        ("ForgetRecording", call_service_pb2.ForgetRecordingRequest(
            name=call.name, recording=f"{parent}/recordings/r1")),
        ("GetCall", call_service_pb2.GetCallRequest(name=call.name)),
        ("ListCalls", call_service_pb2.ListCallsRequest(parent=parent, filter="spam = true")),
        ("ListLeads", lead_service_pb2.ListLeadsRequest(parent=parent)),
        ("ForgetTranscript", call_service_pb2.ForgetTranscriptRequest(
            name=call.name, transcript=f"{parent}/transcripts/t1")),
        ("EraseCall", call_service_pb2.EraseCallRequest(name=call.name)),
        ("RecordCharges", cost_service_pb2.RecordChargesRequest(
            parent=parent, charges=[cost_pb2.Charge(id=f"charge-{n}", engine="a", create_time={"seconds": n})
                                    for n in (1, 2)])),
        ("GetCosts", cost_service_pb2.GetCostsRequest(name=f"{parent}/costs")),
        ("UpdateTenant", tenant_service_pb2.UpdateTenantRequest(
            tenant=tenant_pb2.Tenant(name=parent, state=2), update_mask=mask)),
        ("DeleteTenant", tenant_service_pb2.DeleteTenantRequest(name=parent, force=True)),
        ("PurgeTenant", purge_pb2.PurgeTenantRequest(name=parent)),
        ("ConfirmPurge", tenant_service_pb2.ConfirmPurgeRequest(name=parent)),
    ]  # fmt: skip


async def test_no_statement_for_a_tenant_lacks_its_tenant(suite):
    asked = await requests(suite)
    methods = {m.rpartition("/")[2] for m in access.TABLE if m.startswith("/trunkline.tenant.")}
    assert {method for method, _ in asked} == methods - NOT_ABOUT_ONE
    for method, request in asked:
        caller = suite.gateway if method in OF_THE_GATEWAY else suite.operator
        caller = suite.audio if method in OF_AUDIO else caller
        with statements() as seen:
            await getattr(caller, method)(request)
        own = [statement for statement in seen if not FORGETS.search(statement)]
        assert own, method
        assert [statement for statement in own if lacks_tenant(statement)] == [], method


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT calls.call_id FROM calls WHERE calls.call_id = ?",
        "SELECT a.x, tenant_id FROM a",
        "UPDATE calls SET tenant_id=? WHERE call_id = ?",
        "INSERT INTO leads (lead_id) VALUES (?)",
        "DELETE FROM leads WHERE leads.lead_id = ?",
    ],
)
def test_the_check_itself_finds_what_lacks_a_tenant(statement):
    assert lacks_tenant(statement)
