"""One person is one number, however it is written; who withholds a number is nobody's lead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trunkline_tenant.leads.phone_numbers import names_a_caller, read

ANN = "+14045550100"


@pytest.mark.parametrize(
    "written",
    [
        "+14045550100",
        "(404) 555-0100",
        "14045550100",
        "0014045550100",
        "tel:+14045550100",
        "404-555-0100",
        "404\u2011555\u20110100",
        "404.555.0100",
        "+1 404 555 0100",
        " 4045550100 ",
        "1 (404) 555-0100",
        "+1-404-555-0100",
        "+1-404-555-0100 (mobile)",
        "404 555 0100(Handy)",
        "404\u00a0555\u00a00100",
        "\u202a+14045550100\u202c",
        "\uff14\uff10\uff14\uff15\uff15\uff15\uff10\uff11\uff10\uff10",
        "01114045550100",
        "whatsapp:+14045550100",
        "sip:+14045550100@pstn.example.com",
        "tel:404-555-0100;phone-context=+1",
    ],
)
def test_one_person_is_one_number(written: str) -> None:
    assert read(written, "US") == (ANN, "")
    assert names_a_caller(read(written, "US").text)


@pytest.mark.parametrize(
    "written",
    [
        "404-555-0100 x12",
        "+1 (404) 555-0100 ext. 12",
        "404 555 0100 #12",
        "tel:+1-404-555-0100;ext=12",
        "4045550100,,12",
    ],
)
def test_an_extension_is_kept_apart(written: str) -> None:
    assert read(written, "US") == (ANN, "12")


@pytest.mark.parametrize(
    ("written", "region", "number"),
    [
        ("020 7946 0018", "GB", "+442079460018"),
        ("0044 20 7946 0018", "US", "+442079460018"),
        ("+44 (0)20 7946 0018", "US", "+442079460018"),
        ("(0)30 12345678", "DE", "+493012345678"),
        ("14045550100", "GB", "+14045550100"),
        ("4045550100", "", "+14045550100"),
    ],
)
def test_a_number_is_at_home_in_the_sources_region(written: str, region: str, number: str) -> None:
    assert read(written, region).text == number


@pytest.mark.parametrize(
    "written",
    [
        "",
        "anonymous",
        "Anonymous",
        "Restricted",
        "unknown",
        "Private Number",
        "+266696687",
        "266696687",
        "7378742833",
        "+7378742833",
        "+2562533",
        "8656696",
        "+86282452253",
        "client:anna",
        "client:anna12345678901",
        "sip:ann@example.com",
        "sip:anonymous@anonymous.invalid",
        "+",
        "n/a",
        "messenger:1234567890",
    ],
)
def test_who_withholds_a_number_is_nobodys_lead(written: str) -> None:
    assert not names_a_caller(read(written, "US").text)


@pytest.mark.parametrize(("written", "kept"), [("72345", "72345"), ("911", "911"), ("555 0100", "5550100")])
def test_short_numbers_stay_what_they_are(written: str, kept: str) -> None:
    assert read(written, "US").text == kept
    assert names_a_caller(kept)


@given(
    st.text(max_size=80) | st.from_regex(r"[+(]?[0-9 ().x#;,-]{1,80}"),
    st.sampled_from(["US", "DE", "", "ZZ"]),
)
def test_anything_is_read_and_what_was_read_stays(written: str, region: str) -> None:
    once = read(written, region).text
    assert read(once, region).text == once
