"""Makes this folder's helper modules (audio_*.py) importable by its tests, and what Google's tests share."""

import sys
from pathlib import Path

import pytest
import pytest_asyncio

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)


@pytest.fixture
def google():
    """A stand-in for Google's service."""
    from audio_google import GoogleSpeech

    server = GoogleSpeech()
    yield server
    server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def preparer(tmp_path_factory):
    """What decodes recordings, in a process of its own."""
    from trunkline_audio.app import PREPARE
    from trunkline_audio.media.preparation import PrepareLimits, Preparer
    from trunkline_audio.workers.pool import WorkerPool

    folder = tmp_path_factory.mktemp("prepared")
    made = Preparer(WorkerPool(PREPARE, size=1, name="decoder"), folder / "scratch", PrepareLimits())
    made.start()
    yield made
    await made.close()


@pytest.fixture
def recording(preparer, tmp_path):
    """Makes a recording of a tenant from samples at 16 kHz, a channel each."""
    import audio_sounds as sounds
    from trunkline_audio.engines.recording import RecordingFile

    def make(*lanes, language="en-US", tenant="acme", phrases=()):
        path = tmp_path / "call.wav"
        path.write_bytes(sounds.wav(*lanes, rate=16_000))
        seconds = len(lanes[0]) / 16_000
        return RecordingFile(path, preparer, tenant, language, seconds, len(lanes), phrases=phrases)

    return make
