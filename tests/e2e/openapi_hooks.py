"""What schemathesis is told of the API that no schema can say: loaded into its own process.

Texts whose grammar only their service knows are empty here, so that what is left is what the document promises.
"""

from __future__ import annotations

import uuid
from typing import Any

import schemathesis
from hypothesis import strategies as st

for name in ("page-token", "filter", "google-fieldmask"):
    schemathesis.openapi.format(name, st.just(""))

# Which options go with which provider is told by CreateSource's answers: here a source of each is made whole.
_SOURCES: dict[Any, dict[str, Any]] = {
    1: {"secret": "key", "providerAccount": "123"},
    2: {"secret": "token"},
    3: {"secret": ""},
    4: {"secret": "", "hmac": {"header": "X-Signature"}},
}
_NAMES = ("CALLRAIL", "TWILIO", "STANDARD_WEBHOOKS", "GENERIC_HMAC")
_SOURCES |= {f"PROVIDER_{name}": _SOURCES[number] for number, name in enumerate(_NAMES, 1)}
_OPTIONS = ("hmac", "mapping", "secretForm", "namedSecrets", "providerAccount", "secret")


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Make whole what the document allows and a service would refuse for the state or the sense of it."""
    if case.meta is not None and case.meta.generation.mode.is_negative:
        return
    body = case.body
    if not isinstance(body, dict):
        return
    if case.query and "requestId" in case.query:
        case.query["requestId"] = uuid.uuid4().hex  # one that was used belongs to another request
    if body.get("requestId"):
        body["requestId"] = uuid.uuid4().hex
    if case.operation.method.upper() == "PATCH":
        left_out = (*_OPTIONS, "provider", "etag")
        # A null clears a field, also one that may not be empty.
        case.body = body = {k: v for k, v in body.items() if k not in left_out and v is not None}
    for name in ("expireTime", "recordingExpireTime"):
        if body.get(name):
            body[name] = "2999-01-01T00:00:00Z"
    if case.operation.path.endswith("/uploads"):
        case.body = body = {k: v for k, v in body.items() if k not in ("sizeBytes", "call")}
        if case.query and "uploadId" in case.query:
            case.query["uploadId"] = uuid.uuid4().hex  # one that goes on is not begun again
    settings = body.get("analysisSettings")
    if isinstance(settings, dict):  # names of labels, questions, and keywords differ
        several = {name: value[:1] for name, value in settings.items() if isinstance(value, list)}
        for one in (*several.get("labels", ()), *several.get("keywords", ())):
            if isinstance(one, dict) and isinstance(one.get("name"), str):  # no pattern says what nobody sees
                one["name"] = "".join(filter(str.isprintable, one["name"])).strip() or "x"
        body["analysisSettings"] = settings | several
    if body.get("fetchAgain"):
        body["force"] = True
    if body.get("engine"):
        body["engine"] = "whisper"  # one of those that the service is set to
    if "lifetime" in body:
        body["lifetime"] = "60s"
    if case.operation.path.endswith("/sources"):
        options = _SOURCES.get(body.get("provider"), {})
        case.body = {k: v for k, v in body.items() if k not in _OPTIONS} | options
