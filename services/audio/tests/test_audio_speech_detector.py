"""The speech detector that ships: another way to compute Silero's model, with the same scores."""

import io
from importlib import resources
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from trunkline_audio.media.preprocess.decode import decode
from trunkline_audio.media.preprocess.timeline import RATE
from trunkline_audio.media.preprocess.vad import CONTEXT, FRAME, MODEL, VoiceActivity
from trunkline_audio.models.digests import check_manifest

DATA = Path(__file__).parents[3] / "tests" / "data"
SILERO = DATA / "models" / "silero_vad_16k_sequence.onnx"


def call(name):
    lane = io.BytesIO()
    decode(io.BytesIO((DATA / "calls" / name).read_bytes()), [lane, io.BytesIO()], 60)
    return np.frombuffer(lane.getvalue(), "<i2").astype(np.int16)


def scored(model, samples):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    sound = samples[: len(samples) // FRAME * FRAME].astype(np.float32) / 32768.0
    led = np.concatenate([np.zeros(CONTEXT, np.float32), sound])
    frames = np.lib.stride_tricks.sliding_window_view(led, CONTEXT + FRAME)[::FRAME]
    state = np.zeros((1, 1, 128), np.float32)
    return session.run(["speech_probs"], {"input": np.ascontiguousarray(frames), "h": state, "c": state})[0]


SOUNDS = {
    "telephone": lambda: call("furnace-help.wav"),
    "two voices": lambda: call("water-heater.ogg"),
    "noise": lambda: np.random.default_rng(5).integers(-9000, 9000, 4 * RATE).astype(np.int16),
    "silence": lambda: np.zeros(4 * RATE, np.int16),
    "clipped": lambda: (np.sign(np.sin(np.arange(4 * RATE) / 20)) * 32767).astype(np.int16),
}


@pytest.mark.parametrize("name", SOUNDS)
def test_speech_is_found_where_silero_finds_it(name):
    samples = SOUNDS[name]()
    shipped = resources.files("trunkline_audio.models").joinpath(MODEL).read_bytes()
    silero, ours = scored(SILERO.read_bytes(), samples), scored(shipped, samples)
    assert np.abs(silero - ours).max() < 1e-4
    activity = VoiceActivity()
    assert activity.spans(silero, len(samples)) == activity.spans(ours, len(samples))


def test_the_models_that_ship_are_those_that_are_listed():
    with resources.as_file(resources.files("trunkline_audio.models")) as folder:
        check_manifest(folder)
        assert MODEL in (folder / "SHA256SUMS").read_text()
