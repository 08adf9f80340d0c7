"""What the errors of a bucket mean: a moment's trouble, or a set-up that somebody has to mend."""

from __future__ import annotations

import http.client
from typing import Any

from trunkline_runtime.errors import Unavailable

REFUSED = "BLOBS_REFUSED"
UNAVAILABLE = "BLOBS_UNAVAILABLE"
_PASSING = {408, 429, 500, 502, 503, 504}
_RETRY_SECONDS = 5.0
_MOST = 300


def is_passing(error: BaseException) -> bool:
    """Whether the same request may succeed in a moment."""
    from google.auth.exceptions import TransportError  # noqa: PLC0415 -- loaded where a bucket is used
    from requests import RequestException  # noqa: PLC0415
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    code = _code(error)
    if code is not None:
        return code in _PASSING
    lost = (ConnectionError, TimeoutError, http.client.HTTPException)
    return isinstance(error, (*lost, RequestException, HTTPError, TransportError))


def is_of_the_disk(error: BaseException) -> bool:
    """Whether this machine's own files failed, not the bucket."""
    from requests import RequestException  # noqa: PLC0415

    return isinstance(error, OSError) and not isinstance(
        error, ConnectionError | TimeoutError | RequestException
    )


def unavailable(error: Exception, bucket: str) -> Unavailable:
    """Return what the service raises for an error of the client library. No recording is lost over either kind."""
    from google.api_core.exceptions import RetryError  # noqa: PLC0415

    if isinstance(error, RetryError) and isinstance(error.cause, Exception):
        error = error.cause
    if is_passing(error):
        told = f"Google Cloud Storage does not answer for the bucket {bucket}: {_said(error)}"
        return Unavailable(told, reason=UNAVAILABLE, retry_after=_RETRY_SECONDS)
    code = _code(error)
    if code == http.client.NOT_FOUND:
        told = f"there is no bucket {bucket}"
    elif code == http.client.FORBIDDEN:
        told = f"the credentials may not use the bucket {bucket}: {_said(error)}"
    elif code == http.client.UNAUTHORIZED or type(error).__module__.startswith("google.auth"):
        told = f"Google Cloud Storage refuses the credentials: {_said(error)}"
    else:
        told = f"Google Cloud Storage refuses the bucket {bucket}: {_said(error)}"
    return Unavailable(told, reason=REFUSED, retry_after=_RETRY_SECONDS)


def _code(error: BaseException) -> int | None:
    """Return the HTTP status of an error, None for one that is none of an answer's."""
    response: Any = getattr(error, "response", None)
    code = getattr(error, "code", None)
    if code is None and response is not None:
        code = getattr(response, "status_code", None)
    return int(code) if isinstance(code, int) else None


def _said(error: BaseException) -> str:
    """Return an error's first words, without the address of the request."""
    text = str(getattr(error, "message", "") or error)
    if text.startswith(("GET http", "POST http", "PUT http", "PATCH http", "DELETE http")):
        text = text.partition(": ")[2] or text
    return f"{type(error).__name__}: {' '.join(text.split())}"[:_MOST]
