"""Envoy's certificates: its own for callers, its own for services, and whose certificates it accepts of those.

They are named in the configuration, and then read once. Where the edge names a folder of secrets, they are named in
files of that folder instead, one for each; Envoy then reads certificates again when they change, as cert-manager does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from envoy_data_plane.envoy.config.core.v3 import (
    ApiVersion,
    ConfigSource,
    DataSource,
    PathConfigSource,
    TransportSocket,
    WatchedDirectory,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    CommonTlsContextCombinedCertificateValidationContext,
    DownstreamTlsContext,
    SdsSecretConfig,
    Secret,
    SubjectAltNameMatcher,
    SubjectAltNameMatcherSanType,
    TlsCertificate,
    TlsParameters,
    TlsParametersTlsProtocol,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryResponse
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.google.protobuf import Any
from trunkline_runtime.identity.peers import host_of

from trunkline_cli.edge.layout import Edge

_SOCKET = "envoy.transport_sockets.tls"
_SERVED, _SHOWN, _TRUSTED = "certificate", "client", "authority"


def downstream(edge: Edge) -> TransportSocket:
    """Return the TLS that callers meet."""
    context = CommonTlsContext(
        tls_params=TlsParameters(tls_minimum_protocol_version=TlsParametersTlsProtocol.TLSv1_2),
        alpn_protocols=["h2", "http/1.1"],
    )
    if edge.secrets is None:
        context.tls_certificates = [_pair(edge.certificate, edge.key)]
    else:
        context.tls_certificate_sds_secret_configs = [_from_file(edge.secrets, _SERVED)]
    return TransportSocket(
        name=_SOCKET, typed_config=Any.pack(DownstreamTlsContext(common_tls_context=context))
    )


def upstream(edge: Edge, service: str) -> TransportSocket | None:
    """Return the mutual TLS with a service, which must prove that it is that one; None if the services speak none."""
    if edge.ca is None or edge.client_certificate is None or edge.client_key is None:
        return None
    name = host_of(service)
    checked = CertificateValidationContext(
        match_typed_subject_alt_names=[
            SubjectAltNameMatcher(
                san_type=SubjectAltNameMatcherSanType.DNS, matcher=StringMatcher(exact=name)
            )
        ]
    )
    context = CommonTlsContext(alpn_protocols=["h2"])
    if edge.secrets is None:
        checked.trusted_ca = DataSource(filename=str(edge.ca))
        context.validation_context = checked
        context.tls_certificates = [_pair(edge.client_certificate, edge.client_key)]
    else:
        context.combined_validation_context = CommonTlsContextCombinedCertificateValidationContext(
            default_validation_context=checked,
            validation_context_sds_secret_config=_from_file(edge.secrets, _TRUSTED),
        )
        context.tls_certificate_sds_secret_configs = [_from_file(edge.secrets, _SHOWN)]
    return TransportSocket(
        name=_SOCKET, typed_config=Any.pack(UpstreamTlsContext(common_tls_context=context, sni=name))
    )


def files(edge: Edge) -> Mapping[str, str]:
    """Return what the folder of secrets holds, by the names of its files. They name certificates, and hold none."""
    if edge.secrets is None:
        return {}
    made = [Secret(name=_SERVED, tls_certificate=_pair(edge.certificate, edge.key, watched=True))]
    if edge.ca is not None and edge.client_certificate is not None and edge.client_key is not None:
        pair = _pair(edge.client_certificate, edge.client_key, watched=True)
        trusted = CertificateValidationContext(
            trusted_ca=DataSource(filename=str(edge.ca)), watched_directory=_folder_of(edge.ca)
        )
        made += [
            Secret(name=_SHOWN, tls_certificate=pair),
            Secret(name=_TRUSTED, validation_context=trusted),
        ]
    return {
        f"{secret.name}.json": DiscoveryResponse(resources=[Any.pack(secret)]).to_json(indent=1) + "\n"
        for secret in made
    }


def _pair(certificate: Path, key: Path, *, watched: bool = False) -> TlsCertificate:
    return TlsCertificate(
        certificate_chain=DataSource(filename=str(certificate)),
        private_key=DataSource(filename=str(key)),
        watched_directory=_folder_of(certificate) if watched else None,
    )


def _from_file(folder: Path, name: str) -> SdsSecretConfig:
    """Say that a secret is in a file, which is read again when anything moves into its folder."""
    path = PathConfigSource(
        path=str(folder / f"{name}.json"), watched_directory=WatchedDirectory(path=str(folder))
    )
    return SdsSecretConfig(
        name=name, sds_config=ConfigSource(path_config_source=path, resource_api_version=ApiVersion.V3)
    )


def _folder_of(file: Path) -> WatchedDirectory:
    return WatchedDirectory(path=str(file.parent))
