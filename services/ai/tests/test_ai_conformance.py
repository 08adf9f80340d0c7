"""The ai service's conformance suite on every engine."""

from ai_conformance import CHECKS, EXCLUSIONS, World
from trunkline_ai.schema import metadata

from tests.integration.conforming import Conformance


class TestAi(Conformance):
    metadata = metadata
    migrations = "trunkline_ai.migrations"
    checks = CHECKS
    exclusions = EXCLUSIONS

    def world(self, db, clock, folder):
        return World(db, clock)
