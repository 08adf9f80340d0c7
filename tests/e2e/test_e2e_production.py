"""docs/production.md from an empty server on, by its own commands, in a folder that stands for the server's root.

What the documented commands install is what runs: processes are started with the settings and secrets that the units
give them. Where the document has systemd start or stop them, the test does.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from trunkline_cli.services import COMMANDS
from trunkline_cli.suite import web
from trunkline_cli.suite.processes import Suite, free_port
from trunkline_runtime.config import declared
from trunkline_tenant.config import TenantConfig

from tests.contract.test_one_server import entries, from_file, given
from tests.e2e.documented import ROOT, Shell, commands
from tests.forked import launch
from tools.bench.calls import INSTANT
from tools.install import install_from_debian

pytestmark = pytest.mark.timeout(240)  # five processes start three times on what may be a busy machine


class Server:
    """The root of a server, its shell, and its processes."""

    def __init__(self, root: Path):
        self.root = root
        self.shell = Shell(root)
        for line in (ROOT / "deploy/systemd/tmpfiles.conf").read_text().splitlines():
            if line.startswith("d "):  # systemd-tmpfiles makes them for another user: see the contract test
                (root / line.split()[1][1:]).mkdir(parents=True, exist_ok=True)
        for folder in ("sysusers.d", "tmpfiles.d", "systemd/system", "caddy"):
            (root / "etc" / folder).mkdir(parents=True)
        (root / "opt/trunkline").mkdir(parents=True)
        source = root / "opt/trunkline/source"
        source.mkdir()
        for name in ("deploy", "requirements"):
            (source / name).symlink_to(ROOT / name)
        (root / "opt/trunkline/tools").mkdir()
        self.version("v0.1.0")
        self.shell.put("docker-install", f'#!/bin/bash\n[ "$1" != suite ] || ln -sfn {ROOT / ".venv"} "$2"\n')
        self.shell.put("id", "#!/bin/bash\necho 999\n")
        self.shell.put("certbot", _CERTBOT)
        self.suite = Suite(root / "suite", free_ports=True, launch=launch)
        self.prometheus = f"127.0.0.1:{free_port()}"

    def version(self, name: str) -> None:
        """Say which version of the source is checked out."""
        said = f'[[ " $* " != *" describe "* ]] || echo {name}'
        self.shell.put("git", f'#!/bin/bash\necho "git $*" >> "$LOG"\n{said}\n')

    def in_use(self) -> str:
        """The folder of the Python environment that the link names."""
        return (self.root / "opt/trunkline/venv").readlink().name

    def here(self, text: str) -> str:
        """Put this root in the place of the server's, and free ports in the place of the standard ones."""
        text = re.sub(r"(?<![\w./-])/(?=(etc|var/lib|opt)/)", f"{self.root}/", text)
        text = text.replace("sqlite:////var/", f"sqlite:///{self.root}/var/")
        ports = {"8080": self.suite.http}
        ports |= {"9090": self.suite.metrics["gateway"], "9091": self.suite.metrics["tenant"]}
        ports |= {"9092": self.suite.metrics["audio"], "9093": self.suite.metrics["ai"]}
        ports |= {"9094": self.suite.metrics["worker"], "9095": self.prometheus}
        for port, address in ports.items():
            text = re.sub(rf"127\.0\.0\.1:{port}\b", address, text)
        text = text.replace("docker/install", "docker-install")
        return text.replace(f"{self.root}/opt/trunkline/tools/bin/pip", "pip")

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
                self.shell.run(self.here(value).replace("$$", "$"), env)

    def prometheus_shows(self, program: Path) -> dict[str, dict[str, Any]]:
        """Start the Prometheus that was installed, and return what it says of itself."""
        settings = self.root / "etc/prometheus/trunkline/prometheus.yaml"
        settings.write_text(self.here(settings.read_text()))
        unit = self.root / "etc/systemd/system/prometheus.service.d/trunkline.conf"
        *_, command = [value for key, value in entries(unit) if key == "ExecStart"]
        arguments = [*self.here(command).split()[1:], f"--storage.tsdb.path={self.root / 'prometheus'}"]
        with (self.root / "prometheus.log").open("wb") as log:
            process = subprocess.Popen([program, *arguments], stdout=log, stderr=log)
        try:
            until = time.monotonic() + 60
            while not answers(f"http://{self.prometheus}/-/ready"):
                assert process.poll() is None, (self.root / "prometheus.log").read_text()
                assert time.monotonic() < until
                time.sleep(0.05)
            url = f"http://{self.prometheus}/api/v1"
            # Its targets are there some seconds later only.
            return {what: web.get(f"{url}/{what}").json()["data"] for what in ("status/config", "rules")}
        finally:
            process.kill()
            process.wait()


# It has a certificate, and tells the hook where, as certbot does.
_CERTBOT = """#!/bin/bash
while [[ "$1" != --deploy-hook ]]; do shift; done
mkdir -p "$PWD/lineage"
for name in fullchain privkey; do echo "$name" > "$PWD/lineage/$name.pem"; done
RENEWED_LINEAGE="$PWD/lineage" sh -euc "$2"
"""


