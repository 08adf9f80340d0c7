"""docs/production.md from an empty server on, by its own commands, in a folder that stands for the server's root.

What the documented commands install is what runs: processes are started with the settings and secrets that the units
give them. Where the document has systemd start or stop them, the test does.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from trunkline_cli.services import COMMANDS
from trunkline_cli.suite.processes import Suite

from tests.contract.test_one_server import entries, from_file, given
from tests.e2e.documented import ROOT, Shell, commands
from tests.forked import launch
from tools.bench.calls import INSTANT

pytestmark = pytest.mark.timeout(240)  # five processes start three times on what may be a busy machine


class Server:
    """The root of a server, its shell, and its processes."""

    def __init__(self, root: Path):
        self.root = root
        self.shell = Shell(root)
        for line in (ROOT / "deploy/systemd/tmpfiles.conf").read_text().splitlines():
            if line.startswith("d "):  # systemd-tmpfiles makes them for another user: see the contract test
                (root / line.split()[1][1:]).mkdir(parents=True, exist_ok=True)
        for folder in ("sysusers.d", "tmpfiles.d", "systemd/system", "caddy", "prometheus"):
            (root / "etc" / folder).mkdir(parents=True)
        (root / "opt/trunkline").mkdir(parents=True)
        source = root / "opt/trunkline/source"
        source.mkdir()
        for name in ("deploy", "requirements"):
            (source / name).symlink_to(ROOT / name)
        (root / "opt/trunkline/venv").symlink_to(ROOT / ".venv")
        (root / "opt/trunkline/tools").mkdir()
        self.suite = Suite(root / "suite", free_ports=True, launch=launch)

    def here(self, text: str) -> str:
        """Put this root in the place of the server's, and free ports in the place of the standard ones."""
        text = re.sub(r"(?<![\w./-])/(?=(etc|var/lib|opt)/)", f"{self.root}/", text)
        text = text.replace("sqlite:////var/", f"sqlite:///{self.root}/var/")
        ports = {"8080": self.suite.http}
        ports |= {"9090": self.suite.metrics["gateway"], "9091": self.suite.metrics["tenant"]}
        ports |= {"9094": self.suite.metrics["worker"]}
        for port, address in ports.items():
            text = re.sub(rf"127\.0\.0\.1:{port}\b", address, text)
        text = text.replace("docker/install", "docker-install")
        return text.replace(f"{self.root}/opt/trunkline/tools/bin/uv", "uv")

    def run(self, script: str) -> str:
        return self.shell.run(self.here(script), {})

    def installed(self, unit: str) -> dict[str, str]:
        """The environment that a unit gives its process: the file, then what the unit says, with the credentials."""
        path = self.root / "etc/systemd/system" / unit
        env = from_file((self.root / "etc/trunkline/trunkline.env").read_text())
        credentials = self.root / "run" / unit
        shutil.rmtree(credentials, ignore_errors=True)
        credentials.mkdir(parents=True)
        for key, value in entries(path):
            if key == "LoadCredential":
                name, _, source = value.partition(":")
                shutil.copy(self.here(source), credentials / name)
        return env | {name: value.replace("%d", str(credentials)) for name, value in given(path).items()}

    def start(self) -> None:
        env: dict[str, str] = {}
        for process in COMMANDS:
            env |= self.installed(f"trunkline-{process}.service")
        self.suite.env = {**env, **INSTANT}
        self.suite.start()

    def backup(self) -> None:
        """What systemd runs for trunkline-backup.service."""
        unit = self.root / "etc/systemd/system/trunkline-backup.service"
        env = self.installed(unit.name)
        for key, value in entries(unit):
            if key in ("ExecStart", "ExecStartPost"):
                self.shell.run(self.here(value), env)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    made = Server(tmp_path)
    yield made
    codes = made.suite.stop()
    assert set(codes.values()) <= {0}, codes


def section(name: str) -> str:
    """The commands of the document's section."""
    text = (ROOT / "docs/production.md").read_text()
    begun = text[: text.index(f"\n## {name}\n")].count("\n") + 1
    ended = begun + 1 + text[text.index(f"\n## {name}\n") + 1 :].partition("\n## ")[0].count("\n")
    return "".join(b.text for b in commands(ROOT / "docs/production.md") if begun < b.line <= ended)


def test_from_an_empty_server_to_the_first_webhook_and_back_from_a_backup(server):
    for name in ("Install", "Users, folders, and units", "Settings"):
        server.run(section(name))
    settings = server.root / "etc/trunkline/trunkline.env"
    settings.write_text(server.here(settings.read_text()))
    assert "the settings are correct" in server.run(section("Secrets and keys"))
    server.start()
    server.run(section("Start"))
    server.run(section("TLS"))
    said = server.run(section("The first tenant") + section("The first webhook"))
    assert "202 Accepted" in said
    # Each service keeps its state in its own folder.
    state = server.root / "var/lib/trunkline"
    for process in ("gateway", "tenant", "audio", "ai"):
        assert (state / process / f"{process}.db").exists()
    assert not list((server.root / "suite").glob("*.db"))
    server.run(section("Health, logs, and metrics"))
    backup, restore = section("Backup and restore").split("sudo systemctl stop trunkline.target\n")
    server.backup()
    server.run(backup)
    (old,) = [path for path in (state / "backups").iterdir() if path.is_dir()]
    assert {"secrets.key", "operator.token", "manifest.json"} <= {path.name for path in old.iterdir()}
    codes = server.suite.stop()
    assert set(codes.values()) == {0}, codes
    for name in ("tenant.db", "tenant.db-wal", "tenant.db-shm"):
        (state / "tenant" / name).unlink(missing_ok=True)
    assert "is back" in server.run(restore)
    server.start()
    tenants = 'OPERATOR="Authorization: Bearer $(sudo cat /etc/trunkline/secrets/operator.token)"\n'
    tenants += 'curl -H "$OPERATOR" http://127.0.0.1:8080/v1/tenants/my-shop\n'
    assert "My shop" in server.run(tenants)
    server.run(section("Upgrades"))
    server.run(section("Envoy instead of Caddy") + section("Docker Compose"))
    assert "TRUNKLINE_GATEWAY_API_LIMITS=edge\n" in (server.root / "etc/trunkline/trunkline.env").read_text()
    assert (server.root / "etc/trunkline/edge/envoy.json").stat().st_size > 1000
    # The tenant service starts with what the unit and its drop-in say.
    assert given(server.root / "etc/systemd/system/trunkline-tenant.service.d/edge.conf")


def test_old_backups_are_removed_and_nothing_else(server):
    folder = server.root / "var/lib/trunkline/backups"
    for name in ("20250101T000000Z", "20260101T000000Z", "mine"):
        (folder / name / "blobs").mkdir(parents=True)
        os.utime(folder / name, (1, 1))
    os.utime(folder / "20260101T000000Z")
    (folder / "erasures.json").write_text("{}")
    os.utime(folder / "erasures.json", (1, 1))
    unit = ROOT / "deploy/systemd/trunkline-backup.service"
    (command,) = [value for key, value in entries(unit) if key == "ExecStartPost"]
    server.run(command)
    assert sorted(path.name for path in folder.iterdir()) == ["20260101T000000Z", "erasures.json", "mine"]
