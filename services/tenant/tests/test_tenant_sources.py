"""Sources over gRPC: options that fit the provider, secrets that are never shown again, rotation with overlap."""

import base64

import grpc
import pytest
import sqlalchemy as sa
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from trunkline.common.v1 import audio_pb2, provider_pb2
from trunkline.tenant.v1 import source_pb2, source_service_pb2, tenant_pb2, tenant_service_pb2
from trunkline_tenant.schema import sources
from trunkline_tenant.sources import rows as source_rows

from .tenant_conformance import on_one_engine

CALLRAIL = provider_pb2.PROVIDER_CALLRAIL
TWILIO = provider_pb2.PROVIDER_TWILIO
STANDARD = provider_pb2.PROVIDER_STANDARD_WEBHOOKS
GENERIC = provider_pb2.PROVIDER_GENERIC_HMAC
HMAC = source_pb2.HmacOptions(header="X-Signature")
CONTENT = "source.hmac.signed_content"


def hmac(**options):
    return source_pb2.HmacOptions(header="X-Signature", **options)


WHSEC = "whsec_" + base64.b64encode(b"k" * 24).decode()


async def resolve(suite, source):
    return await suite.gateway.ResolveSource(
        source_service_pb2.ResolveSourceRequest(source_id=source.name.rpartition("/")[2])
    )


async def rotate(suite, source, secret="", overlap=None):
    request = source_service_pb2.RotateSourceSecretRequest(name=source.name, secret=secret)
    if overlap is not None:
        request.overlap.CopyFrom(Duration(seconds=overlap))
    return await suite.operator.RotateSourceSecret(request)


def update(source, *paths, **fields):
    return source_service_pb2.UpdateSourceRequest(
        source=source_pb2.Source(name=source.name, **fields), update_mask=FieldMask(paths=paths)
    )


