"""A process that was forked makes ids of its own."""

import json
import os
import subprocess
import sys

import pytest

_SCRIPT = """
import importlib, json, os
made = lambda: [getattr(importlib.import_module(module), name)(*given) for module, name, *given in {of}]
made() if {used} else [importlib.import_module(module) for module, *_ in {of}]
for _ in range(2):
    if not os.fork():
        print(json.dumps(made()), flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.mark.parametrize(
    ("used", "of"),
    [
        (True, [("trunkline_runtime.observe.tracing", "new_span_id")]),
        (True, [("trunkline_runtime.rpc.call", "request_id_of", "")]),
        (False, [("trunkline_gateway.ids", "receipt_id")]),
    ],
)
def test_a_process_that_is_forked_repeats_no_ids(used, of):
    script = _SCRIPT.format(of=json.dumps(of), used=used)
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ
    )
    one, other = (json.loads(line) for line in told.stdout.splitlines())
    assert all(mine != others for mine, others in zip(one, other, strict=True))