def answers(url: str) -> bool:
    try:
        return web.get(url).is_success
    except httpx.HTTPError:
        return False


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
    if program := install_from_debian("prometheus"):
        shown = server.prometheus_shows(program)
        told = yaml.safe_load(shown["status/config"]["yaml"])["scrape_configs"]
        scraped = {one for job in told for to in job["static_configs"] for one in to["targets"]}
        assert scraped >= set(server.suite.metrics.values())
        assert len(shown["rules"]["groups"]) == 2
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


def test_an_upgrade_is_a_release_beside_the_old_one_and_going_back_is_the_old_one(server):
    for name in ("Install", "Users, folders, and units", "Settings"):
        server.run(section(name))
    (server.root / "etc/prometheus/trunkline").mkdir(parents=True)
    assert server.in_use() == "venv-v0.1.0"
    server.version("v0.2.0")
    upgrade = section("Upgrades")
    server.run(upgrade.partition("cd deploy/systemd\n")[0])
    assert server.in_use() == "venv-v0.1.0", "what runs isn't touched"
    server.run(upgrade)
    assert server.in_use() == "venv-v0.2.0"
    server.run(section("Going back"))
    assert server.in_use() == "venv-v0.1.0"


def test_envoy_takes_the_place_of_caddy_and_compose_that_of_the_units(server):
    for name in ("Install", "Users, folders, and units", "Settings"):
        server.run(section(name))
    (server.root / "etc/trunkline/secrets/secrets.key").touch()
    (server.root / "etc/trunkline/secrets/operator.token").touch()
    settings = server.root / "etc/trunkline/trunkline.env"
    assert from_file(settings.read_text())["TRUNKLINE_TENANT_RATE_ADDRESS_PER_HOUR"] == "0"
    server.run(section("Docker Compose"))
    told = from_file((server.root / "etc/trunkline/compose.env").read_text(), prefix="")
    assert told == {"OWNER": "999:999", "VERSION": "v0.1.0"}
    compose = (ROOT / "deploy/compose/compose.yaml").read_text()
    assert set(re.findall(r"\$\{(\w+)", compose)) == told.keys()
    called = server.shell.log.read_text()
    assert "docker compose --env-file" in called
    assert "systemctl enable --now trunkline-backup.timer" in called
    assert "systemctl enable --now trunkline.target" not in called

    server.run(section("Envoy instead of Caddy"))
    env = from_file(settings.read_text())
    assert env["TRUNKLINE_GATEWAY_API_LIMITS"] == "edge"
    # Envoy sees the clients' own addresses: their limit is the default again.
    limit = {one.name: one.default for one in declared(TenantConfig, "tenant")}
    assert env["TRUNKLINE_TENANT_RATE_ADDRESS_PER_HOUR"] == str(
        limit["TRUNKLINE_TENANT_RATE_ADDRESS_PER_HOUR"]
    )
    assert (server.root / "etc/trunkline/edge/envoy.json").stat().st_size > 1000
    # The tenant service starts with what the unit and its drop-in say.
    assert given(server.root / "etc/systemd/system/trunkline-tenant.service.d/edge.conf")
    for name, text in {"tls.crt": "fullchain", "tls.key": "privkey"}.items():
        path = server.root / "etc/trunkline/edge" / name
        assert (path.read_text().strip(), path.stat().st_mode & 0o777) == (text, 0o600)
    called = server.shell.log.read_text()
    order = ["disable --now caddy", "try-restart trunkline-envoy", "enable --now trunkline-envoy"]
    assert sorted(order, key=called.index) == order


def test_an_upgrade_brings_every_file_that_the_installation_copied_and_the_model():
    """But for those that hold the server's own values."""
    own = {"deploy/trunkline.env", "deploy/proxy/Caddyfile", "deploy/prometheus/alertmanager.yaml"}
    installed = copied("Users, folders, and units", "Settings", "TLS", "Health, logs, and metrics") - own
    assert len(installed) >= 7
    assert installed <= copied("Upgrades")
    for step in ("docker/install tools", "docker/install suite", "docker/install model"):
        assert step in section("Install")
        assert step in section("Upgrades")


def copied(*sections: str) -> set[str]:
    """The files of deploy/ that sections' commands copy, by path."""
    found: set[str] = set()
    for name in sections:
        folder = ROOT
        for line in section(name).splitlines():
            words = line.split()
            if words[:1] == ["cd"]:
                folder = folder / words[1].replace("/opt/trunkline/source", str(ROOT))
            elif words[:2] == ["sudo", "cp"]:
                for word in (one for one in words[2:-1] if one != "-r"):
                    path = word.replace("/opt/trunkline/source", str(ROOT))
                    found |= {
                        str(one.relative_to(ROOT)) for one in ROOT.glob(os.path.relpath(folder / path, ROOT))
                    }
    return found


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
