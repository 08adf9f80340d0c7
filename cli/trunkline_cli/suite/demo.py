"""`trunkline demo`: every sample call, from a signed webhook to an analysed call, through the real processes."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from trunkline_cli.screen import Say, waiting
from trunkline_cli.suite import spanner, web, webhooks
from trunkline_cli.suite.alone import addresses_are_free
from trunkline_cli.suite.processes import Suite, SuiteError
from trunkline_cli.suite.recordings import RecordingServer
from trunkline_cli.suite.seed import SeededTenant, api, seed_tenant

FOLDER = Path("var/demo")
CALLS = Path("tests/data/calls")
ANALYSED_SECONDS = 600.0
COLUMNS = (
    ("tenant", 7), ("provider", 9), ("call", 22), ("audio", 6), ("spk", 3), ("opening words", 36), ("spam", 4),
    ("sentiment", 9), ("intent", 17), ("lead", 10), ("ack ms", 7), ("done s", 6),
)  # fmt: skip


@dataclass
class PostedSample:
    """A sample call whose webhook was acknowledged."""

    tenant: SeededTenant
    sample: dict[str, Any]
    provider: str
    provider_call_id: str
    acknowledged_ms: float
    posted: float
    call: dict[str, Any] | None = None
    analysed_s: float = 0.0


def demo(store: str, *, mtls: bool = False) -> int:
    """Run the demo on a store (sqlite, spanner); 0 only when every call got there. Raises SuiteError."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the processes stop first
    with ExitStack() as stack:
        say = stack.enter_context(waiting())
        stores = spanner.stores(stack, store, FOLDER, say)
        if not (CALLS / "calls.json").exists():
            raise SuiteError(f"{CALLS} is missing: run the demo in the folder of the project")
        return run(stores, say, mtls=mtls)


def run(stores: dict[str, str], say: Say, *, mtls: bool = False) -> int:
    """Run the demo with these settings of the stores; with `mtls` its gRPC is mutual TLS."""
    samples = json.loads((CALLS / "calls.json").read_text())
    shutil.rmtree(FOLDER, ignore_errors=True)
    networks = {"TRUNKLINE_AUDIO_FETCH_ALLOWED_NETWORKS": "127.0.0.0/8"}
    suite = Suite(FOLDER, free_ports=True, env={**networks, **stores}, mtls=mtls)
    with RecordingServer() as recordings:
        try:
            addresses_are_free(suite)  # else another suite would answer
            say("starting gateway, worker, tenant, audio, and ai")
            suite.start()
            say("creating two tenants with a CallRail and a Twilio source each")
            tenants = [
                seed_tenant(suite.http_url, suite.operator_token, name, recordings.url, spanish=True)
                for name in ("acme", "globex")
            ]
            posted = post_all(samples, tenants, recordings, say)
            late = wait_all(posted, suite, say)
            print_table(posted)
            for item in late:
                print(f"not analysed: {item.sample['id']}: {_reason(item, suite)}", file=sys.stderr)
        except httpx.HTTPError as error:
            raise SuiteError(f"the demo failed: {error}") from error
        finally:
            codes = suite.stop()
    unclean = {name: code for name, code in codes.items() if code != 0}
    if unclean:
        print(f"processes that did not stop cleanly: {unclean}", file=sys.stderr)
    return 1 if late or unclean else 0


def post_all(
    samples: list[dict[str, Any]], tenants: list[SeededTenant], recordings: RecordingServer, say: Say
) -> list[PostedSample]:
    """Post each sample's webhook with its provider's signature."""
    for tenant in tenants:
        for source in tenant.sources:
            recordings.tokens.add(source.credential)
            recordings.accounts[source.account] = source.secret
    posted = []
    with web.client(timeout=10) as client:
        for index, sample in enumerate(samples):
            tenant = tenants[index % len(tenants)]
            call_id, webhook = webhook_of(sample, index, tenant, recordings)
            say(f"posting {index + 1}/{len(samples)} {sample['id']}")
            begun = time.perf_counter()
            answer = client.post(webhook.url, content=webhook.body, headers=webhook.headers)
            taken = (time.perf_counter() - begun) * 1000
            if answer.status_code != 202:
                raise SuiteError(
                    f"{sample['id']}: the webhook was answered {answer.status_code} {answer.text}"
                )
            provider = "callrail" if call_id.startswith("CAL") else "twilio"
            posted.append(PostedSample(tenant, sample, provider, call_id, taken, time.monotonic()))
    return posted


