"""Sends a webhook as CallRail would, to try a source."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx

from trunkline_cli.api import FACTS, facts, message_of
from trunkline_cli.screen import Failure, Misuse
from trunkline_cli.suite import web
from trunkline_cli.suite.seed import SeededSource
from trunkline_cli.suite.webhooks import callrail, callrail_call

# As `trunkline up` numbers them; a webhook that states another length than the recording has is TRUNCATED.
SAMPLES = Path("tests/data/calls/calls.json")


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


def sample_seconds(call: int) -> float:
    """Return how long the recording is that `trunkline up` serves for a call's number; 40 where it serves none."""
    samples = json.loads(SAMPLES.read_text()) if SAMPLES.exists() else []
    return float(samples[call - 1]["seconds"]) if call <= len(samples) else 40.0


def send(source: SeededSource, call: int) -> tuple[str, float]:
    """Post a signed post_call webhook about a call; the receipt's id, and the milliseconds it took.

    Raises Failure, and Misuse for a hook that is no URL.
    """
    seconds = round(sample_seconds(call))
    payload: dict[str, Any] = callrail_call(
        source, str(call), duration=str(seconds), recording_duration=seconds
    )
    webhook = callrail(source, "post_call", payload)
    began = time.perf_counter()
    try:
        answer = web.post(webhook.url, content=webhook.body, headers=webhook.headers, timeout=30)
    except (httpx.UnsupportedProtocol, httpx.InvalidURL):
        raise Misuse(f"{source.url} is not a URL: it must begin with http:// or https://") from None
    except httpx.HTTPError as error:
        raise Failure(f"cannot reach {source.url}: {error}. Is the gateway running?") from None
    taken = (time.perf_counter() - began) * 1000
    if answer.status_code != 202:
        raise Failure(f"the webhook was answered {answer.status_code}: {message_of(answer)}")
    return str(answer.json()["receiptId"]), taken
