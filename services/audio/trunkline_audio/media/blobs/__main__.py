"""Sets how recordings age in the bucket: python -m trunkline_audio.media.blobs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from trunkline_runtime.config import ConfigError, env_name, load
from trunkline_runtime.errors import Unavailable

from trunkline_audio.media.blobs.failures import unavailable
from trunkline_audio.media.blobs.gcs import CloudCredentials
from trunkline_audio.media.blobs.lifecycle import rules_of, set_rules, told, without_effect
from trunkline_audio.media.blobs.settings import BlobSettings
from trunkline_audio.names import SERVICE

SETTING = env_name(SERVICE, "blobs_bucket")


_PREFIX = env_name(SERVICE, "blobs_")
_FOLDER = env_name(SERVICE, "blobs_folder")


@dataclass(frozen=True, kw_only=True)
class _Config:
    blobs: BlobSettings = field(default_factory=BlobSettings)


def main(arguments: Sequence[str] | None = None, env: Mapping[str, str] | None = None) -> int:
    """Run the command; 0, 1 when the bucket refuses, 2 when the settings are wrong."""
    parser = argparse.ArgumentParser(
        prog="trunkline lifecycle",
        description=f"Set the lifecycle rules of {SETTING} as TRUNKLINE_AUDIO_BLOBS_*_DAYS say. Rules for other "
        "objects of the bucket stay.",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the rules, and change nothing")
    given = parser.parse_args(arguments)
    try:
        settings = _settings(env)
        if given.dry_run:
            _say(f"{settings.bucket} would have, beside the rules for other objects:")
            rules = rules_of(settings)
        else:
            rules = set_rules(settings, _credentials(settings))
            _say(f"{settings.bucket} has these rules now:")
    except ConfigError as error:
        return _fail(str(error), 2)
    except Unavailable as error:
        return _fail(error.message, 1)
    for rule in rules:
        _say(f"  {told(rule)}")
    for line in without_effect(settings):
        _say(line)
    return 0


def _settings(env: Mapping[str, str] | None) -> BlobSettings:
    """Read the settings of blobs alone: whoever sets rules need not have those of a service that runs."""
    given = os.environ if env is None else env
    own = {name: text for name, text in given.items() if name.startswith(_PREFIX) and name != _FOLDER}
    blobs = load(_Config, SERVICE, own).blobs
    if not blobs.bucket:
        raise ConfigError(
            f"{SETTING} is not set: a folder has no rules, and the service itself deletes by age"
        )
    return blobs


def _credentials(settings: BlobSettings) -> object:
    try:
        return CloudCredentials(settings.quota_project).found()
    except Exception as error:
        raise unavailable(error, settings.bucket_name) from None


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def _fail(line: str, status: int) -> int:
    sys.stderr.write(line + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
