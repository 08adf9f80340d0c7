"""Every speech engine keeps to one suite."""

import asyncio
from pathlib import Path

import pytest
import pytest_asyncio
from audio_engines_conformance import CHECKS, ENROLLED, EXCLUSIONS, World
from trunkline_audio.app import PREPARE
from trunkline_audio.engines.base import SpeechCapabilities
from trunkline_audio.engines.loader import NAMED, load_engines
from trunkline_audio.engines.settings import SpeechEngineSettings
from trunkline_audio.media.preparation import PrepareLimits, Preparer
from trunkline_audio.workers.pool import WorkerPool
from trunkline_runtime.config import ConfigError

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=sorted(ENROLLED))
async def world(request, tmp_path_factory):
    """The engine, ready, with a decoder."""
    folder = tmp_path_factory.mktemp(request.param)
    preparer = Preparer(WorkerPool(PREPARE, size=1, name="decoder"), folder / "scratch", PrepareLimits())
    make = ENROLLED[request.param]
    engine = make()
    preparer.start()
    try:
        async with engine:
            async with asyncio.timeout(60):
                while engine.problem:
                    assert "\n" not in engine.problem
                    await asyncio.sleep(0.05)
            yield request.param, World(engine, preparer, folder, make)
    finally:
        await preparer.close()


@pytest.mark.parametrize("name", sorted(CHECKS))
async def test_engine_conforms(world, name):
    engine, made = world
    if reason := EXCLUSIONS.get((engine, name)):
        pytest.skip(f"{engine} is let off {name}: {reason}")
    await CHECKS[name](made)


async def test_every_engine_of_the_setting_is_enrolled():
    assert set(NAMED) <= set(ENROLLED)


async def test_exclusions_name_what_is_there():
    for (engine, name), reason in EXCLUSIONS.items():
        assert engine in ENROLLED
        assert name in CHECKS
        assert reason


async def test_an_engine_of_ones_own_is_found_by_module_and_factory():
    settings = SpeechEngineSettings(engines=("tests.standins.submitting_audio:create",))
    assert (
        load_engines(settings, Path())["tests.standins.submitting_audio:create"].name == "submitting/standin"
    )


@pytest.mark.parametrize(("able", "missing"), [("submits", "submit, poll, cancel"), ("streams", "stream")])
async def test_an_engine_that_promises_what_it_has_not_is_refused(monkeypatch, able, missing):
    promised = SpeechCapabilities(**{able: True})
    monkeypatch.setattr("tests.standins.instant_audio.InstantEngine.capabilities", promised)
    with pytest.raises(ConfigError, match=f"says that it {able} and has no {missing}"):
        load_engines(SpeechEngineSettings(engines=("tests.standins.instant_audio:create",)), Path())
