"""Nothing in a log shows a secret, a telephone number in full, or what was said."""

from __future__ import annotations

import json
import logging
import re
import time
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from trunkline.tenant.v1 import call_pb2
from trunkline_runtime.identity.callers import Caller, CallerKind, Role
from trunkline_runtime.observe import logs
from trunkline_runtime.observe.redact import clean, redact

DIGITS = "0123456789"
NATIONAL = st.text(alphabet=DIGITS, min_size=10, max_size=10).filter(lambda d: d[0] not in "01")
# Digits in a row are a number only where somebody may have it.
VALID = st.builds(
    lambda area, exchange, line: f"{area}{exchange}{line:04}",
    st.sampled_from(["212", "415", "305", "646", "972"]),
    st.integers(201, 989).filter(lambda n: n % 100 != 11 and n != 555),
    st.integers(0, 9999),
)
E164 = st.text(alphabet=DIGITS, min_size=9, max_size=15).filter(lambda d: d[0] != "0")


@st.composite
def phones(draw: Any) -> str:
    """A telephone number in one of the ways that people and providers write them."""
    d, valid = draw(NATIONAL), draw(VALID)
    return draw(
        st.sampled_from(
            [
                f"+1{d}",
                valid,
                f"1{valid}",
                f"({d[:3]}) {d[3:6]}-{d[6:]}",
                f"{d[:3]}-{d[3:6]}-{d[6:]}",
                f"{d[:3]}.{d[3:6]}.{d[6:]}",
                f"{d[:3]} {d[3:6]} {d[6:]}",
                f"+1 {d[:3]} {d[3:6]} {d[6:]}",
                f"+1-{d[:3]}-{d[3:6]}-{d[6:]}",
                f"1 ({d[:3]}) {d[3:6]}-{d[6:]}",
                f"+44 {d[:2]} {d[2:6]} {d[6:]}",
                f"+{draw(E164)}",
                f"({d[:3]}){d[3:6]}-{d[6:]}",
            ]
        )
    )


def digits(text: str) -> str:
    return re.sub(r"\D", "", text)


AROUND = st.sampled_from(
    ["", " ", "call ", "from:", "(", '"', "caller=", "tel:", "a, ", "<", "to/", "_", "sip:"]
)
AFTER = st.sampled_from(["", " ", ".", ",", ")", '"', "; ok", ">", "@host", "\n", "_", " said"])


@given(
    phones(),
    AROUND,
    AFTER,
    st.sampled_from(["error", "event", "url", "caller_number", "from", "details", "exception"]),
)
def test_a_phone_number_keeps_its_last_four_digits_wherever_it_stands(
    phone: str, before: str, after: str, key: str
) -> None:
    shown = clean(key, f"{before}{phone}{after}")
    number = digits(phone)
    assert number not in digits(shown)
    assert number[-4:] in shown
    assert len(digits(shown)) <= 5


@given(phones(), phones())
def test_every_number_of_a_text_is_masked(one: str, two: str) -> None:
    shown = clean("error", f"from {one} to {two}")
    assert digits(one) not in digits(shown)
    assert digits(two) not in digits(shown)


@given(E164)
def test_a_number_as_an_integer_is_masked_under_its_key(number: str) -> None:
    assert digits(number) not in str(clean("caller_number", int(number)))


def test_the_form_of_a_masked_number() -> None:
    assert clean("caller_number", "+14155554559") == "+1******4559"


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21T10:40:00.123456Z",
        "2026-11-21 10:40:00",
        "127.0.0.1:50051",
        "192.168.100.200:8080",
        "0.12345678901",
        "tenants/acme/calls/3f9a1c0d2b7e",
        "550e8400-e29b-41d4-a716-44665544000a",
        "sqlite:///var/tenant.db",
        "took 1234.5 ms",
        "HTTP 503 after 3 attempts",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "call 900000123 of 1795186800, at 1795186800000",
        "tenants/acme/calls/2125550123",
        "order 123456789012345",
        "page_token=WyJhYmMiLDEyM10 api_key_id=k123456",
        "signature_kind=sha1",
    ],
)
def test_what_is_no_number_of_a_person_stays_readable(text: str) -> None:
    assert clean("error", text) == text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("call_id", "2125550123"),
        ("source", "9000001234"),
        ("key_id", "3f9a1c0d2b7e"),
        ("api_key_id", "3f9a1c0d2b7e"),
        ("api_key_ids", ["3f9a1c0d2b7e"]),
        ("page_token", "WyJhYmMiLDEyM10"),
        ("events_page_token", "WyJhYmMiLDEyM10"),
        ("segments", 12),
        ("words", 340),
        ("secrets", 3),
        ("secret_count", 3),
        ("signature_kind", "sha1"),
        ("sequence_number", 12345678),
        ("from", "2026-11-21T10:40:00Z"),
        ("to", "2026-11-21"),
        ("caller", "tenants/acme/apiKeys/3f9a1c0d2b7e"),
        ("caller_tenant", "shop-2024-0012"),
    ],
)
def test_what_is_about_a_secret_or_a_person_and_is_none_stays_readable(key: str, value: Any) -> None:
    assert clean(key, value) == value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("secret", 123456),
        ("pin", 1234),
        ("session_id", "abcdefgh"),
        ("api_key", "abcdefgh"),
        ("token", 12),
        ("call_id", "+12125550123"),
        ("source", "(212) 555-0123"),
    ],
)
def test_what_is_one_does_not(key: str, value: Any) -> None:
    assert str(value) not in str(clean(key, value))