async def test_a_source_shows_no_secret_and_the_gateway_gets_it(suite, tmp_path):
    source = await suite.source(fetch_credential="api-key", provider_account="ACC1")
    assert (source.secret, source.fetch_credential) == ("", "")
    assert source.hook_path == "/hooks/" + source.name.rpartition("/")[2]
    assert (source.language, source.state) == ("", source_pb2.SOURCE_STATE_ACTIVE)
    shown = await suite.operator.GetSource(source_service_pb2.GetSourceRequest(name=source.name))
    assert shown == source
    resolved = await resolve(suite, source)
    assert resolved.source == source
    assert [secret.value for secret in resolved.secrets] == ["s3cret"]
    assert (resolved.fetch_credential, resolved.accepting) == ("api-key", True)
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"s3cret" not in stored
    assert b"api-key" not in stored


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"provider": 0}, ["source.provider"]),
        ({"provider": CALLRAIL, "secret": ""}, ["source.secret"]),
        ({"provider": TWILIO, "secret": ""}, ["source.secret"]),
        ({"provider": CALLRAIL, "secret": "x\x00y"}, ["source.secret"]),
        ({"provider": CALLRAIL, "secret_form": source_pb2.SECRET_FORM_TEXT}, ["source.secret_form"]),
        ({"provider": TWILIO, "named_secrets": [{"name": "AC1"}]}, ["source.named_secrets[0].value"]),
        (
            {"provider": TWILIO, "named_secrets": [{"name": "a", "value": "x"}, {"name": "a", "value": "y"}]},
            ["source.named_secrets"],
        ),
        (
            {"provider": GENERIC, "secret": "zz", "hmac": HMAC, "secret_form": source_pb2.SECRET_FORM_HEX},
            ["source.secret"],
        ),
        ({"provider": GENERIC, "hmac": hmac(signed_content="{timestamp}")}, [CONTENT, CONTENT]),
        ({"provider": GENERIC, "hmac": hmac(signed_content="{ts}.{body}")}, [CONTENT]),
        (
            {"provider": GENERIC, "hmac": hmac(timestamp_part="t", signed_content="{body}")},
            [CONTENT],
        ),
        (
            {"provider": GENERIC, "hmac": hmac(timestamp_part="t", timestamp_header="X-T")},
            ["source.hmac.timestamp_part"],
        ),
        ({"provider": CALLRAIL, "hmac": HMAC}, ["source.hmac"]),
        ({"provider": TWILIO, "mapping": {"call_id": "id"}}, ["source.mapping"]),
        (
            {"provider": CALLRAIL, "fetch_credential": "k", "provider_account": ""},
            ["source.provider_account"],
        ),
        ({"provider": CALLRAIL, "provider_account": ""}, ["source.provider_account"]),
        (
            {"provider": CALLRAIL, "hmac": HMAC, "mapping": {"call_id": "id"}},
            ["source.hmac", "source.mapping"],
        ),
        ({"provider": STANDARD, "secret": "plain"}, ["source.secret"]),
        (
            {"provider": STANDARD, "secret": "whsec_" + base64.b64encode(b"k" * 23).decode()},
            ["source.secret"],
        ),
        (
            {"provider": STANDARD, "secret": "whsec_" + base64.b64encode(b"k" * 65).decode()},
            ["source.secret"],
        ),
        ({"provider": STANDARD, "secret": "whsec_!!!"}, ["source.secret"]),
        ({"provider": STANDARD, "secret": "", "hmac": HMAC}, ["source.hmac"]),
        ({"provider": GENERIC, "secret": "x"}, ["source.hmac"]),
        (
            {"provider": GENERIC, "hmac": HMAC, "mapping": {"kind": source_pb2.PAYLOAD_KIND_CALL}},
            ["source.mapping.recording_url"],
        ),
        (
            {"provider": GENERIC, "hmac": HMAC, "mapping": {"kind": source_pb2.PAYLOAD_KIND_TEXT}},
            ["source.mapping.text"],
        ),
        ({"provider": GENERIC, "hmac": HMAC, "mapping": {"call_id": "a..b"}}, ["source.mapping.call_id"]),
        *(
            ({"provider": GENERIC, "hmac": hmac(dedup_path=path)}, ["source.hmac.dedup_path"])
            for path in ("data..id", ".", " id ", "a\0b")
        ),
        (
            {"provider": GENERIC, "hmac": source_pb2.HmacOptions(header="Content-Type")},
            ["source.hmac.header"],
        ),
        (
            {"provider": GENERIC, "hmac": hmac(timestamp_header="x-signature")},
            ["source.hmac.timestamp_header"],
        ),
        (
            {
                "provider": GENERIC,
                "hmac": hmac(timestamp_header="X-Time", tolerance=Duration(nanos=1)),
            },
            ["source.hmac.tolerance"],
        ),
        *(
            ({"provider": CALLRAIL, "api_base_url": url}, ["source.api_base_url"])
            for url in (
                "http://[",
                "https://a\r\nb",
                "https://u:p@a",
                "https://a/?x=1",
                "https://a#y",
                "https://:1",
            )
        ),
        ({"provider": CALLRAIL, "fetch_credential": "a\r\nb"}, ["source.fetch_credential"]),
        ({"provider": CALLRAIL, "language": "en-UK"}, ["source.language"]),
    ],
)
@on_one_engine
async def test_options_that_do_not_fit_are_named(suite, raised, fields, wrong):
    error = await raised(suite.source(**fields))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [field for field, _ in error.violations] == wrong


@pytest.mark.parametrize(
    "fields",
    [
        {"provider": TWILIO, "secret": "token"},
        {"provider": STANDARD, "secret": WHSEC},
        {"provider": STANDARD, "secret": "whsec_" + base64.b64encode(b"k" * 64).decode()},
        {"provider": GENERIC, "hmac": HMAC, "mapping": {"call_id": "data.call.id"}},
    ],
)
async def test_options_that_fit_are_taken(suite, fields):
    assert (await suite.source(**fields)).provider == fields["provider"]


@pytest.mark.parametrize("fields", [{"provider": STANDARD}, {"provider": GENERIC, "hmac": HMAC}])
async def test_a_secret_that_the_receiver_chooses_is_made_and_shown_once(suite, fields):
    source = await suite.source(secret="", request_id="r1", **fields)
    assert len(source.secret) > 32
    assert [s.value for s in (await resolve(suite, source)).secrets] == [source.secret]
    assert await suite.source(secret="", request_id="r1", **fields) == source
    shown = await suite.operator.GetSource(source_service_pb2.GetSourceRequest(name=source.name))
    assert shown.secret == ""


