"""A broken rule is told in words: nobody is shown a regular expression."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import pytest
import trunkline
from google.longrunning import operations_pb2
from google.protobuf import message_factory, symbol_database
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import ListValue, Value
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from trunkline.audio.v1 import transcription_service_pb2
from trunkline.gateway.v1 import event_service_pb2
from trunkline.tenant.v1 import (
    api_key_service_pb2,
    call_service_pb2,
    source_service_pb2,
    tenant_pb2,
    tenant_service_pb2,
)
from trunkline_runtime.api.times import NOT_A_DURATION, NOT_A_TIME, odd_times
from trunkline_runtime.api.validation import validator
from trunkline_runtime.errors import InvalidArgument
from trunkline_runtime.identity.access import TABLE
from trunkline_runtime.identity.callers import Caller, CallerKind
from trunkline_runtime.rpc import guard

IDS = "an id is 2 to 40 of a-z, 0-9 and -"


@pytest.mark.parametrize(
    ("request_", "field", "said"),
    [
        (
            call_service_pb2.GetCallRequest(name="tenants/acme/calls/x"),
            "name",
            f"must be of the form tenants/{{tenant}}/calls/{{call}}: {IDS}",
        ),
        (call_service_pb2.GetCallRequest(), "name", "is required: tenants/{tenant}/calls/{call}"),
        (event_service_pb2.PurgeEventsRequest(parent="tenants/acme"), "filter", "is required"),
        (
            api_key_service_pb2.DeleteApiKeyRequest(name="tenants/acme/apiKeys/!"),
            "name",
            f"must be of the form tenants/{{tenant}}/apiKeys/{{apiKey}}: {IDS}",
        ),
        (
            source_service_pb2.ListSourcesRequest(parent="tenants/"),
            "parent",
            f"must be of the form tenants/{{tenant}}, or tenants/-: {IDS}",
        ),
        (
            tenant_service_pb2.UpdateTenantRequest(tenant={"state": tenant_pb2.TENANT_STATE_DELETED}),
            "tenant.state",
            "cannot be TENANT_STATE_DELETED",
        ),
        (
            api_key_service_pb2.CreateApiKeyRequest(parent="tenants/acme", api_key={"display_name": "x"}),
            "api_key.role",
            "is required: one of ROLE_VIEWER, ROLE_MEMBER, ROLE_ADMIN",
        ),
        (
            api_key_service_pb2.CreateApiKeyRequest(
                parent="tenants/acme", api_key={"display_name": "x", "role": 9}
            ),
            "api_key.role",
            "must be one of ROLE_VIEWER, ROLE_MEMBER, ROLE_ADMIN",
        ),
        (
            call_service_pb2.ListCallsRequest(parent="tenants/acme", order_by="name"),
            "order_by",
            "must be one of: start_time desc, start_time, start_time asc, update_time desc, update_time, "
            "update_time asc, empty",
        ),
        (
            api_key_service_pb2.CreateApiKeyRequest(
                parent="tenants/acme", api_key={"role": 1, "expire_time": Timestamp(seconds=2**62)}
            ),
            "api_key.expire_time",
            NOT_A_TIME,
        ),
        (
            transcription_service_pb2.CreateTranscriptRequest(
                parent="tenants/acme",
                recording="tenants/acme/recordings/r-1",
                expire_time=Timestamp(seconds=1, nanos=2**31 - 1),
            ),
            "expire_time",
            NOT_A_TIME,
        ),
        (
            source_service_pb2.UpdateSourceRequest(
                source={
                    "name": "tenants/acme/sources/s-1",
                    "hmac": {"tolerance": Duration(seconds=5, nanos=-1)},
                }
            ),
            "source.hmac.tolerance",
            NOT_A_DURATION,
        ),
        (
            operations_pb2.WaitOperationRequest(timeout=Duration(seconds=1, nanos=1_000_000_000)),
            "timeout",
            NOT_A_DURATION,
        ),
    ],
)
def test_what_is_wrong_is_told_in_words(request_: Any, field: str, said: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        validator()(request_)
    assert error.value.violations == ((field, said),)


@pytest.mark.parametrize("method", [name for name, rule in TABLE.items() if rule.resource])
def test_a_request_without_its_name_is_told_the_names_form(method: str) -> None:
    """The guard looks at the name before any rule is checked."""
    for module in pkgutil.walk_packages(trunkline.__path__, "trunkline."):
        if module.name.endswith("_pb2"):
            importlib.import_module(module.name)
    service, _, rpc = method.strip("/").rpartition("/")
    found = symbol_database.Default().pool.FindServiceByName(service).methods_by_name[rpc]
    request = message_factory.GetMessageClass(found.input_type)()
    with pytest.raises(InvalidArgument) as told:
        guard.confine(Caller(CallerKind.OPERATOR), method, TABLE[method], request)
    assert f"{TABLE[method].resource}: is required: tenants/{{tenant}}" in str(told.value)


_SECONDS = st.integers(-(2**63), 2**63 - 1) | st.sampled_from(
    [0, -62135596800, -62135596801, 253402300799, 253402300800, 315576000000, -315576000001]
)
_NANOS = st.integers(-(2**31), 2**31 - 1) | st.sampled_from([0, -1, 999_999_999, 1_000_000_000])


@given(_SECONDS, _NANOS)
def test_a_time_is_odd_when_protobuf_cannot_write_it(seconds: int, nanos: int) -> None:
    for message, value in (
        (transcription_service_pb2.CreateTranscriptRequest(), Timestamp(seconds=seconds, nanos=nanos)),
        (operations_pb2.WaitOperationRequest(), Duration(seconds=seconds, nanos=nanos)),
    ):
        field = "expire_time" if isinstance(value, Timestamp) else "timeout"
        getattr(message, field).CopyFrom(value)
        try:
            value.ToJsonString()
        except ValueError:
            assert [where for where, _ in odd_times(message)] == [field]
        else:
            assert odd_times(message) == []


def test_a_type_that_holds_itself_is_looked_at_once() -> None:
    assert odd_times(Value(list_value=ListValue(values=[Value(null_value=0)]))) == []
