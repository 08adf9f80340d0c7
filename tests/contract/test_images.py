"""The images hold no step that nobody ran: each RUN of the Dockerfile is a step that `make alone` runs too."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib

import pytest

from tools import images
from tools.packages import ROOT, packages

DOCKERFILE = ROOT / "docker" / "Dockerfile"
SERVICES = sorted(package.name for package in packages() if package.folder.parent.name == "services")


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", " ", DOCKERFILE.read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def stages() -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """What each stage begins from, and its instructions."""
    found: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    for word, rest in instructions():
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = (base, [])
        elif found:
            found[list(found)[-1]][1].append((word, rest))
    return found


def test_every_service_has_a_stage():
    assert set(SERVICES) <= set(stages())
    assert list(images.SERVICES) == ["gateway", "tenant", "audio", "ai"]
    assert sorted(images.SERVICES) == SERVICES


def test_every_run_is_a_step_of_the_script():
    steps = [rest for word, rest in instructions() if word == "RUN"]
    assert len(steps) == 2 + len(SERVICES)
    for step in steps:
        assert re.fullmatch(r"docker/install (tools|service|model) [^&|;]+", step), step


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_is_made_of_its_own_lock_and_code(service):
    made = stages()
    base, steps = made[f"{service}-files"]
    assert base == "builder"
    assert ("COPY", f"services/{service} services/{service}") in steps
    assert not [
        rest for word, rest in steps if word == "COPY" and "services/" in rest and service not in rest
    ]
    assert ("RUN", f'docker/install service {service} /opt/trunkline "$LOCK"') in steps


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_ends_without_root_and_without_tools(service):
    made = stages()
    base, steps = made[service]
    assert (base, made["runtime"][0]) == ("runtime", "${PYTHON}"), "tools stay in the stages before"
    assert ("USER", "10001:10001") in made["runtime"][1]
    assert not [word for word, _ in steps + made["runtime"][1] if word in ("RUN", "ADD")]
    copied = [rest for word, rest in steps if word == "COPY"]
    assert copied[-1] == f"--from={service}-files /opt/trunkline /opt/trunkline"
    labels = " ".join(rest for word, rest in steps + made["runtime"][1] if word == "LABEL")
    for label in ("title", "description", "licenses", "version", "revision", "created", "source"):
        assert f"org.opencontainers.image.{label}=" in labels
    (entry,) = [rest for word, rest in steps if word == "ENTRYPOINT"]
    assert json.loads(entry) == ["python", "-m", f"trunkline_{service}"]


def test_the_speech_model_is_a_layer_before_the_code():
    copied = [rest for word, rest in stages()["audio"][1] if word == "COPY"]
    assert copied == [
        "--from=model-files /models /models",
        "--from=audio-files /opt/trunkline /opt/trunkline",
    ]


def test_the_context_holds_what_is_copied():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for word, rest in instructions():
        if word == "COPY" and not rest.startswith("--from"):
            source = rest.split()[0]
            assert any(source == name or source.startswith(f"{name}/") for name in allowed), source


def test_the_script_knows_the_siblings_of_every_service():
    """It reads them without a parser of TOML, which the builder's shell has not; the same of the command."""
    for package in packages():
        if package.folder.parent.name != "services" and package.name != "cli":
            continue
        told = subprocess.run(
            ["sed", "-n", r"s/^siblings = \[\(.*\)\]/\1/p", package.folder / "pyproject.toml"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        wanted = tomllib.loads((package.folder / "pyproject.toml").read_text())["tool"]["trunkline"][
            "siblings"
        ]
        assert re.sub(r'[",]', "", told).split() == wanted
    assert r"s/^siblings = \[\(.*\)\]/\1/p" in (ROOT / "docker" / "install").read_text()


def test_the_command_of_a_build_names_target_tag_and_commit():
    command = images.command("buildah", "audio", "registry.example/x/", "1.2.3")
    assert command[:2] == ["buildah", "bud"]
    assert command[command.index("--target") + 1] == "audio"
    assert command[command.index("--tag") + 1] == "registry.example/x/trunkline-audio:1.2.3"
    assert (
        any(re.fullmatch(r"REVISION=[0-9a-f]{40}", word) for word in command) or not (ROOT / ".git").exists()
    )


def test_a_command_without_its_daemon_is_no_builder(tmp_path, monkeypatch):
    fake = tmp_path / "docker"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert images.builder(lambda name: str(fake) if name == "docker" else None) == ""
