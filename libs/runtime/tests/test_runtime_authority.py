"""The development authority: what it makes, for whose eyes, and when it makes it anew."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from trunkline_runtime.identity.authority import Authority
from trunkline_runtime.identity.certificates import Certificate, read
from trunkline_runtime.identity.peers import PEERS

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def certificate(folder: Path) -> Certificate:
    return read(*((folder / name).read_bytes() for name in ("tls.crt", "tls.key", "ca.crt")))


def test_every_holder_gets_a_certificate_of_one_authority(tmp_path: Path) -> None:
    assert Authority(tmp_path / "tls").renew() == list(PEERS)
    for name in PEERS:
        made = certificate(tmp_path / "tls" / name)
        assert made.names == {f"{name}.trunkline.internal"}
        assert made.authorities == (tmp_path / "tls" / "ca.crt").read_bytes()
        own = x509.load_pem_x509_certificate(made.chain)
        own.verify_directly_issued_by(x509.load_pem_x509_certificate(made.authorities))


def test_only_the_owner_can_read(tmp_path: Path) -> None:
    Authority(tmp_path / "tls").renew()
    for path in (tmp_path / "tls").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    assert (tmp_path / "tls").stat().st_mode & 0o077 == 0


def test_what_is_good_stays_and_the_last_third_of_a_life_is_renewed(tmp_path: Path) -> None:
    Authority(tmp_path, now=lambda: NOW).renew(("audio",), days=30)
    before = certificate(tmp_path / "audio")
    assert Authority(tmp_path, now=lambda: NOW + timedelta(days=19)).renew(("audio",)) == []
    assert certificate(tmp_path / "audio") == before
    assert Authority(tmp_path, now=lambda: NOW + timedelta(days=21)).renew(("audio",)) == ["audio"]
    assert certificate(tmp_path / "audio").ends == NOW + timedelta(days=21 + 90)
    assert Authority(tmp_path, now=lambda: NOW).renew(("audio",), force=True) == ["audio"]


@pytest.mark.parametrize("spoiled", ["tls.crt", "tls.key", "ca.crt"])
def test_what_does_not_fit_together_is_made_anew(tmp_path: Path, spoiled: str) -> None:
    for folder in (tmp_path / "one", tmp_path / "other"):
        Authority(folder).renew(("audio", "tenant"))
    (tmp_path / "one" / "audio" / spoiled).write_bytes((tmp_path / "other" / "tenant" / spoiled).read_bytes())
    assert Authority(tmp_path / "one").renew(("audio", "tenant")) == ["audio"]


def test_no_certificate_outlives_its_authority(tmp_path: Path) -> None:
    Authority(tmp_path, now=lambda: NOW)
    late = NOW + timedelta(days=3640)
    Authority(tmp_path, now=lambda: late).issue("audio", days=90)
    assert certificate(tmp_path / "audio").ends == NOW + timedelta(days=3650)


def test_a_certificate_says_when_it_is_late(tmp_path: Path) -> None:
    Authority(tmp_path, now=lambda: NOW).issue("audio", days=100)
    made = certificate(tmp_path / "audio")
    assert made.problem(NOW + timedelta(days=50)) == ""
    assert "was not renewed" in made.problem(NOW + timedelta(days=95))
    assert "expired" in made.problem(NOW + timedelta(days=101))
    assert "not valid before" in made.problem(NOW - timedelta(days=1))
