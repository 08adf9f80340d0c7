"""Runs the tenant service: `python -m trunkline_tenant`."""

from trunkline_runtime import command

from trunkline_tenant.app import serve
from trunkline_tenant.config import SERVICE, TenantConfig, load_config

if __name__ == "__main__":
    command.main(SERVICE, TenantConfig, serve, load=lambda reach: load_config(reach=reach))
