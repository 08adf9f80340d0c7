"""Every language engine keeps to one suite."""

import pytest
from ai_engines_conformance import CHECKS, ENROLLED, EXCLUSIONS, MODEL_CHECKS, MODELS
from trunkline_ai.config import AiConfig
from trunkline_ai.engines.local.engine import LocalEngine
from trunkline_ai.engines.prompted import PromptedEngine
from trunkline_ai.routing.loader import NAMED, load_engines
from trunkline_runtime.config import ConfigError
from trunkline_runtime.testing import KEY_FOLDER


@pytest.mark.parametrize("engine", sorted(ENROLLED))
@pytest.mark.parametrize("name", sorted(CHECKS))
async def test_engine_conforms(engine, name):
    if reason := EXCLUSIONS.get((engine, name)):
        pytest.skip(f"{engine} is let off {name}: {reason}")
    async with ENROLLED[engine]() as made:
        await CHECKS[name](made)


@pytest.mark.parametrize("engine", sorted(MODELS))
@pytest.mark.parametrize("name", sorted(MODEL_CHECKS))
async def test_model_conforms(engine, name):
    async with MODELS[engine]() as made:
        await MODEL_CHECKS[name](made)


def test_every_engine_of_the_setting_is_enrolled():
    assert set(NAMED) <= set(ENROLLED)
    assert set(MODELS) <= set(ENROLLED)


def test_exclusions_name_what_is_there():
    for (engine, name), reason in EXCLUSIONS.items():
        assert engine in ENROLLED
        assert name in CHECKS
        assert reason


def loaded(engine):
    return load_engines(AiConfig(keys=KEY_FOLDER, engines=(engine,)))[engine]


def test_an_engine_is_found_by_name_or_by_module_and_factory():
    assert isinstance(loaded("local"), LocalEngine)
    assert loaded("tests.standins.instant_ai:create").name == "instant/standin"


def test_an_engine_that_only_completes_gets_its_tasks_from_prompts():
    made = loaded("tests.standins.completing_ai:create")
    assert isinstance(made, PromptedEngine)
    assert made.name == "completing/standin"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("none", "there is no engine 'none'; allowed are local, openai, vertex or module:factory"),
        ("nowhere:create", "'nowhere:create' cannot be loaded: No module named 'nowhere'; allowed are"),
        ("json:nothing", "'json:nothing' cannot be loaded"),
        ("json:__doc__", "'json:__doc__' is not a factory: it cannot be called"),
        ("json:loads", "'json:loads' cannot make an engine: TypeError"),
        ("builtins:dict", "'builtins:dict' does not make an engine: there is no name, problem,"),
    ],
)
def test_what_is_no_engine_is_refused_with_the_reason(setting, said):
    with pytest.raises(ConfigError) as told:
        loaded(setting)
    assert str(told.value).startswith(f"TRUNKLINE_AI_ENGINE: {said}")


def test_an_engine_that_does_no_task_is_refused(monkeypatch):
    monkeypatch.delattr("tests.standins.completing_ai.LeastEngine.complete")
    with pytest.raises(ConfigError, match="there is neither analyze nor complete"):
        loaded("tests.standins.completing_ai:create")
