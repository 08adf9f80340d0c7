"""AudioFeatureService over gRPC: translates, nothing more."""

from __future__ import annotations

import asyncio
from typing import Any

from trunkline.audio.v1 import audio_feature_service_pb2, audio_feature_service_pb2_grpc, audio_features_pb2
from trunkline_runtime.api import resources
from trunkline_runtime.errors import NotFound

from trunkline_audio.features.talk import audio_features
from trunkline_audio.names import FEATURES
from trunkline_audio.transcripts.rows import Transcripts


class AudioFeatureServicer(audio_feature_service_pb2_grpc.AudioFeatureServiceServicer):
    """Shows how people talk."""

    def __init__(self, transcripts: Transcripts) -> None:
        self._transcripts = transcripts

    async def GetAudioFeatures(
        self, request: audio_feature_service_pb2.GetAudioFeaturesRequest, context: Any
    ) -> audio_features_pb2.AudioFeatures:
        """Derive them."""
        ids = resources.parse(FEATURES, request.name)
        found = await self._transcripts.get(ids["tenant"], ids["transcript"])
        if found is None:
            raise NotFound(request.name)
        return await asyncio.to_thread(audio_features, found)
