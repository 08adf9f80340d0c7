"""What a conversation was about, from a readable table of trades and matters."""

import re

from trunkline_ai.engines.local import cues

_MOST = 5


class TopicRules:
    """Topics by how often their words occur; the table's order breaks ties."""

    def __init__(self) -> None:
        table = cues.load("topics.toml")["topics"]
        self._patterns: list[tuple[str, re.Pattern[str]]] = [
            (topic, cues.compile_cue(str(expression), {})) for topic, expression in table.items()
        ]

    def find(self, text: str) -> tuple[str, ...]:
        """At most five topics of canonical text, the most mentioned first."""
        counted = ((topic, len(pattern.findall(text))) for topic, pattern in self._patterns)
        said = [(topic, count) for topic, count in counted if count]
        return tuple(topic for topic, _ in sorted(said, key=lambda item: -item[1])[:_MOST])
