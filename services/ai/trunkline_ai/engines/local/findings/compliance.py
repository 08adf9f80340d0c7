"""What the law asks a business to know of: that the call is recorded, and that somebody wants no more calls."""

from trunkline_ai.engines.base import Context
from trunkline_ai.engines.findings import Compliance, Flag, Side
from trunkline_ai.engines.local import cues
from trunkline_ai.engines.local.findings.speech import Sentence, SpokenSentences, first

_REPLIES = cues.words("opt_out_replies")
"""What a carrier takes for "no more messages" where it is all that a message says."""


def flags(speech: SpokenSentences, table: cues.CueTable, context: Context) -> tuple[Flag, ...]:
    """Each at its first place. Numbers that were read out are found elsewhere, for all engines."""
    found = {
        Compliance.RECORDING_CONSENT: first(speech, speech.by(Side.AGENT), table, "recording_consent"),
        Compliance.OPT_OUT: _reply(speech, context) or first(speech, speech.sentences, table, "opt_out"),
    }
    return tuple(Flag(kind, speech.quote(one)) for kind, one in found.items() if one is not None)


def _reply(speech: SpokenSentences, context: Context) -> Sentence | None:
    """The customer's message that is one such word."""
    if not context.message or len(speech.sentences) != 1:
        return None
    (only,) = speech.sentences
    return only if only.side is not Side.AGENT and only.said in _REPLIES else None