def webhook_of(
    sample: dict[str, Any], index: int, tenant: SeededTenant, recordings: RecordingServer
) -> tuple[str, webhooks.Webhook]:
    """The provider's id of a sample call, and its webhook."""
    path = CALLS / sample["file"]
    spanish = not sample["language"].startswith("en")
    if sample["provider"] == "twilio" and not spanish:
        source = tenant.source("twilio")
        call_sid, recording_sid = f"CA{index:032x}", f"RE{index:032x}"
        recordings.files[recording_sid] = path
        form = webhooks.twilio_recording(
            source, call_sid, recording_sid, recordings.url, sample["seconds"], sample["channels"]
        )
        return call_sid, webhooks.twilio(source, "recording_status", form)
    source = tenant.sources[2] if spanish else tenant.source("callrail")
    call_id = f"{700000000 + index}"
    recordings.files[call_id] = recordings.files[f"CAL{call_id}"] = path
    payload = webhooks.callrail_call(
        source,
        call_id,
        number=sample["customer_phone"],
        customer_name=sample["customer_name"],
        duration=str(round(sample["seconds"])),
        recording_duration=round(sample["seconds"]),
        voicemail="voicemail" in sample["id"],
    )
    return f"CAL{call_id}", webhooks.callrail(source, "post_call", payload)


def wait_all(posted: list[PostedSample], suite: Suite, say: Say) -> list[PostedSample]:
    """Wait until each call is analysed; return those that are not."""
    until = time.monotonic() + ANALYSED_SECONDS
    left = list(posted)
    while left and time.monotonic() < until:
        for tenant in {item.tenant.name: item.tenant for item in left}.values():
            with api(suite.http_url, tenant.api_key) as client:
                answer = client.get(f"/v1/tenants/{tenant.name}/calls", params={"pageSize": 500})
            calls = {c["providerCallId"]: c for c in answer.raise_for_status().json().get("calls", [])}
            for item in [i for i in left if i.tenant is tenant]:
                call = calls.get(item.provider_call_id)
                if call and call.get("analyzeTime"):
                    item.call = call
                    item.analysed_s = time.monotonic() - item.posted
                    left.remove(item)
        if _dead(left, suite):
            break
        done = len(posted) - len(left)
        say(f"analysed {done}/{len(posted)}, {time.monotonic() - posted[0].posted:.0f} s", passing=True)
        time.sleep(0.2)
    return left


def _dead(waiting: list[PostedSample], suite: Suite) -> bool:
    for tenant in {item.tenant.name: item.tenant for item in waiting}.values():
        with api(suite.http_url, tenant.api_key) as client:
            dead = client.get(f"/v1/tenants/{tenant.name}/events", params={"filter": "state = dead_letter"})
        if dead.raise_for_status().json().get("events"):
            return True
    return False


def _reason(item: PostedSample, suite: Suite) -> str:
    with api(suite.http_url, item.tenant.api_key) as client:
        events = client.get(f"/v1/tenants/{item.tenant.name}/events", params={"pageSize": 500}).json()[
            "events"
        ]
    stuck = [e for e in events if e["state"] != "EVENT_STATE_DONE"]
    return "; ".join(
        f"{e['name']} {e['state']} at {e['stage']}: {e['lastError'] or 'no error'}" for e in stuck[:3]
    )


def print_table(posted: list[PostedSample]) -> None:
    """Print a row a call."""
    print("  ".join(name.ljust(width) for name, width in COLUMNS).rstrip())
    for item in posted:
        call = item.call or {}
        unreliable = call.get("unreliable")
        row = (
            item.tenant.name, item.provider, item.sample["id"], f"{item.sample['seconds']:.1f}s",
            str(call.get("speakers", "")), call.get("openingWords", ""), "yes" if call.get("spam") else "no",
            _label(call, "sentiment"), "unreliable" if unreliable else _label(call, "intent"),
            f"{_label(call, 'leadLevel')} {call.get('leadScore', '')}",
            f"{item.acknowledged_ms:.1f}", f"{item.analysed_s:.1f}",
        )  # fmt: skip
        print("  ".join(_fit(value, width) for value, (_, width) in zip(row, COLUMNS, strict=True)).rstrip())
    times = sorted(item.acknowledged_ms for item in posted)
    done = sum(item.call is not None for item in posted)
    right = sum(_as_labelled(item) for item in posted)
    print(
        f"\n{done} of {len(posted)} calls analysed; {right} as labelled; "
        f"acknowledged in {times[len(times) // 2]:.1f} ms (median), {times[-1]:.1f} ms (slowest)"
    )


def _as_labelled(item: PostedSample) -> bool:
    """Whether the intent is the sample's, or the call is said to be unreliable where the sample is."""
    call, expected = item.call or {}, item.sample["expected"]
    if call.get("unreliable") or expected.get("unreliable"):
        return bool(call.get("unreliable")) == bool(expected.get("unreliable"))
    return bool(_label(call, "intent") == expected["intent"])


def _label(call: dict[str, Any], field: str) -> str:
    prefix = {"sentiment": "SENTIMENT_", "intent": "INTENT_", "leadLevel": "LEAD_LEVEL_"}[field]
    return str(call.get(field, "")).removeprefix(prefix).lower()


def _fit(value: str, width: int) -> str:
    return value.ljust(width) if len(value) <= width else value[: width - 1] + "…"
