"""Takes out of a log record what must not be in one: secrets, full telephone numbers, what was said.

Everything else stays readable: ids with digits in them, counts of what is secret, names of keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, MutableMapping
from functools import lru_cache
from typing import Any

MASK = "***"
_MOST_TEXT = 2000
_MOST_TRACEBACK = 12000
# A text is cut before it is searched. So much of its end is looked at and not shown: a cut may have gone through a
# number or a token, of which what is left would not be recognised.
_TAIL = 80
_MOST_KEY = 200
_MOST_DEPTH = 6
_MOST_ITEMS = 100

_SECRET_KEY = re.compile(
    r"secret|password|passwd|passphrase|authorization|credential|signature|cookie|bearer|private|"
    r"(?:^|[_-])(?:token|key|jwt|pin|auth|pwd)$|api_?key|suite_?key|access_?token|refresh_?token|session_?id",
    re.IGNORECASE,
)
# What is about a secret and is none: the id of a key, how a signature is made; and our own page tokens.
_HARMLESS_KEY = re.compile(
    r"(?:^|_)page_?token$|^group_key$|(?<!session)(?<!sessions)_(?:id|ids|kind|form|count|seconds|bytes|version|expires)$",
    re.IGNORECASE,
)
_COUNTED_KEY = re.compile(r"(?:secrets|tokens|keys|credentials|signatures)$", re.IGNORECASE)
_ID_KEY = re.compile(
    r"(?:^|_)(?:id|ids|name|call|receipt|source|recording|transcript|analysis|lead|job|replay|rejection|digest)$"
)
# Ids that people choose, and may write like a number: 2024-00123.
_CHOSEN_KEY = re.compile(r"(?:^|_)(?:tenant|source)(?:_ids?)?$")
_CHOSEN_ID = re.compile(r"[a-z0-9-]{2,40}")
_MOST_NAME = 300
_CONTENT_KEY = re.compile(
    r"(^|_)(transcript|transcripts|text|body|content|contents|payload|summary|segments|words|opening_words|utterance|"
    r"utterances|said|excerpt|snippet)$",
    re.IGNORECASE,
)
_PHONE_KEY = re.compile(
    r"phone|caller(?!_tenant$)|callee|msisdn|(^|_)(from|to|ani|dnis|tel|mobile)$"
    r"|(?:^|_)(?<!sequence_)(?<!serial_)(?<!build_)(?<!line_)(?<!page_)(?<!version_)number$",
    re.IGNORECASE,
)

# Every pattern here is linear: an expression that may begin anywhere begins only where a run of its characters does.
_TOKEN = re.compile(
    r"\b(?:Bearer|Basic)\s++[^\s,;\"']++"
    r"|(?<![A-Za-z0-9])(?:tl_[A-Za-z0-9_\-+/=.~]{4,}+|whsec_[A-Za-z0-9+/=_\-]++|eyJ[A-Za-z0-9_\-+/=.]++)",
    re.IGNORECASE,
)
_USERINFO = re.compile(r"(?<=://)[^/\s@]++@")
_NAMED = re.compile(r"(?<![\w-])([\w-]++)[\"']?+\s*+[=:]\s*+[\"']?+")
_SECRET_NAME = re.compile(
    r"secret|password|passwd|token|signature|credential|api_?key|authorization|[\w-][_-]key$|(?:sig|auth)$",
    re.IGNORECASE,
)
_VALUE = re.compile(r"(?!(?:Bearer|Basic)\s)[^\s&\"',;}]++", re.IGNORECASE)
_DATE = r"\d{4}-\d{2}-\d{2}"
_IP = r"\d{1,3}(?:\.\d{1,3}){3}(?![\d.]*\d)"
_PHONE = re.compile(
    rf"(?<![0-9A-Za-z])(?<!\d\.)(?!{_DATE}(?!\d))(?!{_IP})(?!0\.\d)\+?\(?\d(?:[\s().\-/\u00a0\u2010-\u2015]{{0,3}}\d){{8,14}}(?![0-9A-Za-z])"
)
_DIGITS = re.compile(r"\d")
_LEAST_DIGITS = 7
_NO_NUMBER = re.compile(
    rf"{_DATE}(?:[T ][\d:.]{{0,20}}(?:Z|[+-][\d:]{{2,6}})?)?|{_IP}(?::\d{{1,5}})?|tenants/\S{{1,500}}"
)
# So many in one text are held against the plans of the world's numbers; further ones are masked unasked.
_MOST_ASKED = 50


def redact(record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Return the record with every value made fit for a log; the record itself is changed."""
    for key in list(record):
        record[key] = clean(key, record[key])
    return record


