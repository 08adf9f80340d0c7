"""What the suite finds itself in a conversation, whatever engine analysed it."""

from __future__ import annotations

from dataclasses import replace

from trunkline.ai.v1 import analysis_pb2

from trunkline_ai.analyses.compliance import numbers_read_out
from trunkline_ai.analyses.dialogue import Dialogue
from trunkline_ai.analyses.keywords import mentions_of
from trunkline_ai.analyses.messages import message_of
from trunkline_ai.engines.base import AnalysisResult
from trunkline_ai.engines.quotes import Script


def analysis_of(result: AnalysisResult, conversation: Dialogue) -> analysis_pb2.Analysis:
    """The analysis with the tenant's keywords and the numbers that were read out, without name, call and time."""
    script = Script(conversation.transcript)
    found = result.findings
    numbers = numbers_read_out(script)
    if numbers:
        told = {flag.type for flag in numbers}
        others = tuple(flag for flag in found.compliance if flag.type not in told)
        result = replace(result, findings=replace(found, compliance=(*others, *numbers)))
    return message_of(result, mentions_of(conversation.context.settings.keywords, script))
