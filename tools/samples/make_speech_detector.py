"""Writes the speech detector that the audio service ships: Silero's model, computed by matrix products.

    uv run --no-project --with onnx python tools/samples/make_speech_detector.py

Silero's model (tests/data/models) has convolutions over four steps of time. onnxruntime runs those frame by frame.
Here, each is one product of the steps of all frames with the same weights, so the same sums are made in less than half
the time. Weights, inputs, and outputs are Silero's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "tests" / "data" / "models" / "silero_vad_16k_sequence.onnx"
TARGET = ROOT / "services" / "audio" / "trunkline_audio" / "models" / "silero_vad_16k_products.onnx"
OPSET = 16
IR = 8
HOP = 128
BINS = 129


class Graph:
    """A graph that grows node by node; each value has the name that it is given."""

    def __init__(self, weights: dict[str, Any]) -> None:
        self.weights = weights
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def constant(self, name: str, value: Any) -> str:
        """Add a constant."""
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def numbers(self, *values: int) -> str:
        """Add a constant of integers."""
        return self.constant("numbers " + " ".join(map(str, values)), np.array(values, np.int64))

    def node(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Add a node with one output."""
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def steps(self, value: str, begin: int, step: int, name: str) -> str:
        """Take four steps of time or, by twos, two of them: (frames, steps, width)."""
        bounds = [self.numbers(begin), self.numbers(begin + 4), self.numbers(1), self.numbers(step)]
        return self.node("Slice", [value, *bounds], name)

    def layer(self, value: str, layer: int, taps: tuple[int, ...]) -> str:
        """Multiply what lies under a kernel's taps with them, add the bias, cut off what is negative."""
        weight = self.weights[f"encoder.{layer}.weight"]
        product = np.concatenate([weight[:, :, tap].T for tap in taps])
        sums = self.node(
            "MatMul", [value, self.constant(f"weight {layer}", product)], f"encoder {layer} product"
        )
        bias = self.constant(f"bias {layer}", self.weights[f"encoder.{layer}.bias"])
        return self.node("Relu", [self.node("Add", [sums, bias], f"encoder {layer} sum")], f"encoder {layer}")

    def convolved(self, value: str, layer: int, step: int) -> str:
        """Convolve four steps of time, a step of silence before and behind them, with a kernel of three."""
        padded = self.node("Pad", [value, self.numbers(0, 1, 0, 0, 1, 0)], f"encoder {layer} padded")
        under = [self.steps(padded, tap, step, f"encoder {layer} under {tap}") for tap in range(3)]
        return self.layer(self.node("Concat", under, f"encoder {layer} under", axis=2), layer, (0, 1, 2))


def main() -> None:
    """Write the model."""
    source = onnx.load(SOURCE)
    weights = {item.name: numpy_helper.to_array(item) for item in source.graph.initializer}
    graph = Graph(weights)
    magnitude = _magnitude(graph)
    coded = graph.convolved(graph.convolved(magnitude, 0, 1), 1, 2)
    # Of two steps of time and of one, the rest of the kernel lies on silence.
    flat = graph.node("Reshape", [coded, graph.numbers(-1, 128)], "encoder 1 flat")
    coded = graph.layer(graph.layer(flat, 2, (1, 2)), 3, (1,))
    _scored(graph, coded)
    made = helper.make_model(
        helper.make_graph(
            graph.nodes, "silero", source.graph.input, source.graph.output, list(graph.constants.values())
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR,
    )
    onnx.checker.check_model(made)
    TARGET.write_bytes(made.SerializeToString(deterministic=True))


def _magnitude(graph: Graph) -> str:
    """The spectrum of four windows of each frame: (frames, 4, BINS)."""
    padded = graph.node("Pad", ["input", graph.numbers(0, 0, 0, HOP // 2)], "padded", mode="reflect")
    hops = graph.node("Reshape", [padded, graph.numbers(-1, 5, HOP)], "hops")
    halves = [graph.steps(hops, begin, 1, f"hops from {begin}") for begin in range(2)]
    windows = graph.node("Concat", halves, "windows", axis=2)
    basis = graph.weights["stft.forward_basis_buffer"][:, 0]
    squares = []
    for name, part in (("real", basis[:BINS]), ("imaginary", basis[BINS:])):
        value = graph.node("MatMul", [windows, graph.constant(f"basis {name}", part.T)], name)
        squares.append(graph.node("Mul", [value, value], f"{name} squared"))
    return graph.node("Sqrt", [graph.node("Add", squares, "power")], "magnitude")


def _scored(graph: Graph, coded: str) -> None:
    sequence = graph.node("Unsqueeze", [coded, graph.numbers(1)], "sequence")
    recurrent = [
        graph.constant(name, graph.weights[f"onnx::LSTM_{number}"])
        for name, number in (("recurrent input", 209), ("recurrent state", 210), ("recurrent bias", 211))
    ]
    graph.nodes.append(
        helper.make_node(
            "LSTM", [sequence, *recurrent, "", "h", "c"], ["said", "hn", "cn"], hidden_size=128, name="said"
        )
    )
    said = graph.node("Reshape", ["said", graph.numbers(-1, 128)], "said flat")
    product = graph.node(
        "MatMul",
        [
            graph.node("Relu", [said], "said positive"),
            graph.constant("output weight", graph.weights["output.weight"][0]),
        ],
        "output product",
    )
    total = graph.node(
        "Add", [product, graph.constant("output bias", graph.weights["output.bias"])], "output sum"
    )
    scores = graph.node("Sigmoid", [total], "output")
    graph.node("Reshape", [scores, graph.numbers(-1)], "speech_probs")


if __name__ == "__main__":
    main()
