"""Every number that an operator can set has a range, and is refused in one line outside of it."""

from __future__ import annotations

import importlib
import math
import pkgutil
import typing

import pytest
import trunkline_ai
import trunkline_audio
import trunkline_gateway
import trunkline_tenant
from trunkline_ai.config import AiConfig
from trunkline_audio.config import AudioConfig
from trunkline_gateway.config import GatewayConfig
from trunkline_gateway.pipeline.config import WorkerConfig
from trunkline_runtime.config import CommonConfig, ConfigError, StoreConfig, declared, load
from trunkline_tenant.config import TenantConfig

CONFIGS = {
    "gateway": GatewayConfig, "worker": WorkerConfig, "tenant": TenantConfig, "audio": AudioConfig, "ai": AiConfig,
}  # fmt: skip


def is_number(kind: object) -> bool:
    return kind in (int, float) or any(is_number(inner) for inner in typing.get_args(kind))


NUMBERS = [
    (service, one)
    for service, config in CONFIGS.items()
    for one in declared(config, service)
    if is_number(one.kind)
]


def test_no_services_settings_are_forgotten_here():
    for package in (trunkline_gateway, trunkline_tenant, trunkline_audio, trunkline_ai):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if module.name.endswith(".config"):
                importlib.import_module(module.name)

    def below(config: type) -> set[type]:
        return {config}.union(*map(below, config.__subclasses__()))

    ours = {config for config in below(CommonConfig) if config.__module__.startswith("trunkline_")}
    assert ours == {CommonConfig, StoreConfig, *CONFIGS.values()}


@pytest.mark.parametrize(("service", "one"), NUMBERS, ids=lambda one: getattr(one, "name", one))
def test_a_number_has_a_range_and_one_line_says_it(service, one):
    name, facts = one.name, one.facts
    assert facts.most is not None, f"{name} has no upper bound"
    assert facts.least is not None, f"{name} has no lower bound"
    assert math.isfinite(facts.most)
    assert facts.least <= one.default <= facts.most
    for value in (facts.most * 2 + 1, facts.least - 1):
        with pytest.raises(ConfigError) as refused:
            load(CONFIGS[service], service, {name: f"{value:.0f}"})
        (line,) = [problem for problem in refused.value.problems if problem.startswith(name + " ")]
        assert "\n" not in line
        assert line == f"{name} must be {facts.allowed()}; it is '{value:.0f}'"
