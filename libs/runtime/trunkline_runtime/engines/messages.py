"""An engine's usage as the message that resources show."""

from __future__ import annotations

from trunkline.common.v1 import usage_pb2

from trunkline_runtime.engines.base import EngineUsage


def usage_message(usage: EngineUsage) -> usage_pb2.EngineUsage:
    """Return the message; audio to the microsecond."""
    message = usage_pb2.EngineUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost_micros=usage.cost_micros,
        cached=usage.cached,
        reused_similarity=usage.reused_similarity,
    )
    if usage.audio_seconds:
        message.audio_duration.FromMicroseconds(round(usage.audio_seconds * 1_000_000))
    return message