@pytest.mark.parametrize("key", ["e27utsyrzblcsrwthvbqmf", "2345672abcd23456723456", "2125550123"])
def test_a_line_says_which_key_called(key: str) -> None:
    caller = Caller(CallerKind.API_KEY, tenant="acme", role=Role.ADMIN, subject=key)
    assert redact(dict(caller.facts())) == {"caller": "api_key", "api_key_id": key}
    gateway = Caller(CallerKind.SERVICE, "gateway")
    assert redact(dict(gateway.facts())) == {"caller": "service:gateway"}
    user = Caller(CallerKind.USER, "u7-2b", "acme", Role.ADMIN)
    assert redact(dict(user.facts())) == {"caller": "user:u7-2b"}


@pytest.mark.parametrize("tenant", ["2024-00123", "202-555-0143", "2125550143", "00123-2024-99"])
def test_a_tenants_or_sources_id_that_is_written_like_a_number_stays_readable(tenant: str) -> None:
    for key in ("tenant", "tenant_id", "caller_tenant", "source", "source_id"):
        assert clean(key, tenant) == tenant
    name = f"tenants/{tenant}/sources/{tenant}"
    assert clean("resource", name) == name
    assert clean("error", f"{name} was not found") == f"{name} was not found"


def test_so_written_it_is_masked_in_free_text_and_in_other_fields() -> None:
    for key in ("event", "error", "display_name", "tenant_phone"):
        assert "2024-00123" not in str(clean(key, "ask 2024-00123 or 202-555-0143"))
        assert "555-0143" not in str(clean(key, "ask 2024-00123 or 202-555-0143"))
    assert "555" not in clean("tenant", "call +1 202-555-0143")
    assert "555" not in clean("name", "202-555-0143")


def test_a_text_full_of_numbers_costs_little() -> None:
    text = " ".join(str(2_125_550_000 + n) for n in range(2000))
    began = time.thread_time()
    shown = clean("exception", text)
    assert time.thread_time() - began < 0.1
    assert "2125550100" not in shown


SECRETS = st.text(
    alphabet="abcdefghijklmnopqrstuvwxyzABCDEFGHIJ0123456789+/_-", min_size=12, max_size=60
).map(lambda s: "Zq" + s)
SECRET_KEYS = st.sampled_from(
    [
        "secret",
        "signing_key",
        "api_key",
        "apiKey",
        "token",
        "authorization",
        "Authorization",
        "password",
        "fetch_credential",
        "webhook_secret",
        "access_token",
        "signature",
        "x-twilio-signature",
        "cookie",
        "set-cookie",
        "private_key",
        "client_secret",
        "SIGNING_KEY",
        "key",
        "bearer",
        "proxy-authorization",
    ]
)


@given(SECRET_KEYS, SECRETS)
def test_what_is_named_like_a_secret_is_not_shown_at_any_depth(key: str, secret: str) -> None:
    record = {
        "event": "x",
        key: secret,
        "headers": {key: secret},
        "list": [{"deep": {key: [secret]}}],
        "bytes": secret.encode(),
    }
    assert secret not in json.dumps(redact(record))


@given(
    SECRETS,
    st.sampled_from(
        [
            "Bearer {}",
            "Authorization: Bearer {}",
            "authorization='bearer {}'",
            "Basic {}",
            "tl_{}",
            "key tl_{} used",
            "whsec_{}",
            "https://h/x?token={}",
            "https://h/x?a=1&api_key={}&b=2",
            "https://user:{}@host/x",
            "postgres://{}@host/db",
            "password={}",
            "'secret': '{}'",
            '{{"client_secret": "{}"}}',
            "X-Signature: {}",
            "eyJhbGciOiJIUzI1NiJ9.{}",
            "eyJhbGciOiJIUzI1NiJ9.{}.c2ln",
            "signing_key={}",
            "access_token: {}",
        ]
    ),
)
def test_a_secret_inside_a_text_is_not_shown(secret: str, form: str) -> None:
    # In a URL's user part a slash would end it: then it is a path, and no credential.
    if "@" in form:
        secret = secret.replace("/", "x")
    for key in ("event", "error", "exception", "url"):
        assert secret not in clean(key, f"it failed: {form.format(secret)} (again)")


WORDS = st.text(alphabet="abcdefghijklmnop qrstuvwxyz", min_size=20, max_size=200).map(lambda s: "zzq" + s)


