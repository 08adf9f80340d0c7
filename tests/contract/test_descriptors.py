"""What every proto of the suite must keep, checked on the descriptors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from buf.validate import validate_pb2
from google.api import annotations_pb2, field_behavior_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, MethodDescriptor
from trunkline_gateway.api.app import PACKAGES, public_bindings
from trunkline_gateway.api.media.app import SERVED
from trunkline_gateway.api.transcode.bindings import Binding, bindings_of, router_of, services_of
from trunkline_runtime.api.sentences import pattern_sentence
from trunkline_runtime.identity import access

INTERNAL = {
    "/trunkline.tenant.v1.ApiKeyService/Authenticate": "services only",
    "/trunkline.tenant.v1.CallService/RecordCall": "the pipeline only",
    "/trunkline.tenant.v1.CallService/RecordCallState": "the pipeline only",
    "/trunkline.tenant.v1.CallService/ForgetRecording": "the audio service, whose recordings they are",
    "/trunkline.tenant.v1.CallService/ForgetTranscript": "the audio service, whose transcripts they are",
    "/trunkline.tenant.v1.CostService/RecordCharges": "the services whose engines answer",
    "/trunkline.tenant.v1.CallService/EraseCall": "the gateway, which orchestrates deletions",
    "/trunkline.tenant.v1.SourceService/ResolveSource": "gives secrets: the gateway's identity only",
    "/trunkline.tenant.v1.SourceService/WatchSources": "gives secrets: the gateway's identity only",
    "/trunkline.audio.v1.RecordingService/FetchRecording": "the pipeline only",
    "/trunkline.ai.v1.AnalysisService/AnalyzeCall": "the pipeline only",
    "/trunkline.tenant.v1.TenantService/ListTombstones": "the gateway, which orchestrates deletions",
    "/trunkline.tenant.v1.TenantService/PurgeTenant": "the gateway, which orchestrates deletions",
    "/trunkline.tenant.v1.TenantService/ConfirmPurge": "the gateway, which orchestrates deletions",
    "/trunkline.audio.v1.AdminService/PurgeTenant": "the gateway, which orchestrates deletions",
    "/trunkline.audio.v1.AdminService/PurgeCalls": "the gateway, which orchestrates deletions",
    "/trunkline.ai.v1.AdminService/PurgeCalls": "the gateway, which orchestrates deletions",
    "/trunkline.audio.v1.AdminService/CountTenant": "the gateway composes usage",
    "/trunkline.ai.v1.AdminService/PurgeTenant": "the gateway, which orchestrates deletions",
    "/trunkline.tenant.v1.RateService/TakeRequests": "gateways, which count requests in advance",
    "/trunkline.gateway.v1.JobService/ClaimJobs": "workers only",
    "/trunkline.gateway.v1.JobService/RenewLeases": "workers only",
    "/trunkline.gateway.v1.JobService/ReportJobs": "workers only",
    "/trunkline.gateway.v1.JobService/ReleaseLeases": "workers only",
}
STANDARD = {
    "Get": ("GET", ""),
    "List": ("GET", ""),
    "Create": ("POST", None),
    "Update": ("PATCH", None),
    "Delete": ("DELETE", ""),
}
# Methods that only read, and are no standard ones: GET, so that a link or a player can use them.
READS = ("Export", "Search")
# Methods that make something without a name of its own.
CUSTOM = ("/trunkline.audio.v1.RecordingService/CreateDownloadLink",)
# An id that is not at the end of a name, and texts that only look like names.
NAMED = re.compile(r"^`tenants/\{tenant\}|^tenants/")


def rpc(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


@cache
def methods() -> dict[str, MethodDescriptor]:
    return {rpc(method): method for service in services_of(PACKAGES) for method in service.methods}


@cache
def bindings() -> dict[str, Binding]:
    return {binding.rpc: binding for binding in bindings_of(services_of(PACKAGES))}


def files() -> dict[str, Any]:
    """The suite's own .proto files, those that services' files import too."""
    found: dict[str, Any] = {}

    def take(file: Any) -> None:
        if file.name not in found and file.package.startswith("trunkline."):
            found[file.name] = file
            for needed in file.dependencies:
                take(needed)

    for method in methods().values():
        take(method.containing_service.file)
    return found


def messages() -> Iterator[Descriptor]:
    def within(message: Descriptor) -> Iterator[Descriptor]:
        if not message.GetOptions().map_entry:
            yield message
            for inner in message.nested_types:
                yield from within(inner)

    for file in files().values():
        for message in file.message_types_by_name.values():
            yield from within(message)


def enums() -> Iterator[EnumDescriptor]:
    for file in files().values():
        yield from file.enum_types_by_name.values()
    for message in messages():
        yield from message.enum_types


def rules(field: FieldDescriptor) -> Any:
    return field.GetOptions().Extensions[validate_pb2.field]


def behaviours(field: FieldDescriptor) -> set[int]:
    return set(field.GetOptions().Extensions[field_behavior_pb2.field_behavior])


ALL = sorted(methods())
PUBLIC = sorted(bindings())


@pytest.mark.parametrize("name", ALL)
def test_a_method_is_public_over_http_or_named_as_internal(name: str) -> None:
    has_rule = methods()[name].GetOptions().HasExtension(annotations_pb2.http)
    assert has_rule != (name in INTERNAL or name in SERVED)


@pytest.mark.parametrize("name", ALL)
def test_a_method_is_in_the_access_table_and_an_internal_one_is_closed_to_keys(name: str) -> None:
    rule = access.TABLE[name]
    if name in INTERNAL:
        assert rule.role is None, "an API key may call it over gRPC"


def test_the_access_table_and_the_internal_list_name_nothing_that_is_gone() -> None:
    ours = {name for name in access.TABLE if not name.startswith(("/google.longrunning.", "/envoy."))}
    assert ours <= set(methods())
    assert set(INTERNAL) <= set(methods())


@pytest.mark.parametrize("name", ALL)
def test_what_the_access_table_checks_are_fields_of_the_request(name: str) -> None:
    rule = access.TABLE[name]
    for path in filter(None, (rule.resource, *rule.also)):
        message: Descriptor | None = methods()[name].input_type
        for part in path.split("."):
            assert message is not None
            field = message.fields_by_name[part]
            message = field.message_type
        assert field.type == FieldDescriptor.TYPE_STRING
        assert not field.is_repeated


@pytest.mark.parametrize("name", ALL)
def test_a_request_that_names_a_tenants_data_is_checked_by_the_access_table(name: str) -> None:
    fields = methods()[name].input_type.fields_by_name
    for key in ("name", "parent"):
        if key in fields:
            assert access.TABLE[name].resource == key


def test_no_two_methods_take_the_same_requests() -> None:
    router_of(public_bindings())


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_method_follows_the_standard_methods(name: str) -> None:
    binding, method = bindings()[name], methods()[name]
    word = next((word for word in STANDARD if method.name.startswith(word)), None)
    if name in CUSTOM:
        word = None
    if word is None and (binding.streams or method.name.startswith(READS)):
        # An EventSource reads a stream, and only gets.
        assert (binding.method, binding.body, binding.whole_body) == ("GET", None, False)
        assert binding.template.verb
        return
    if word is None:
        assert binding.method == "POST"
        assert binding.whole_body
        assert binding.template.verb
        return
    verb, body = STANDARD[word]
    assert binding.method == verb
    assert (binding.body is None and not binding.whole_body) == (body == "")
    assert not binding.template.verb
    assert binding.template.segments[0] == "v1"


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_path_has_the_resource_that_the_access_table_checks(name: str) -> None:
    resource = access.TABLE[name].resource
    if resource:
        assert resource in bindings()[name].variables


@pytest.mark.parametrize("name", [n for n in ALL if n.rpartition("/")[2].startswith("List")])
def test_a_list_is_paged(name: str) -> None:
    asked, given = methods()[name].input_type, methods()[name].output_type
    size = asked.fields_by_name["page_size"]
    assert size.type == FieldDescriptor.TYPE_INT32
    assert (rules(size).int32.gte, rules(size).int32.lte) == (0, 500)
    assert asked.fields_by_name["page_token"].type == FieldDescriptor.TYPE_STRING
    assert given.fields_by_name["next_page_token"].type == FieldDescriptor.TYPE_STRING
    items = [field for field in given.fields if field.is_repeated]
    assert [field.number for field in items] == [1]


@pytest.mark.parametrize("name", [n for n in PUBLIC if n.rpartition("/")[2].startswith("Update")])
def test_an_update_has_a_mask_and_an_etag(name: str) -> None:
    binding = bindings()[name]
    assert binding.update_mask is not None
    assert binding.body is not None
    assert binding.body.inside is not None
    assert binding.body.inside.get("etag") is not None


@pytest.mark.parametrize("name", ALL)
def test_names_in_a_request_have_a_pattern_of_the_whole_name(name: str) -> None:
    for field in methods()[name].input_type.fields:
        if field.name not in ("name", "parent"):
            continue
        pattern = rules(field).string.pattern
        assert pattern.startswith("^tenants/"), field.full_name
        assert pattern.endswith("$"), field.full_name
        assert field_behavior_pb2.REQUIRED in behaviours(field), field.full_name
        assert re.fullmatch(pattern, "tenants/acme/../x") is None


@pytest.mark.parametrize("name", PUBLIC)
def test_a_path_matches_names_of_the_requests_pattern(name: str) -> None:
    binding = bindings()[name]
    for variable in binding.template.variables:
        if "." in variable.field:
            continue
        pattern = rules(methods()[name].input_type.fields_by_name[variable.field]).string.pattern
        sample = "/".join(
            "ab-1" if s == "*" else s for s in binding.template.segments[variable.start : variable.end]
        )
        assert re.search(pattern, sample), f"{sample} is not {pattern}"


@pytest.mark.parametrize("enum", list(enums()), ids=lambda enum: enum.full_name)
def test_an_enums_values_begin_with_its_name_and_an_unspecified(enum: EnumDescriptor) -> None:
    prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"
    assert enum.values[0].name == prefix + "UNSPECIFIED"
    assert enum.values[0].number == 0
    assert all(value.name.startswith(prefix) for value in enum.values)


def test_fields_are_named_and_typed_by_what_they_are() -> None:
    for message in messages():
        for field in message.fields:
            name = field.full_name
            assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", field.name), name
            kind = field.message_type.full_name if field.message_type is not None else ""
            if kind == "google.protobuf.Timestamp":
                assert field.name.endswith("_time"), name
            if field.name.endswith("_time") and field.type != FieldDescriptor.TYPE_STRING:
                assert kind == "google.protobuf.Timestamp", name
            if kind == "google.protobuf.FieldMask":
                assert field.name.endswith("_mask"), name


SECRET = re.compile(r"(^|_)(secret|token|credential|key|password|headers)s?$")
NO_SECRET = {"page_token", "next_page_token", "lease_token", "api_key", "api_keys", "group_key"}


def test_what_is_secret_is_marked_so_that_it_is_not_printed() -> None:
    for message in messages():
        for field in message.fields:
            is_text = field.type == FieldDescriptor.TYPE_STRING
            if is_text and SECRET.search(field.name) and field.name not in NO_SECRET:
                assert field.GetOptions().debug_redact, field.full_name


def test_what_is_secret_is_not_in_a_public_answer_but_where_it_is_shown_once() -> None:
    shown = {
        "trunkline.tenant.v1.Source.secret",  # CreateSource, when the server made it
        "trunkline.tenant.v1.Source.fetch_credential",  # INPUT_ONLY: never filled
        "trunkline.tenant.v1.NamedSecret.value",  # the same
        "trunkline.tenant.v1.RotateSourceSecretResponse.secret",
        "trunkline.tenant.v1.ApiKey.key",  # CreateApiKey
        "trunkline.audio.v1.CreateDownloadLinkResponse.path",
        "trunkline.gateway.v1.Event.body",  # GetEvent with view FULL
        "trunkline.gateway.v1.Rejection.body",
    }
    found: set[str] = set()
    seen: set[str] = set()

    def walk(message: Descriptor) -> None:
        if message.full_name in seen:
            return
        seen.add(message.full_name)
        for field in message.fields:
            if field.GetOptions().debug_redact:
                found.add(field.full_name)
            if field.message_type is not None:
                walk(field.message_type)

    for name in PUBLIC:
        walk(methods()[name].output_type)
    assert found == shown


def patterns(rules: Any) -> Iterator[str]:
    """The patterns that the rules of a field ask of it or of its items."""
    for one in (rules, rules.repeated.items):
        if one.string.HasField("pattern"):
            yield one.string.pattern


def test_every_pattern_is_told_in_words() -> None:
    for message in messages():
        for field in message.fields:
            for pattern in patterns(field.GetOptions().Extensions[validate_pb2.field]):
                assert pattern_sentence(pattern), f"{field.full_name}: {pattern} needs a sentence"