async def test_a_repeated_create_makes_one_source(suite):
    first = await suite.source(request_id="r1")
    assert await suite.source(request_id="r1") == first
    listed = await suite.operator.ListSources(source_service_pb2.ListSourcesRequest(parent="tenants/acme"))
    assert list(listed.sources) == [first]


async def test_an_unknown_tenant_gets_no_source(suite, raised):
    assert (await raised(suite.source("nobody"))).code is grpc.StatusCode.NOT_FOUND


async def test_what_is_left_out_of_hmac_is_filled_in(suite):
    hmac = source_pb2.HmacOptions(header="X-Signature", timestamp_header="X-Time")
    shown = (await suite.source(provider=GENERIC, hmac=hmac)).hmac
    assert (shown.hash, shown.encoding) == (
        source_pb2.HASH_ALGORITHM_SHA256,
        source_pb2.SIGNATURE_ENCODING_HEX,
    )
    assert shown.tolerance.seconds == 300


async def test_an_update_changes_the_mask_and_reaches_the_gateway(suite, raised):
    source = await suite.source(display_name="old", provider_account="ACC1", fetch_credential="one")
    before = await resolve(suite, source)
    after = await suite.operator.UpdateSource(
        update(
            source, "display_name", "fetch_credential", "language", display_name="new", fetch_credential="two"
        )
    )
    assert (after.display_name, after.language, after.provider_account) == ("new", "", "ACC1")
    resolved = await resolve(suite, source)
    assert (resolved.fetch_credential, resolved.source) == ("two", after)
    assert resolved.revision > before.revision
    error = await raised(suite.operator.UpdateSource(update(source, "provider_account")))
    assert error.violations[0][0] == "source.provider_account"
    await suite.operator.UpdateSource(update(source, "fetch_credential"))
    assert (await resolve(suite, source)).fetch_credential == ""
    error = await raised(suite.operator.UpdateSource(update(source, "provider_account")))
    assert error.violations[0][0] == "source.provider_account"


async def test_what_recordings_without_a_header_are_reaches_the_gateway(suite):
    source = await suite.source()
    gsm = audio_pb2.HEADERLESS_FORMAT_GSM
    await suite.operator.UpdateSource(update(source, "headerless_format", headerless_format=gsm))
    assert (await resolve(suite, source)).source.headerless_format == gsm


async def test_a_callrail_source_without_an_account_is_told_where_to_find_it(suite, raised):
    error = await raised(suite.source(provider_account=""))
    assert "the number behind /a/ in the URL of CallRail's pages" in error.message
    twilio = await suite.source(provider=TWILIO)
    assert twilio.provider_account == ""


async def test_one_of_an_earlier_release_that_has_none_can_be_changed_in_all_else(suite):
    source = await suite.source()
    old = source_pb2.Source()
    old.CopyFrom(source)
    old.provider_account = ""
    options = source_rows.options_of(old)
    await suite.app.db.write(
        lambda conn: conn.execute(sa.update(sources).where(sources.c.source_id != "").values(options=options))
    )
    changed = await suite.operator.UpdateSource(update(source, "display_name", display_name="new"))
    assert (changed.display_name, changed.provider_account) == ("new", "")


async def test_an_update_of_nothing_gives_no_revision(suite):
    source = await suite.source(display_name="old", provider_account="A", fetch_credential="one")
    before = await resolve(suite, source)
    suite.clock.advance(1)
    same = update(source, "display_name", "fetch_credential", display_name="old", fetch_credential="one")
    assert await suite.operator.UpdateSource(same) == source
    assert (await resolve(suite, source)).revision == before.revision


@pytest.mark.parametrize(
    ("paths", "fields", "field"),
    [
        (["secret"], {"secret": "x"}, "source.secret"),
        ([], {"secret": "x"}, "source.secret"),
        (["provider"], {"provider": TWILIO}, "update_mask"),
        ([], {"provider": TWILIO, "display_name": "x"}, "source.provider"),
        (["hmac.header"], {}, "update_mask"),
        (["hmac"], {"hmac": HMAC}, "source.hmac"),
    ],
)
@on_one_engine
async def test_an_update_that_cannot_be_names_why(suite, raised, paths, fields, field):
    source = await suite.source()
    error = await raised(suite.operator.UpdateSource(update(source, *paths, **fields)))
    assert error.violations[0][0] == field


