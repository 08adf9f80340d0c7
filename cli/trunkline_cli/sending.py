"""Sends a webhook as CallRail would, to try a source."""

from __future__ import annotations

import time
from typing import Any

import httpx

from trunkline_cli.api import FACTS, facts
from trunkline_cli.screen import Failure, Misuse
from trunkline_cli.suite.seed import SeededSource
from trunkline_cli.suite.webhooks import callrail, callrail_call


def source_of(tenant: str) -> SeededSource:
    """Return the CallRail source that `trunkline up` made for a tenant. Raises Misuse."""
    told = facts()
    if told is None:
        raise Misuse(f"{FACTS} is missing: run `trunkline up` here, or give --hook and --secret-file")
    for made in told["tenants"]:
        if made["name"] == f"tenants/{tenant}":
            found = next(source for source in made["sources"] if source["provider"] == "callrail")
            return source_at(found["url"], found["secret"])
    raise Misuse(f"`trunkline up` made no source for {tenant}; give --hook and --secret-file")


def source_at(hook: str, secret: str) -> SeededSource:
    """Return a CallRail source by the URL of its webhooks, without the event type, and its secret."""
    return SeededSource("", "callrail", secret, hook.rstrip("/"), "", "")


def send(source: SeededSource, call: int) -> tuple[str, float]:
    """Post a signed post_call webhook about a call; the receipt's id, and the milliseconds it took.

    Raises Failure.
    """
    payload: dict[str, Any] = callrail_call(source, str(call), duration="40", recording_duration=40)
    webhook = callrail(source, "post_call", payload)
    began = time.perf_counter()
    try:
        answer = httpx.post(webhook.url, content=webhook.body, headers=webhook.headers, timeout=30)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Failure(f"cannot reach {source.url}: {error}") from None
    taken = (time.perf_counter() - began) * 1000
    if answer.status_code != 202:
        raise Failure(f"the webhook was answered {answer.status_code}: {answer.text.strip()}")
    return str(answer.json()["receiptId"]), taken
