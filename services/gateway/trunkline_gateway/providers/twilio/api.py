"""Twilio's API as the suite asks it: where recordings, media and calls are, and who is shown a credential."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import quote

from trunkline_gateway.providers.base import Lookup, MediaRequest, RecordingRequest, Source, link_key
from trunkline_gateway.providers.origins import at_base, has_host_of, same_origin
from trunkline_gateway.providers.payload import Payload

API = "https://api.twilio.com"
_API_PATH = "/2010-04-01/Accounts/"
_MEDIA_MOST = 10
# An account's or an API key's SID, which stands before its secret.
_SIDS = ("AC", "SK")


def recording(source: Source, payload: Payload, recording_sid: str) -> tuple[RecordingRequest | None, str]:
    """Return how to ask for the WAV, or why not. Only Twilio and the source's own base see the token.

    A URL that is not Twilio's leads to the customer's own storage: a signed link, to be used as it is.
    """
    url = payload.text("RecordingUrl", most=4097)
    if url is None:
        return None, "RecordingUrl is missing although the recording is completed"
    if not _is_web(url):
        return None, "RecordingUrl must be an http or https URL of at most 4096 characters"
    if _is_twilios(source, url) or has_host_of(url.replace("http://", "https://", 1), "twilio.com"):
        url = url.split("?", 1)[0].removesuffix(".wav").removesuffix(".mp3") + ".wav"
        if payload.text("RecordingChannels") == "2":
            url += "?RequestedChannels=2"
    url, headers = _ask(source, payload, url)
    return RecordingRequest(key=recording_sid, url=url, headers=headers), ""


def media(source: Source, payload: Payload) -> tuple[MediaRequest, ...]:
    """Return the pictures and other files of a message."""
    found = []
    for place in range(_MEDIA_MOST):
        url = payload.text(f"MediaUrl{place}", most=4097)
        if url is None or not _is_web(url):
            continue
        key = link_key(url)
        content_type = payload.text(f"MediaContentType{place}", most=128) or ""
        url, headers = _ask(source, payload, url)
        found.append(MediaRequest(key, url, headers, content_type))
    return tuple(found)


def call(source: Source, payload: Payload, call_sid: str) -> Lookup | None:
    """Return where a call can be asked for; None without an account and a credential."""
    account = payload.identifier("AccountSid") or source.provider_account
    headers = _authorization(source, payload)
    if not account or not headers:
        return None
    base = source.api_base_url.rstrip("/") or API
    url = f"{base}{_API_PATH}{quote(account, safe='')}/Calls/{call_sid}.json"
    return Lookup(url=url, headers=headers)


def _is_web(url: str) -> bool:
    return url.startswith(("https://", "http://")) and len(url) <= 4096


def _is_twilios(source: Source, url: str) -> bool:
    own = bool(source.api_base_url) and same_origin(url, source.api_base_url)
    return (own and _API_PATH in url) or has_host_of(url, "twilio.com")


def _ask(source: Source, payload: Payload, url: str) -> tuple[str, dict[str, str]]:
    """Return the URL where it is asked for, and the headers to show there."""
    provider = has_host_of(url, "twilio.com")
    if provider and source.api_base_url:
        url = at_base(url, source.api_base_url)
    trusted = same_origin(url, source.api_base_url) if source.api_base_url else provider
    return url, _authorization(source, payload) if trusted else {}


def _authorization(source: Source, payload: Payload) -> dict[str, str]:
    """Return the header with the account's own token, the source's credential, or the token that signs.

    A credential may be an auth token alone, or an API key: its SID, a colon and its secret.
    """
    account = payload.identifier("AccountSid") or ""
    own = next((secret.value for secret in source.secrets if account and secret.name == account), "")
    token = source.fetch_credential or (source.secrets[0].value if source.secrets else "")
    if token.startswith(_SIDS) and ":" in token and not own:
        pair = token
    elif own:
        pair = f"{account}:{own}"
    else:
        user = source.provider_account or account
        pair = f"{user}:{token}" if user and token else ""
    return {"Authorization": "Basic " + b64encode(pair.encode()).decode("ascii")} if pair else {}
