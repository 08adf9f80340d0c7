"""The OpenAPI document and the API say the same: schemathesis asks what the document allows, and what it does not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from trunkline_cli.suite.seed import api, seed_tenant

from tests.e2e.conftest import World

TENANT = "described"
HERE = Path(__file__).parent
SCHEMATHESIS = Path(sys.executable).parent / "schemathesis"
THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
# The coverage phase asks for each bound of each field whatever this is.
EXAMPLES = "50" if THOROUGH else "3"
TIMEOUT = 1_200 if THOROUGH else 150
CONFIG = """
[parameters]
"path.tenantsId" = "{tenant}"

[[operations]]
include-operation-id = ["SourceService_UpdateSource", "SourceService_RotateSourceSecret", "SourceService_GetSource"]
parameters = {{ "path.sourcesId" = "{source}" }}

# What is wrong with one request of a batch is its own result: the answer to the batch is 200.
[[operations]]
include-operation-id = ["TranscriptionService_BatchTranscribeRecordings"]
checks.negative_data_rejection.expected-statuses = [200, 400, 401, 403, 404, 405, 413, 414, 415, 431]

[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 409, 413, 414, 415, 431]
"""
# What changes a resource has the fields of what makes it, and a method that is not there is like another one.
LESS = """
[phases.coverage]
unexpected-methods = ["PUT", "TRACE"]

[[operations]]
include-operation-id = ["SourceService_UpdateSource", "TenantService_UpdateTenant"]
phases.coverage.enabled = false
"""


def find(world: World, folder: Path, token: str, source: str, *more: str) -> None:
    """Let schemathesis loose on /v1 with a token, for a minute or so: nothing may be found."""
    config = CONFIG if THOROUGH else CONFIG + LESS
    (folder / "schemathesis.toml").write_text(config.format(tenant=TENANT, source=source))
    command = [
        str(SCHEMATHESIS), "--config-file", "schemathesis.toml", "run", f"{world.suite.http_url}/v1/openapi.json",
        "-H", f"Authorization: Bearer {token}", "--phases", "coverage,fuzzing", "--max-examples", EXAMPLES,
        "--checks", "all", "--seed", "1", "--continue-on-failure", "--no-shrink", "--request-timeout", "20", *more,
    ]  # fmt: skip
    environment = {
        **os.environ,
        "SCHEMATHESIS_HOOKS": "openapi_hooks",
        "PYTHONPATH": str(HERE),
        "NO_COLOR": "1",
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
    assert re.search(r"[1-9][0-9]* generated, [1-9][0-9]* passed", done.stdout), done.stdout


@pytest.fixture
def described(world: World) -> tuple[str, str]:
    """A tenant of its own: an admin's key, and the id of a source that may be changed."""
    seeded = seed_tenant(world.suite.http_url, world.suite.operator_token, TENANT, "http://127.0.0.1:9")
    with api(world.suite.http_url, seeded.api_key) as client:
        body = {"provider": "PROVIDER_GENERIC_HMAC", "hmac": {"header": "X-Signature"}}
        made = client.post(f"/v1/tenants/{TENANT}/sources", json=body).raise_for_status().json()
    return seeded.api_key, made["name"].rsplit("/", 1)[1]


@pytest.mark.timeout(TIMEOUT)
def test_a_tenants_admin_finds_no_difference(
    world: World, described: tuple[str, str], tmp_path: Path
) -> None:
    # What only operators may is refused whatever is in it.
    theirs = () if THOROUGH else ("--exclude-operation-id", "TenantService_CreateTenant")
    find(world, tmp_path, *described, *theirs)


@pytest.mark.timeout(TIMEOUT)
def test_an_operator_finds_none_in_what_only_operators_may(
    world: World, described: tuple[str, str], tmp_path: Path
) -> None:
    only = ("--include-tag", "TenantService", "--exclude-method", "DELETE")
    find(world, tmp_path, world.suite.operator_token, described[1], *only)