async def test_old_etags_are_aborted_and_deleted_sources_are_gone(suite, raised):
    source = await suite.source()
    await suite.operator.UpdateSource(update(source, "display_name", display_name="x", etag=source.etag))
    stale = update(source, "display_name", display_name="y", etag=source.etag)
    assert (await raised(suite.operator.UpdateSource(stale))).code is grpc.StatusCode.ABORTED
    delete = source_service_pb2.DeleteSourceRequest(name=source.name, etag=source.etag)
    assert (await raised(suite.operator.DeleteSource(delete))).code is grpc.StatusCode.ABORTED
    delete.etag = ""
    await suite.operator.DeleteSource(delete)
    assert (await raised(resolve(suite, source))).code is grpc.StatusCode.NOT_FOUND
    assert (await raised(suite.operator.DeleteSource(delete))).code is grpc.StatusCode.NOT_FOUND


async def test_rotation_overlaps(suite):
    source = await suite.source()
    answer = await rotate(suite, source, "second", overlap=60)
    assert answer.secret == ""
    resolved = await resolve(suite, source)
    assert [s.value for s in resolved.secrets] == ["second", "s3cret"]
    assert not resolved.secrets[0].HasField("expire_time")
    assert resolved.secrets[1].expire_time.ToDatetime() == suite.clock.now().replace(tzinfo=None).replace(
        minute=1
    )
    suite.clock.advance(61)
    assert [s.value for s in (await resolve(suite, source)).secrets] == ["second"]


async def test_rotation_without_overlap_ends_the_old_ones_at_once(suite):
    source = await suite.source()
    await rotate(suite, source, "second", overlap=3600)
    await rotate(suite, source, "third", overlap=0)
    assert [s.value for s in (await resolve(suite, source)).secrets] == ["third"]


async def test_rotating_to_the_same_secret_again_changes_nothing(suite):
    source = await suite.source()
    first = await rotate(suite, source, "second")
    revision = (await resolve(suite, source)).revision
    suite.clock.advance(5)
    assert await rotate(suite, source, "second") == first
    assert (await resolve(suite, source)).revision == revision


async def test_rotating_back_puts_the_old_secret_first_for_good(suite):
    source = await suite.source()
    await rotate(suite, source, "second", overlap=60)
    await rotate(suite, source, "s3cret", overlap=60)
    suite.clock.advance(3600)
    assert [s.value for s in (await resolve(suite, source)).secrets] == ["s3cret"]


async def test_many_rotations_keep_a_bounded_number(suite):
    source = await suite.source()
    for index in range(12):
        await rotate(suite, source, f"secret-{index}")
    assert len((await resolve(suite, source)).secrets) == 8


async def test_rotation_makes_a_secret_only_where_the_receiver_chooses(suite, raised):
    standard = await suite.source(provider=STANDARD, secret=WHSEC)
    made = (await rotate(suite, standard)).secret
    assert [s.value for s in (await resolve(suite, standard)).secrets] == [made, WHSEC]
    error = await raised(rotate(suite, await suite.source()))
    assert error.violations[0][0] == "secret"


async def test_a_disabled_source_or_a_suspended_tenant_accepts_nothing(suite):
    source = await suite.source()
    await suite.operator.UpdateSource(update(source, "state", state=source_pb2.SOURCE_STATE_DISABLED))
    assert not (await resolve(suite, source)).accepting
    await suite.operator.UpdateSource(update(source, "state", state=source_pb2.SOURCE_STATE_ACTIVE))
    assert (await resolve(suite, source)).accepting
    suspended = tenant_pb2.Tenant(name="tenants/acme", state=tenant_pb2.TENANT_STATE_SUSPENDED)
    await suite.operator.UpdateTenant(tenant_service_pb2.UpdateTenantRequest(tenant=suspended))
    assert not (await resolve(suite, source)).accepting


