"""Makes tenants, keys and sources through the HTTP API, as an operator would."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import httpx

from trunkline_cli.suite import web


@dataclass(frozen=True)
class SeededSource:
    """A source and what its provider knows of it."""

    id: str
    provider: str  # callrail | twilio | standard_webhooks | generic_hmac
    secret: str
    url: str
    account: str
    credential: str


@dataclass(frozen=True)
class SeededTenant:
    """A tenant with an admin's API key."""

    name: str
    api_key: str
    sources: tuple[SeededSource, ...]

    def source(self, provider: str) -> SeededSource:
        """The first source of a provider."""
        return next(s for s in self.sources if s.provider == provider)


def api(http_url: str, token: str) -> httpx.Client:
    """A client of /v1 that shows an API key or the operator's token."""
    return web.client(base_url=http_url, headers={"authorization": f"Bearer {token}"}, timeout=30)


def seed_tenant(
    http_url: str,
    operator_token: str,
    tenant_id: str,
    recordings_url: str,
    language: str = "",
    spanish: bool = False,
) -> SeededTenant:
    """Create a tenant with a CallRail and a Twilio source whose recordings are at `recordings_url`; find it again.

    With `spanish` there is a third one, a CallRail source whose language is es-US.
    """
    with api(http_url, operator_token) as operator:
        made = operator.post("/v1/tenants?tenantId=" + tenant_id, json={"displayName": tenant_id.title()})
        if made.status_code != 409:
            made.raise_for_status()
        key = operator.post(
            f"/v1/tenants/{tenant_id}/apiKeys", json={"displayName": "demo", "role": "ROLE_ADMIN"}
        ).raise_for_status()
        sources = [
            _source(operator, http_url, tenant_id, "callrail", "227799611", recordings_url, language),
            _source(
                operator,
                http_url,
                tenant_id,
                "twilio",
                "AC" + secrets.token_hex(16),
                recordings_url,
                language,
            ),
        ]
        if spanish:
            sources.append(
                _source(operator, http_url, tenant_id, "callrail", "227799611", recordings_url, "es-US")
            )
    return SeededTenant(tenant_id, key.json()["key"], tuple(sources))


def _source(
    operator: httpx.Client,
    http_url: str,
    tenant_id: str,
    provider: str,
    account: str,
    recordings_url: str,
    language: str,
) -> SeededSource:
    secret = secrets.token_hex(16)
    credential = secrets.token_hex(16) if provider == "callrail" else ""
    body = {
        "displayName": f"{provider} {language}".strip(),
        "provider": f"PROVIDER_{provider.upper()}",
        "providerAccount": account,
        "secret": secret,
        "apiBaseUrl": recordings_url,
        "language": language,
        "channelRoles": "CHANNEL_ROLES_AGENT_FIRST",  # as the sample calls were made
    }
    if credential:
        body["fetchCredential"] = credential
    made = operator.post(f"/v1/tenants/{tenant_id}/sources", json=body).raise_for_status().json()
    return SeededSource(
        id=made["name"].rsplit("/", 1)[1],
        provider=provider,
        secret=secret,
        url=http_url + made["hookPath"],
        account=account,
        credential=credential,
    )
