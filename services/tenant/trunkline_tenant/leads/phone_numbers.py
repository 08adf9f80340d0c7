"""Telephone numbers as people, forms and carriers write them: one form for each, so that one person is one lead."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumber, PhoneNumberFormat, ValidationResult

DEFAULT_REGION = "US"
_INPUT_MOST = 200
_FORMATTING = re.compile(r"[\s().\-/\u2010-\u2015]+")
# Such as `(mobile)` behind a number.
_KIND = re.compile(r"\([^()0-9]{1,30}\)\Z")
_PLAIN = re.compile(r"\+?[0-9]{3,15}")
# What stands before a number where it is an address: `tel:`, `whatsapp:`, a number's SIP address at a carrier.
_SCHEME = re.compile(
    r"(?:whatsapp|sms|rcs|sips?):(\+?[0-9]{3,15})(?:@.*)?", re.IGNORECASE | re.ASCII | re.DOTALL
)
_OTHER_ADDRESS = re.compile(r"(?!tel:)[a-z]{2,20}:", re.IGNORECASE | re.ASCII)
# What carriers send in place of a number that is withheld, spelled on a keypad: ANONYMOUS, RESTRICTED, BLOCKED,
# UNKNOWN, UNAVAILABLE, PRIVATE.
_WITHHELD = {"266696687", "7378742833", "2562533", "8656696", "86282452253", "7748283"}


class KnownNumber(NamedTuple):
    """A number in the form it is known by, and what it is extended by within a company."""

    text: str
    extension: str = ""


@lru_cache(maxsize=8192)
def read(written: str, region: str = "") -> KnownNumber:
    """Return a number in E.164 where it can be read as one of the region, or of any country; else as plain as it gets.

    `region` is where numbers without a country code are at home, US when empty. Anything that is no number, such
    as `anonymous`, stays as it is.
    """
    text = _KIND.sub("", written.strip()[: _INPUT_MOST + 1]).rstrip()
    address = _SCHEME.fullmatch(text)
    text = address[1] if address else text
    plain = _FORMATTING.sub("", text)
    if not _PLAIN.fullmatch(plain):
        plain = ""
    if len(text) > _INPUT_MOST or _OTHER_ADDRESS.match(text) or plain.lstrip("+") in _WITHHELD:
        return KnownNumber(plain or written)
    found = _parsed(text, region or DEFAULT_REGION)
    if found is None:
        return KnownNumber(plain or written)
    return KnownNumber(phonenumbers.format_number(found, PhoneNumberFormat.E164), found.extension or "")


def names_a_caller(number: str) -> bool:
    """Tell whether a number belongs to somebody: not withheld, not a word such as `anonymous`."""
    return _PLAIN.fullmatch(number) is not None and number.lstrip("+") not in _WITHHELD


def _parsed(text: str, region: str) -> PhoneNumber | None:
    """Return the number that a text most likely is: valid where it is at home, valid anywhere, possible at all."""
    digits = text.lstrip("+ (")
    abroad = digits[2:] if digits.startswith("00") else digits
    readings: list[PhoneNumber] = []
    for written in dict.fromkeys((text, f"+{abroad}")):
        reading = _read(written, region)
        if reading is not None and phonenumbers.is_valid_number(reading):
            return reading
        if reading is not None:
            readings.append(reading)
    for reading in readings:
        if phonenumbers.is_possible_number_with_reason(reading) == ValidationResult.IS_POSSIBLE:
            return reading
    return None


def _read(text: str, region: str) -> PhoneNumber | None:
    try:
        return phonenumbers.parse(text, region)
    except NumberParseException:
        return None