def clean(key: str, value: Any, depth: int = 0) -> Any:
    """Return one value made fit for a log, judged by its key, its type and what it looks like."""
    if value is None or isinstance(value, bool):
        return value
    if len(key) > _MOST_KEY:  # no name of ours
        return MASK
    counted = isinstance(value, int | float)
    if not _HARMLESS_KEY.search(key):
        if _SECRET_KEY.search(key) and not (counted and _COUNTED_KEY.search(key)):
            return MASK
        if _CONTENT_KEY.search(key) and not counted:
            return _length(value)
    if isinstance(value, int | float):
        return (
            _digits(str(value))
            if isinstance(value, int) and _PHONE_KEY.search(key) and value >= 10**6
            else value
        )
    if isinstance(value, str):
        return _text(key, value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if depth >= _MOST_DEPTH:
        return f"<{type(value).__name__}>"
    if isinstance(value, Mapping):
        return {clean("", str(k)): clean(str(k), v, depth + 1) for k, v in list(value.items())[:_MOST_ITEMS]}
    if isinstance(value, list | tuple | set | frozenset):
        return [clean(key, v, depth + 1) for v in list(value)[:_MOST_ITEMS]]
    if hasattr(value, "DESCRIPTOR") and hasattr(value, "ByteSize"):
        return f"<{value.DESCRIPTOR.full_name} {value.ByteSize()} bytes>"
    return _text(key, str(value))


def _text(key: str, text: str) -> str:
    """Return a text cut and then masked, in this order: what it costs does not grow with what strangers send."""
    if _CHOSEN_KEY.search(key) and _CHOSEN_ID.fullmatch(text):
        return text
    most = _MOST_TRACEBACK if key in ("exception", "stack") else _MOST_TEXT
    head = text[: most + _TAIL]
    masked = mask_secrets(
        _digits(head) if _PHONE_KEY.search(key) else mask_phones(head, _ID_KEY.search(key) is not None)
    )
    if len(text) <= most:
        return masked
    return f"{masked[: min(most, len(masked) - _TAIL)]}... ({len(text)} characters)"


def mask_secrets(text: str) -> str:
    """Return a text without tokens, credentials in URLs and parameters that are named like secrets."""
    text = _TOKEN.sub(MASK, text)
    if "://" in text:
        text = _USERINFO.sub(f"{MASK}@", text)
    if "=" in text or ":" in text:
        text = "".join(_without_named(text))
    return text


def _without_named(text: str) -> Iterator[str]:
    """Give the parts of a text without the values that are named like secrets: `token=...`, `"api_key": "..."`."""
    at = 0
    for named in _NAMED.finditer(text):
        if named.start() < at or not _SECRET_NAME.search(named[1]) or _HARMLESS_KEY.search(named[1]):
            continue
        value = _VALUE.match(text, named.end())
        if value is not None:
            yield text[at : named.end()]
            yield MASK
            at = value.end()
    yield text[at:]


def mask_phones(text: str, ids: bool = False) -> str:
    """Return a text in which telephone numbers (9 to 15 digits) keep their last four digits.

    Digits in a row may be an id: they are one where no country has such a number, or where `ids` says so.
    """
    left = _MOST_ASKED

    def shown(found: re.Match[str]) -> str:
        nonlocal left
        written = found[0]
        bare = written.isdigit()
        in_name = found.string.endswith("s/", 0, found.start())
        if bare and (ids or in_name):  # calls/123
            return written
        begun = max(0, found.start() - _MOST_NAME)
        if in_name and "tenants/" in found.string[begun : found.start()]:  # tenants/2024-00123
            return written
        left -= 1
        return _mask(written) if left < 0 or written.startswith("+") or _is_phone(written, bare) else written

    return _PHONE.sub(shown, text)


@lru_cache(maxsize=4096)
def _is_phone(written: str, bare: bool) -> bool:
    """Tell whether a number may be dialled: formatted as one, if it is possible at all; digits alone if it is valid."""
    import phonenumbers  # noqa: PLC0415 - most processes never write a number

    digits = "".join(_DIGITS.findall(written))
    for text in (digits, f"+{digits.removeprefix('00')}"):
        try:
            number = phonenumbers.parse(text, "US")
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(number) or (not bare and phonenumbers.is_possible_number(number)):
            return True
    return False


def _digits(text: str) -> str:
    """Mask what is known to be a number by its key, in whatever way it is written; a time or a name is none."""
    if _NO_NUMBER.fullmatch(text):
        return text
    return _mask(text) if len(_DIGITS.findall(text)) >= _LEAST_DIGITS else text


def _mask(text: str) -> str:
    digits = "".join(_DIGITS.findall(text))
    head = f"+{digits[0]}" if text.lstrip().startswith("+") else ""
    hidden = len(digits) - 4 - len(head[1:])
    return f"{head}{'*' * hidden}{digits[-4:]}"


def _length(value: Any) -> str:
    if isinstance(value, str):
        return f"<{len(value)} characters>"
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, list | tuple | set | Mapping):
        return f"<{len(value)} items>"
    return MASK
