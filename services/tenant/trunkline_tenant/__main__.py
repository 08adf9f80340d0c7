"""Starts the tenant service: `python -m trunkline_tenant`."""

from trunkline_runtime.server import run

from trunkline_tenant.serve import serve

if __name__ == "__main__":
    run(serve)
