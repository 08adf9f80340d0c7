"""`trunkline edge`: writes Envoy's configuration, and serves it as a control plane."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import os
from collections.abc import AsyncIterator
from pathlib import Path

from trunkline_cli.edge.layout import TOKEN_VARIABLE, Edge, read
from trunkline_cli.screen import Misuse

_DAYS = 30


def config(file: Path | None, out: Path, control_plane: str | None, *, self_signed: bool) -> None:
    """Write a configuration. Raises Misuse."""
    # Envoy's types take half a second to import, and longer to become JSON.
    from trunkline_cli.edge import bootstrap, certificates  # noqa: PLC0415

    edge = read(file)
    if self_signed:
        certify(edge)
    made = bootstrap.dynamic(edge, control_plane) if control_plane else bootstrap.static(edge)
    out.parent.mkdir(parents=True, exist_ok=True)
    for name, text in {out.name: bootstrap.written(made), **certificates.files(edge)}.items():
        (out.parent / name).write_text(text, encoding="utf-8")
    print(f"{out} listens on {edge.listen}. Envoy needs {TOKEN_VARIABLE} in its environment.")


def certify(edge: Edge, *, days: float = _DAYS) -> None:
    """Make a certificate for this machine, for development, unless there is one. Raises OSError.

    One that was made here and has ended is replaced; one of somebody else's never is.
    """
    from cryptography import x509  # noqa: PLC0415 -- only a first start needs it
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.x509.oid import NameOID  # noqa: PLC0415

    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    if edge.certificate.exists() and edge.key.exists():
        try:
            made = x509.load_pem_x509_certificate(edge.certificate.read_bytes())
        except ValueError:
            return  # Envoy says what is wrong with it
        if made.not_valid_after_utc > now or not made.subject == made.issuer == name:
            return
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for path, text in (
        (edge.key, pem),
        (edge.certificate, certificate.public_bytes(serialization.Encoding.PEM)),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as written:
            written.write(text)


def serve(file: Path | None, address: str, namespace: str | None) -> None:
    """Serve the configuration until Ctrl-C or SIGTERM. Raises Misuse."""
    from trunkline_runtime.forms import is_loopback  # noqa: PLC0415
    from trunkline_runtime.observe import logs  # noqa: PLC0415

    if not is_loopback(address):
        raise Misuse(
            f"the control plane is plaintext, and listens on loopback only; {address} is not loopback"
        )
    if file is None and namespace is None:
        raise Misuse("name the file to watch, or --kubernetes with a namespace")
    logs.configure("edge", "console", "info")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(file, address, namespace))


async def _serve(file: Path | None, address: str, namespace: str | None) -> None:
    import grpc.aio  # noqa: PLC0415
    from trunkline_runtime.process.signals import stop_requested  # noqa: PLC0415

    from trunkline_cli.edge import endpoints  # noqa: PLC0415
    from trunkline_cli.edge.control import ControlPlane, snapshot  # noqa: PLC0415

    async with contextlib.AsyncExitStack() as stack:
        edges: AsyncIterator[Edge]
        if namespace is not None:
            client = await stack.enter_async_context(endpoints.cluster_client())
            edges = endpoints.of_kubernetes(read(file), namespace, client)
        else:
            assert file is not None
            edges = endpoints.watched(file)
        edge = await anext(edges)
        plane = ControlPlane(snapshot(edge))
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        plane.add_to(server)
        if not server.add_insecure_port(address):
            raise Misuse(f"cannot listen on {address}")
        await server.start()
        stack.push_async_callback(server.stop, 1)
        print(f"the control plane serves {address}", flush=True)

        following = asyncio.create_task(plane.follow(edges, edge))
        stack.callback(following.cancel)
        with stop_requested() as requested:
            stopping = asyncio.create_task(requested.wait())
            stack.callback(stopping.cancel)
            await asyncio.wait((stopping, following), return_when=asyncio.FIRST_COMPLETED)
        if following.done():
            following.result()
