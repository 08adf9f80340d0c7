"""What a conversation was about, from a readable table of trades and matters."""

from trunkline_ai.engines.local import cues
from trunkline_ai.engines.local.text import Spoken

_MOST = 5


class TopicRules:
    """Topics by how often their words occur; the table's order breaks ties."""

    def __init__(self) -> None:
        table = cues.load("topics.toml")["topics"]
        self._cues = cues.CueTable.of(
            {topic: {str(expression): 1.0} for topic, expression in table.items()}, {}
        )

    def find(self, text: Spoken) -> tuple[str, ...]:
        """At most five topics of a text, the most mentioned first."""
        said = [(topic, count) for topic, count in self._cues.counts(text).items() if count]
        return tuple(topic for topic, _ in sorted(said, key=lambda item: -item[1])[:_MOST])
