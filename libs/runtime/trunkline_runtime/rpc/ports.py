"""How a gRPC server comes to its port."""

from __future__ import annotations

import grpc.aio

from trunkline_runtime import addresses
from trunkline_runtime.config import ConfigError
from trunkline_runtime.observe.logs import get_logger

log = get_logger(__name__)


def bind(server: grpc.aio.Server, address: str, setting: str) -> int:
    """Have a server listen on an address; return the port. Raises ConfigError, which names the setting."""
    host, _ = addresses.split(address, setting)
    if not addresses.is_loopback(host):
        log.warning("plaintext_beyond_loopback", address=address)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        port = 0
    if not port:
        raise ConfigError(f"cannot listen on {address}: it is in use or not ours; set {setting} to move it")
    return port
