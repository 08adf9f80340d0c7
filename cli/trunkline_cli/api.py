"""The gateway's HTTP API as a command uses it: where it is, with which key, and what its refusals mean."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from trunkline_cli.screen import Failure, Misuse, reason_of
from trunkline_cli.suite.seed import api

FACTS = Path("var/dev.json")
DEFAULT_URL = "http://127.0.0.1:8080"

# A list of many pages asks for more than a tenant's keys may: so often is waited as long as the gateway says.
_WAITS = 10
_LONGEST_WAIT_SECONDS = 30.0


@dataclass(frozen=True)
class Access:
    """Where the gateway is, and with which key."""

    url: str
    key: str


def facts() -> dict[str, Any] | None:
    """Return what `trunkline up` in this folder says of itself; None while it does not run."""
    if not FACTS.exists():
        return None
    try:
        told: dict[str, Any] = json.loads(FACTS.read_text())
    except (OSError, ValueError) as error:
        raise Failure(f"{FACTS} cannot be read: {error}") from None
    return told


def access(tenant: str, url: str | None) -> Access:
    """Find the gateway and a key: by the settings of the command, else those of `trunkline up` in this folder.

    Without a tenant, the key is an operator's.

    Raises Misuse where there is no key.
    """
    url = url or os.environ.get("TRUNKLINE_CLI_URL")
    told = facts() if url is None else None
    key = os.environ.get("TRUNKLINE_CLI_KEY", "")
    if file := os.environ.get("TRUNKLINE_CLI_KEY_FILE"):
        try:
            key = Path(file).read_text().strip()
        except OSError as error:
            raise Misuse(f"TRUNKLINE_CLI_KEY_FILE cannot be read: {reason_of(error)}") from None
    if not key.isascii() or any(character.isspace() for character in key):
        raise Misuse("the key has characters that no key has: copy it again, as tl_...")
    if told is not None and not key:
        own = [t["api_key"] for t in told["tenants"] if t["name"] == f"tenants/{tenant}"]
        key = own[0] if own else told["operator_token"]
    if not key:
        wanted = f"an API key of {tenant}" if tenant else "an operator's token"
        raise Misuse(
            f"no key: set TRUNKLINE_CLI_KEY or TRUNKLINE_CLI_KEY_FILE to {wanted}, "
            "or run `trunkline up` in this folder"
        )
    return Access(url or (told["http"] if told else DEFAULT_URL), key)


class Api:
    """Requests to /v1. Every method raises Failure that says what is wrong, and what to do."""

    def __init__(self, access: Access) -> None:
        """Connect at the first request."""
        self._access = access
        try:
            self._client = api(access.url, access.key)
        except (httpx.InvalidURL, UnicodeError) as error:
            raise Misuse(f"{access.url} is not a URL: {error}") from None

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """Return the resource or the page at a path below /v1/."""
        return self._ask("GET", path, params={k: v for k, v in params.items() if v})

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Call a method at a path below /v1/."""
        return self._ask("POST", path, json=body)

    def pages(self, path: str, field: str, **params: Any) -> Iterator[dict[str, Any]]:
        """Return every item of a list, page by page."""
        token = ""
        while True:
            page = self.get(path, pageToken=token, **params)
            yield from page.get(field, [])
            token = page.get("nextPageToken", "")
            if not token:
                return

    def _ask(self, method: str, path: str, **given: Any) -> dict[str, Any]:
        try:
            answer = self._client.request(method, f"/v1/{path}", **given)
            for _ in range(_WAITS):
                seconds = _retry_after(answer)
                if answer.status_code != httpx.codes.TOO_MANY_REQUESTS or seconds > _LONGEST_WAIT_SECONDS:
                    break
                time.sleep(seconds)
                answer = self._client.request(method, f"/v1/{path}", **given)
        except httpx.UnsupportedProtocol:
            raise Misuse(f"{self._access.url} is not a URL: it must begin with http:// or https://") from None
        except httpx.TimeoutException:
            raise Failure(f"{self._access.url} did not answer in time; try again") from None
        except httpx.TransportError as error:
            raise Failure(f"cannot reach {self._access.url}: {error}. Is the gateway running?") from None
        told = _json(answer)
        if answer.is_success and isinstance(told, dict):
            return told
        raise _failure(answer.status_code, message_of(answer))


def message_of(answer: httpx.Response) -> str:
    """Return what an answer of the gateway says is wrong."""
    told = _json(answer)
    said = told.get("error", {}).get("message", "") if isinstance(told, dict) else ""
    return str(said) or f"{answer.url.scheme}://{answer.url.netloc.decode()} is not Trunkline's API"


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None


def _retry_after(answer: httpx.Response) -> float:
    said = answer.headers.get("retry-after", "")
    return float(said) if said.isascii() and said.isdigit() else 1.0


def _failure(status: int, said: str) -> Failure:
    if status == 401:
        return Failure(f"the key is not accepted: {said}")
    if status == 403:
        return Failure(f"the key may not do this: {said}")
    if status == 400:
        return Misuse(said)
    return Failure(f"{said} (HTTP {status})")
