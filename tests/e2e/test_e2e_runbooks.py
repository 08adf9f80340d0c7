"""The commands of every runbook work as they are written, against the running suite."""

from __future__ import annotations

import re
import shutil

import pytest
from trunkline_cli.suite import web
from trunkline_cli.suite.processes import PORTS

from tests.e2e.conftest import World
from tests.e2e.documented import ROOT, Shell, commands

RUNBOOKS = sorted((ROOT / "docs" / "runbooks").glob("*.md"))


@pytest.mark.parametrize("runbook", RUNBOOKS, ids=lambda path: path.stem)
def test_its_commands_find_what_they_look_for(world: World, tmp_path, runbook):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    # A worker says that it is ready from its first answered claim on, which may wait for a job.
    world.wait(lambda: web.get(f"{world.suite.metrics_url('worker')}/readyz").is_success, "the worker")
    script = "".join(block.text for block in commands(runbook))
    for service, (_, _, port) in PORTS.items():
        script = re.sub(rf"127\.0\.0\.1:{port}\b", world.suite.metrics[service], script)
    assert Shell(tmp_path).run(script, {})
