"""A speech engine that can do all that the interface has: each minute of a recording is one word, "minute".

TRUNKLINE_AUDIO_ENGINE=tests.standins.submitting_audio:create, started from the repository's root.
"""

import uuid

from trunkline_audio.engines.base import EngineResult, Segment, SpeechCapabilities, Submission, Word
from trunkline_runtime.engines.base import EngineError, EngineUsage

MINUTE = 60.0
SAMPLE_RATE = 16_000


class MinuteEngine:
    name = "submitting/standin"
    problem = ""
    capabilities = SpeechCapabilities(
        longest_seconds=MINUTE, detects_language=True, word_times=True, submits=True, streams=True
    )

    def __init__(self):
        self.submitted = {}

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    async def transcribe(self, recording):
        if recording.seconds > self.capabilities.longest_seconds:
            raise EngineError("RECORDING_TOO_LONG", "longer than a minute", transient=False)
        return self.heard(recording.seconds, recording.language)

    def heard(self, seconds, language):
        count = max(1, round(seconds / MINUTE)) if seconds else 0
        times = [(seconds * n / count, seconds * (n + 1) / count) for n in range(count)]
        segments = tuple(Segment(0, 0, *at, "minute", (Word("minute", *at, 1.0),)) for at in times)
        usage = EngineUsage(audio_seconds=seconds, cost_micros=round(seconds * 100))
        return EngineResult(self.name, language or "en", segments, speech_seconds=seconds, usage=usage)

    async def submit(self, recording):
        name = uuid.uuid4().hex
        self.submitted[name] = [0.0, recording.seconds, recording.language]
        return name

    async def poll(self, submission):
        if submission not in self.submitted:
            raise EngineError("SUBMISSION_GONE", "there is no such submission", transient=False)
        done, seconds, language = self.submitted[submission]
        if done >= seconds:
            return Submission(seconds, self.heard(seconds, language))
        self.submitted[submission][0] = min(seconds, done + MINUTE)
        return Submission(done)

    async def cancel(self, submission):
        self.submitted.pop(submission, None)

    async def stream(self, sound, language):
        begin = heard = 0
        async for chunk in sound:
            heard += len(chunk) / 2 / SAMPLE_RATE
            if heard - begin >= MINUTE:
                yield Segment(0, 0, begin, heard, "minute")
                begin = heard
        if heard > begin:
            yield Segment(0, 0, begin, heard, "minute")


def create():
    return MinuteEngine()
