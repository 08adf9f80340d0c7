"""How a gRPC server comes to its port."""

from __future__ import annotations

import grpc
import grpc.aio

from trunkline_runtime import addresses, forms
from trunkline_runtime.config import ConfigError
from trunkline_runtime.observe.logs import get_logger

log = get_logger(__name__)


def bind(
    server: grpc.aio.Server,
    address: str,
    setting: str,
    credentials: grpc.ServerCredentials | None = None,
    *,
    only_health: bool = False,
) -> int:
    """Have a server listen on an address, over TLS with credentials; return the port.

    A server of `only_health` has nothing to hide. Raises ConfigError, which names the setting.
    """
    addresses.split(address, setting)
    if credentials is None and not only_health and not forms.is_loopback(address):
        log.warning("plaintext_beyond_loopback", address=address)
    try:
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except RuntimeError:
        port = 0
    if not port:
        raise ConfigError(f"cannot listen on {address}: it is in use or not ours; set {setting} to move it")
    return port