async def test_an_operator_lists_every_tenants_sources_in_pages_and_a_key_its_own(suite, raised):
    await suite.tenant("beta")
    made = {(await suite.source(tenant)).name for tenant in ("acme", "beta", "acme", "beta", "beta")}
    names, token = [], ""
    while True:
        page = await suite.operator.ListSources(
            source_service_pb2.ListSourcesRequest(parent="tenants/-", page_size=2, page_token=token)
        )
        names += [source.name for source in page.sources]
        token = page.next_page_token
        if not token:
            break
    assert names == sorted(made)
    key = suite.key((await suite.api_key()).key)
    mine = await key.ListSources(source_service_pb2.ListSourcesRequest(parent="tenants/acme"))
    assert len(mine.sources) == 2
    for parent in ("tenants/-", "tenants/beta"):
        error = await raised(key.ListSources(source_service_pb2.ListSourcesRequest(parent=parent)))
        assert error.code is grpc.StatusCode.NOT_FOUND


async def test_secrets_go_to_the_gateway_alone(suite, raised):
    source = await suite.source()
    request = source_service_pb2.ResolveSourceRequest(source_id=source.name.rpartition("/")[2])
    for caller in (suite.audio, suite.operator, suite.key((await suite.api_key()).key)):
        assert (await raised(caller.ResolveSource(request))).code is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"provider": CALLRAIL, "secret": " key\n"}, "key"),
        ({"provider": TWILIO, "secret": "\u200btoken\u00a0"}, "token"),
        ({"provider": STANDARD, "secret": f" v1,{WHSEC}"}, WHSEC),
        ({"provider": STANDARD, "secret": WHSEC.rstrip("=")}, WHSEC),
        ({"provider": STANDARD, "secret": WHSEC.replace("+", "-").replace("/", "_")}, WHSEC),
        (
            {"provider": STANDARD, "secret": "as it is", "secret_form": source_pb2.SECRET_FORM_TEXT},
            "as it is",
        ),
        ({"provider": STANDARD, "secret": "a2V5", "secret_form": source_pb2.SECRET_FORM_BASE64}, "a2V5"),
        (
            {"provider": GENERIC, "hmac": HMAC, "secret": "AB CD", "secret_form": source_pb2.SECRET_FORM_HEX},
            "abcd",
        ),
    ],
)
@on_one_engine
async def test_secrets_are_taken_as_people_paste_them(suite, fields, kept):
    source = await suite.source(**fields)
    assert [s.value for s in (await resolve(suite, source)).secrets] == [kept]


async def named(suite, source):
    return [(s.name, s.value) for s in (await resolve(suite, source)).secrets]


async def test_secrets_with_names_last_beside_the_sources_own(suite, raised):
    given = [{"name": "AC2", "value": " two "}, {"name": "AC1", "value": "one"}]
    source = await suite.source(provider=TWILIO, secret="parent", named_secrets=given)
    assert [(s.name, s.value) for s in source.named_secrets] == [("AC2", ""), ("AC1", "")]
    assert await named(suite, source) == [("", "parent"), ("AC1", "one"), ("AC2", "two")]
    await rotate(suite, source, "next")
    suite.clock.advance(30 * 86_400)
    assert await named(suite, source) == [("", "next"), ("AC1", "one"), ("AC2", "two")]

    async def change(*wanted):
        return await suite.operator.UpdateSource(update(source, "named_secrets", named_secrets=wanted))

    await change({"name": "AC1"}, {"name": "AC3", "value": "three"})
    assert await named(suite, source) == [("", "next"), ("AC1", "one"), ("AC3", "three")]
    await change({"name": "AC1", "value": "another"})
    assert await named(suite, source) == [("", "next"), ("AC1", "another")]
    error = await raised(change({"name": "AC9"}))
    assert error.violations[0][0] == "source.named_secrets[0].value"
    await change()
    assert await named(suite, source) == [("", "next")]


async def test_rotating_twice_a_day_apart_lets_go_of_the_first(suite):
    source = await suite.source(secret="first")
    await rotate(suite, source, "second")
    suite.clock.advance(86_400)
    await rotate(suite, source, "third")
    assert [s.value for s in (await resolve(suite, source)).secrets] == ["third", "second"]


async def test_a_region_must_have_telephone_numbers(suite, raised):
    error = await raised(suite.source(region="ZZ"))
    assert error.violations[0][0] == "source.region"
    source = await suite.source(region="GB")
    error = await raised(suite.operator.UpdateSource(update(source, "region", region="ZZ")))
    assert error.violations[0][0] == "source.region"
    changed = await suite.operator.UpdateSource(update(source, "region", region="MX"))
    assert changed.region == "MX"
