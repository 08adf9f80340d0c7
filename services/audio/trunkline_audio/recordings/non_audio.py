"""What an answer that holds no sound rather is: whoever reads the error must know where to look."""

from __future__ import annotations

HEAD_BYTES = 1_024
_PAGE = (b"<!doctype html", b"<html", b"<head", b"<body")
_SETTING = "as mu-law, A-law, and GSM files: then the source must set headerless_format"
_UPLOAD_SETTING = "as mu-law, A-law, and GSM files: then set headerless_format"
_BOM = b"\xef\xbb\xbf"


def what_it_is(head: bytes, content_type: str, size: int) -> str:
    """Say what bytes are by their first ones and by what their host calls them, and the likely reason; no content."""
    said = f"the provider sent {size} bytes of {content_type or 'an unnamed type'}"
    begin = head.removeprefix(_BOM).lstrip().lower()
    if content_type in ("text/html", "application/xhtml+xml") or begin.startswith(_PAGE):
        return (
            f"{said}, a web page: probably a login or error page, because the credential is missing or wrong"
        )
    if content_type.endswith("json") or begin.startswith((b"{", b"[")):
        return f"{said}, a JSON document: probably an error with status 200"
    if content_type.endswith("xml") or begin.startswith(b"<?xml"):
        return f"{said}, an XML document: probably an error with status 200"
    if content_type.startswith(("audio/", "video/")):
        return f"{said}: the file is damaged or incomplete, or has no header, {_SETTING}"
    if content_type in ("", "application/octet-stream", "binary/octet-stream"):
        return f"{said}: the URL is probably not that of a recording, or the file has no header, {_SETTING}"
    return f"{said}: the URL is probably not that of a recording"


def what_was_sent(head: bytes, size: int) -> str:
    """Say what an upload is by its first bytes; no content."""
    said = f"the {size} bytes are"
    begin = head.removeprefix(_BOM).lstrip().lower()
    if begin.startswith(_PAGE):
        return f"{said} a web page"
    if begin.startswith((b"{", b"[")):
        return f"{said} a JSON document"
    if begin.startswith(b"<?xml"):
        return f"{said} an XML document"
    return f"{said} damaged or incomplete, or have no header, {_UPLOAD_SETTING}"
