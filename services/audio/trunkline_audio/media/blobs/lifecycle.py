"""How recordings age in a bucket: the rules that the bucket itself applies to their objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from trunkline_runtime.config import env_name

from trunkline_audio.media.blobs.failures import unavailable
from trunkline_audio.media.blobs.gcs import TIMEOUT, open_bucket
from trunkline_audio.media.blobs.settings import BlobSettings
from trunkline_audio.names import SERVICE

Rule = Mapping[str, Any]
"""A rule as the bucket's JSON has it: an action and its condition."""

OBJECTS = "t."
"""What the name of every recording's object begins with, after the prefix: see `blob_folder`."""


def rules_of(settings: BlobSettings) -> list[Rule]:
    """Return the rules that the settings ask for, in the order of age. They name recordings only."""
    ages = (
        ("NEARLINE", settings.nearline_days),
        ("COLDLINE", settings.coldline_days),
        ("ARCHIVE", settings.archive_days),
    )
    rules: list[Rule] = [
        {"action": {"type": "SetStorageClass", "storageClass": name}, "condition": _condition(settings, days)}
        for name, days in ages
        if days
    ]
    if settings.delete_days:
        rules.append({"action": {"type": "Delete"}, "condition": _condition(settings, settings.delete_days)})
    return rules


def without_effect(settings: BlobSettings) -> list[str]:
    """Return a line for each rule that never applies, because a later one does as soon."""
    ages = [
        ("nearline_days", "NEARLINE", settings.nearline_days),
        ("coldline_days", "COLDLINE", settings.coldline_days),
        ("archive_days", "ARCHIVE", settings.archive_days),
        ("delete_days", "deleted", settings.delete_days),
    ]
    lines = []
    for at, (name, _, days) in enumerate(ages):
        sooner = [later for later in ages[at + 1 :] if 0 < later[2] <= days]
        if sooner:
            _, does, age = min(sooner, key=lambda later: later[2])
            setting = env_name(SERVICE, f"blobs_{name}")
            lines.append(f"{setting}={days} has no effect: a recording is {does} after {age} days")
    return lines


def merged(there: Iterable[Rule], settings: BlobSettings) -> list[Rule]:
    """Return the rules that the bucket is to have: those of others stay, and ours are replaced."""
    ours = [settings.prefix + OBJECTS]
    others = [dict(rule) for rule in there if rule.get("condition", {}).get("matchesPrefix") != ours]
    return [*others, *rules_of(settings)]


def set_rules(settings: BlobSettings, credentials: Any) -> list[Rule]:
    """Give the bucket its rules, unless somebody else changes it meanwhile; all that it has now. Raises Unavailable."""
    try:
        bucket = open_bucket(settings, credentials)
        bucket.reload(timeout=TIMEOUT)
        bucket.lifecycle_rules = merged(bucket.lifecycle_rules, settings)
        bucket.patch(if_metageneration_match=bucket.metageneration, timeout=TIMEOUT)
        return [dict(rule) for rule in bucket.lifecycle_rules]
    except Exception as error:
        raise unavailable(error, settings.bucket_name) from None


def told(rule: Rule) -> str:
    """Return a rule in words."""
    action, condition = rule.get("action", {}), rule.get("condition", {})
    does = (
        "deleted" if action.get("type") == "Delete" else str(action.get("storageClass") or action.get("type"))
    )
    names = ", ".join(f"{prefix}*" for prefix in condition.get("matchesPrefix", ())) or "all objects"
    others = {key: value for key, value in condition.items() if key not in ("age", "matchesPrefix")}
    age = f" after {condition['age']} days" if "age" in condition else ""
    return f"{names}: {does}{age}" + (f", if {others}" if others else "")


def _condition(settings: BlobSettings, days: int) -> dict[str, Any]:
    return {"age": days, "matchesPrefix": [settings.prefix + OBJECTS]}
