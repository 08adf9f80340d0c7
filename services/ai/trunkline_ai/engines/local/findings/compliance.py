"""What the law asks a business to know of: that the call is recorded, and that somebody wants no more calls."""

from trunkline_ai.engines.findings import Compliance, Flag, Side
from trunkline_ai.engines.local import cues
from trunkline_ai.engines.local.findings.speech import Speech, first


def flags(speech: Speech, table: cues.CueTable) -> tuple[Flag, ...]:
    """Each at its first place. Numbers that were read out are found elsewhere, for all engines."""
    found = {
        Compliance.RECORDING_CONSENT: first(speech.by(Side.AGENT), table, "recording_consent"),
        Compliance.OPT_OUT: first(speech.sentences, table, "opt_out"),
    }
    return tuple(Flag(kind, speech.quote(one)) for kind, one in found.items() if one is not None)
