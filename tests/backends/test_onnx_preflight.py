"""ONNX models that would harm the host: refused before ONNX Runtime sees them."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from tests.backends.onnx_models import doubling, endless_loop, matmul, model_of, onnx_guest, value
from wasinn_backends.onnx_preflight import MAX_DEPTH, MAX_FUNCTION_DEPTH, preflight
from wasinn_host.nn.errors import ErrorKind, WasiNnError


def _kind(model: bytes) -> ErrorKind | None:
    try:
        preflight(model)
    except WasiNnError as error:
        return error.kind
    return None


def _external(location: str, *, flagged: bool = True, name: str = "w") -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[2])
    if flagged:
        tensor.data_location = TensorProto.EXTERNAL
    for key, text in (("location", location), ("offset", "0"), ("length", "8")):
        tensor.external_data.add(key=key, value=text)
    return tensor


LOCATIONS = [
    "/etc/passwd",
    "../secret",
    "weights.bin",
    "*/_ORT_MEM_ADDR_/*",
    "",
    "file:///etc/passwd",
    "a\0b",
]


class TestExternalData:
    @pytest.mark.parametrize("location", LOCATIONS)
    @pytest.mark.parametrize("flagged", [True, False])
    def test_in_an_initializer(self, location: str, flagged: bool) -> None:
        guest = onnx_guest()
        model = model_of(
            [helper.make_node("Add", ["x", "w"], ["y"])],
            [value("x", [2])],
            [value("y", [2])],
            tensors=[_external(location, flagged=flagged)],
        )
        assert guest.load(model) == 6
        assert "must not contain a tensor with external data" in guest.error()

    def test_in_a_file_of_the_current_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "weights.bin").write_bytes(bytes(8))
        tensor = _external("weights.bin")
        node = helper.make_node("Add", ["x", "w"], ["y"])
        model = model_of([node], [value("x", [2])], [value("y", [2])], tensors=[tensor])
        assert onnx_guest().load(model) == 6

    def test_only_the_flag(self) -> None:
        tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2])
        tensor.data_location = TensorProto.EXTERNAL
        assert _kind(model_of([], [], [], tensors=[tensor])) is ErrorKind.UNSUPPORTED_OPERATION

    def test_in_attributes_subgraphs_functions_and_sparse_tensors(self) -> None:
        tensor = _external("x")
        in_attribute = helper.make_node("Constant", [], ["c"], value=tensor)
        in_list = helper.make_node("Constant", [], ["c"])
        in_list.attribute.append(
            onnx.AttributeProto(name="l", type=onnx.AttributeProto.TENSORS, tensors=[tensor])
        )
        subgraph = helper.make_graph([in_attribute], "then", [], [value("c", [2])])
        in_subgraph = helper.make_node("If", ["x"], ["y"], then_branch=subgraph)
        in_graphs = helper.make_node("If", ["x"], ["y"])
        in_graphs.attribute.append(
            onnx.AttributeProto(name="g", type=onnx.AttributeProto.GRAPHS, graphs=[subgraph])
        )
        sparse = onnx.SparseTensorProto(values=tensor, dims=[2])
        in_sparse = helper.make_node("Constant", [], ["c"])
        in_sparse.attribute.append(
            onnx.AttributeProto(
                name="s", type=onnx.AttributeProto.SPARSE_TENSOR, sparse_tensor=sparse
            )
        )
        for node in (in_attribute, in_list, in_subgraph, in_graphs, in_sparse):
            assert _kind(model_of([node], [], [])) is ErrorKind.UNSUPPORTED_OPERATION, node
            function = helper.make_function(
                "f", "F", [], ["c"], [node], [helper.make_opsetid("", 17)]
            )
            with_function = model_of([], [], [], functions=[function])
            assert _kind(with_function) is ErrorKind.UNSUPPORTED_OPERATION, node
        graph = helper.make_graph([], "g", [], [], sparse_initializer=[sparse])
        model = helper.make_model(graph).SerializeToString()
        assert _kind(model) is ErrorKind.UNSUPPORTED_OPERATION

    def test_in_training_information(self) -> None:
        model = onnx.load_model_from_string(doubling())
        training = model.training_info.add()
        training.initialization.initializer.append(_external("x"))
        assert _kind(model.SerializeToString()) is ErrorKind.UNSUPPORTED_OPERATION

    def test_a_flag_that_is_cut_to_32_bits_elsewhere(self) -> None:
        """data_location = 2**32 + 1: parsers that keep 32 bits read 1, external."""
        tensor = b"\x08\x02\x70" + _varint((1 << 32) + 1)
        assert _kind(_with_initializer(tensor)) is ErrorKind.UNSUPPORTED_OPERATION

    def test_a_field_number_that_is_cut_to_32_bits_elsewhere(self) -> None:
        tag = _varint((1 << 32) | (14 << 3))
        assert _kind(_with_initializer(b"\x08\x02" + tag + b"\x01")) is ErrorKind.INVALID_ENCODING
        padded = bytes([14 << 3 & 0x7F | 0x80, 0x80, 0x80, 0x80, 0x80, 0x00])
        assert _kind(_with_initializer(padded + b"\x01")) is ErrorKind.INVALID_ENCODING

    def test_ep_context(self) -> None:
        node = helper.make_node("EPContext", [], ["y"], domain="com.microsoft", embed_mode=0)
        assert _kind(model_of([node], [], [])) is ErrorKind.UNSUPPORTED_OPERATION


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _with_initializer(tensor: bytes) -> bytes:
    return b"\x08\x09" + _field(7, _field(5, tensor))


class TestStructure:
    def test_good_models_pass(self) -> None:
        for model in (doubling(), matmul(np.ones((3, 4), np.float32)), endless_loop()):
            assert _kind(model) is None

    def test_no_graph(self) -> None:
        assert _kind(b"\x08\x09\x12\x01a") is ErrorKind.INVALID_ENCODING

    def test_two_graphs_which_protobuf_would_merge(self) -> None:
        assert _kind(b"\x08\x09" + _field(7, b"") + _field(7, b"")) is ErrorKind.INVALID_ENCODING

    def test_two_tensors_in_one_attribute(self) -> None:
        attribute = _field(1, b"value") + _field(5, b"\x08\x01") + _field(5, b"\x08\x02")
        model = b"\x08\x09" + _field(7, _field(1, _field(5, attribute)))
        assert _kind(model) is ErrorKind.INVALID_ENCODING

    @pytest.mark.parametrize(
        "model",
        [
            b"\x3a",
            b"\x3a\xff\xff\xff\xff\x07",
            b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x3b\x00",
            b"\x02\x00",
            b"\x08",
            b"\x0d\x00",
            b"\x09\x00\x00",
        ],
    )
    def test_broken_wire_format(self, model: bytes) -> None:
        assert _kind(model) is ErrorKind.INVALID_ENCODING

    @pytest.mark.parametrize(
        "dims",
        [[1 << 62], [1 << 31, 1 << 31], [1 << 40, 1 << 40, 0], [-1], [1000, 1000], [1 << 62, 8]],
    )
    def test_dimensions_without_data(self, dims: list[int]) -> None:
        tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, raw_data=b"1234")
        assert _kind(model_of([], [], [], tensors=[tensor])) is ErrorKind.INVALID_ENCODING
        packed = _field(1, b"".join(_varint(d % (1 << 64)) for d in dims))
        assert _kind(_with_initializer(packed)) is ErrorKind.INVALID_ENCODING

    def test_dense_and_empty_tensors_pass(self) -> None:
        tensors = [
            TensorProto(name="a", data_type=TensorProto.INT4, dims=[64], raw_data=bytes(32)),
            TensorProto(name="b", data_type=TensorProto.FLOAT, dims=[1000, 0]),
            TensorProto(name="c", data_type=TensorProto.FLOAT, float_data=[1.0]),
        ]
        assert _kind(model_of([], [], [], tensors=tensors)) is None

    def test_graphs_in_graphs(self) -> None:
        def nested(depth: int) -> bytes:
            graph = helper.make_graph([], "g", [], [])
            for _ in range(depth - 1):
                node = helper.make_node("If", ["c"], ["y"], then_branch=graph)
                graph = helper.make_graph([node], "g", [], [])
            return bytes(helper.make_model(graph).SerializeToString())

        assert _kind(nested(MAX_DEPTH)) is None
        assert _kind(nested(MAX_DEPTH + 1)) is ErrorKind.TOO_LARGE

    def test_a_very_deep_message_does_not_recurse_here(self) -> None:
        graph = b""
        for _ in range(3000):
            graph = _field(1, _field(5, _field(6, graph)))
        assert _kind(b"\x08\x09" + _field(7, graph)) is ErrorKind.TOO_LARGE

    def test_a_million_nodes(self) -> None:
        model = b"\x08\x09" + _field(7, _field(1, b"\x22\x01X") * 1_000_000)
        start = time.perf_counter()
        assert _kind(model) is ErrorKind.TOO_LARGE
        assert time.perf_counter() - start < 20


class TestFunctions:
    def _model(self, calls: dict[str, list[str]], main: str) -> bytes:
        opset = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
        functions = []
        for name, callees in calls.items():
            nodes = [
                helper.make_node(c, [f"v{i}"], [f"v{i + 1}"], domain="f" if c in calls else "")
                for i, c in enumerate(callees)
            ]
            functions.append(
                helper.make_function("f", name, ["v0"], [f"v{len(callees)}"], nodes, opset)
            )
        node = helper.make_node(main, ["x"], ["y"], domain="f")
        return model_of([node], [value("x")], [value("y")], functions=functions, domains=["f"])

    def test_a_useful_function_runs(self) -> None:
        model = self._model({"Twice": ["Neg", "Neg", "Neg"]}, "Twice")
        assert _kind(model) is None
        assert onnx_guest().load(model) == 0

    def test_recursion(self) -> None:
        assert _kind(self._model({"A": ["A"]}, "A")) is ErrorKind.UNSUPPORTED_OPERATION
        model = self._model({"A": ["Neg", "B"], "B": ["C", "C"], "C": ["A"]}, "B")
        assert _kind(model) is ErrorKind.UNSUPPORTED_OPERATION

    def test_exponential_expansion(self) -> None:
        calls = {f"F{i}": [f"F{i + 1}"] * 10 for i in range(20)}
        calls["F20"] = ["Neg"]
        assert _kind(self._model(calls, "F0")) is ErrorKind.TOO_LARGE

    def test_a_long_chain(self) -> None:
        def chain(length: int) -> bytes:
            calls = {f"F{i}": [f"F{i + 1}"] for i in range(length - 1)}
            calls[f"F{length - 1}"] = ["Neg"]
            return self._model(calls, "F0")

        assert _kind(chain(MAX_FUNCTION_DEPTH)) is None
        assert _kind(chain(MAX_FUNCTION_DEPTH + 1)) is ErrorKind.TOO_LARGE
        assert _kind(chain(5000)) is ErrorKind.TOO_LARGE

    def test_defined_twice(self) -> None:
        model = onnx.load_model_from_string(self._model({"A": ["Neg"]}, "A"))
        model.functions.append(model.functions[0])
        assert _kind(model.SerializeToString()) is ErrorKind.INVALID_ENCODING


SMALL = endless_loop()


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_mutated_models_are_refused_or_pass_but_never_raise_otherwise(data: st.DataObject) -> None:
    model = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 8))):
        position = data.draw(st.integers(0, len(model) - 1))
        model[position] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(model)))
    _kind(bytes(model))
    _kind(bytes(model[:cut]))


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_mutated_models_never_crash_the_host(data: st.DataObject) -> None:
    """Through ONNX Runtime: loading ends in success or one of the documented numbers."""
    model = bytearray(matmul(np.ones((2, 3), np.float32)))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(model) - 1))
        model[position] ^= 1 << data.draw(st.integers(0, 7))
    assert onnx_guest().load(bytes(model)) in (0, 1, 2, 5, 6, 7)