@given(
    WORDS,
    st.sampled_from(
        [
            "transcript",
            "text",
            "body",
            "content",
            "summary",
            "segments",
            "opening_words",
            "raw_body",
            "message_text",
        ]
    ),
)
def test_what_was_said_is_only_measured(words: str, key: str) -> None:
    shown = json.dumps(
        redact({"event": "x", key: words, "nested": {key: [words]}, "bytes": {key: words.encode()}})
    )
    assert words not in shown
    assert f"{len(words)} characters" in shown


def test_messages_and_bytes_are_named_and_not_shown() -> None:
    call = call_pb2.Call(name="tenants/acme/calls/abc", caller_number="+14155554559")
    shown = redact({"event": "x", "call": call, "raw": b"+14155554559"})
    assert "4155554559" not in str(shown)
    assert shown["call"].startswith("<trunkline.tenant.v1.Call ")
    assert shown["raw"] == "<12 bytes>"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=10,
    )
)
def test_any_record_can_be_cleaned_and_written(value: Any) -> None:
    assert json.dumps(redact({"event": "x", "value": value}), default=str)


def test_a_record_without_an_end_has_one_in_the_log() -> None:
    endless: dict[str, Any] = {}
    endless["self"] = endless
    assert (
        len(
            json.dumps(
                redact({"event": "x", "value": endless, "long": "a" * 10**6, "many": list(range(10**5))})
            )
        )
        < 10_000
    )


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Any:
    """Gives what was written to stdout; the process's logging is put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield lambda: capsys.readouterr().out
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_json_lines_carry_the_bound_facts_and_nothing_private(output: Any) -> None:
    logs.configure("tenant", "json", "info")
    log = logs.get_logger("trunkline_tenant.calls.service")
    with logs.bind(tenant="acme", event_id="e1"):
        try:
            raise ValueError("Bearer abcdef123456 from +14155554559")
        except ValueError:
            log.exception("call_failed", token="tl_abcdef")
    log.info("after")
    log.debug("not shown")
    text = output()
    first, second = map(json.loads, text.splitlines())
    assert first["event"] == "call_failed"
    assert (first["tenant"], first["event_id"], first["service"], first["level"]) == (
        "acme",
        "e1",
        "tenant",
        "error",
    )
    assert first["module"] == "trunkline_tenant.calls.service"
    assert "ValueError" in first["exception"]
    for private in ("abcdef", "4155554559"):
        assert private not in text
    assert "tenant" not in second
    assert second["timestamp"].startswith("20")


def test_a_line_has_no_characters_that_steer_a_terminal_and_none_is_lost_for_half_a_character(
    output: Any,
) -> None:
    logs.configure("tenant", "json", "info")
    said = "http://h/hooks/a?x=\x1b[31m\u2028\u0085\u009b31m\ud800 \u00e9"
    logs.get_logger("x").info("seen", url=said)
    text = output()
    assert text.isascii()
    assert text.count("\n") == 1
    assert json.loads(text)["url"] == said


def test_a_console_line_with_half_a_character_is_written(output: Any) -> None:
    logs.configure("tenant", "console", "info")
    logs.get_logger("x").info("half_\ud800")
    assert "half_" in output()


@pytest.mark.parametrize("fmt", ["json", "console"])
def test_the_standard_librarys_records_go_the_same_way(output: Any, fmt: str) -> None:
    logs.configure("tenant", fmt, "info")
    try:
        raise KeyError("password=hunter2hunter2")
    except KeyError:
        logging.getLogger("some.library").exception(
            "called %s with %s", "+14155554559", "Bearer abcdef123456"
        )
    logging.getLogger("httpx").info("GET https://host/?token=abcdef123456")
    text = output()
    assert "some.library" in text
    assert "4559" in text
    for private in ("4155554559", "abcdef123456", "hunter2"):
        assert private not in text
    assert "httpx" not in text


@pytest.mark.parametrize("unit", ["a", "secret", "eyJ-", "1 ", "key-", "a=", "://a", "Bearer "])
@pytest.mark.parametrize("key", ["resource", "exception", "caller_number"])
def test_a_long_text_costs_a_log_line_no_more_than_a_short_one(key: str, unit: str) -> None:
    """A name of 6,000 letters and an `=` once stopped the gateway for three seconds and a half."""
    for length in (6_000, 1_000_000):
        text = f"tenants/zz/calls/{unit * (length // len(unit))}="
        began = time.thread_time()
        shown = clean(key, text)
        assert time.thread_time() - began < 0.05
        assert len(shown) < 13_000


@given(
    st.integers(0, 200),
    st.sampled_from(["+1 (415) 555-4559", "Bearer abcdef123456", "tl_abcdef123456", "token=abcdef123456"]),
)
def test_what_the_cut_goes_through_is_not_shown_either(before: int, private: str) -> None:
    shown = clean("error", "x " * 900 + "y" * before + " " + private + " " + "z " * 2_000)
    assert "abcdef" not in shown
    assert "4155" not in digits(shown)
    assert shown.endswith(" characters)")


def test_a_key_of_outside_that_is_long_is_no_key() -> None:
    assert clean("k" * 100_000, "value") == "***"
