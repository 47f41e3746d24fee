"""The ONNX backend through the codec: real models, real ONNX Runtime."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from tests.backends.onnx_models import (
    DTYPES,
    ONNX_TYPES,
    doubling,
    endless_loop,
    matmul,
    model_of,
    onnx_graphs,
    onnx_guest,
    output_array,
    set_array,
    value,
)
from tests.nn.fake_guest import FakeInterrupt, Guest
from wasinn_backends.onnx import LOAD_ERRORS
from wasinn_host.nn import NnContext, Target, TensorType
from wasinn_host.nn.errors import ErrorKind, WasiNnError
from wasinn_host.nn.plugin import TensorSpec

RANDOM = np.random.default_rng(7)


def test_matmul_with_several_batch_sizes_in_one_context() -> None:
    weight = RANDOM.standard_normal((5, 3)).astype(np.float32)
    guest = onnx_guest()
    context = guest.open(matmul(weight))
    for batch in (1, 4, 2, 2, 0):
        x = RANDOM.standard_normal((batch, 5)).astype(np.float32)
        assert set_array(guest, context, 0, x) == 0, guest.error()
        assert guest.compute(context) == 0, guest.error()
        np.testing.assert_allclose(output_array(guest, context), x @ weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tensor_type", ONNX_TYPES, ids=lambda t: t.value)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 1, 2)], ids=str)
def test_every_type_and_rank(tensor_type: TensorType, shape: tuple[int, ...]) -> None:
    open_shape = tuple(f"d{i}" for i in range(len(shape)))
    guest = onnx_guest()
    context = guest.open(
        model_of(
            [helper.make_node("Concat", ["x"], ["c"], axis=0)]
            if shape
            else [helper.make_node("Identity", ["x"], ["c"])],
            [value("x", open_shape, ONNX_TYPES[tensor_type])],
            [value("c", open_shape, ONNX_TYPES[tensor_type])],
        )
    )
    x = RANDOM.integers(0, 100, shape).astype(DTYPES[tensor_type])
    assert set_array(guest, context, 0, x) == 0, guest.error()
    assert guest.compute(context) == 0, guest.error()
    y = output_array(guest, context)
    assert (y.dtype, y.shape) == (x.dtype, x.shape)
    np.testing.assert_array_equal(y, x)


def test_many_inputs_and_outputs_of_different_types() -> None:
    guest = onnx_guest()
    context = guest.open(
        model_of(
            [
                helper.make_node("Cast", ["i"], ["i_float"], to=TensorProto.FLOAT),
                helper.make_node("Add", ["f", "i_float"], ["sum"]),
                helper.make_node("Cast", ["sum"], ["wide"], to=TensorProto.DOUBLE),
                helper.make_node("Cast", ["u"], ["narrow"], to=TensorProto.FLOAT16),
            ],
            [
                value("f", ["n"]),
                value("i", ["n"], TensorProto.INT64),
                value("u", ["m"], TensorProto.UINT8),
            ],
            [
                value("wide", ["n"], TensorProto.DOUBLE),
                value("narrow", ["m"], TensorProto.FLOAT16),
            ],
        )
    )
    assert set_array(guest, context, 2, np.array([1, 2, 3], np.uint8)) == 0
    assert set_array(guest, context, 1, np.array([10, 20], np.int64)) == 0
    assert guest.compute(context) == 1
    assert "not set: input 0 (f)" in guest.error()
    assert set_array(guest, context, 0, np.array([0.5, 0.25], np.float32)) == 0
    assert guest.compute(context) == 0
    assert output_array(guest, context, 0).tolist() == [10.5, 20.25]
    assert output_array(guest, context, 1).tolist() == [1.0, 2.0, 3.0]


def test_inputs_and_outputs_are_described() -> None:
    guest = onnx_guest()
    assert guest.load(matmul(np.zeros((5, 3), np.float32))) == 0
    graph = guest.codec.context.graph(guest.result)
    assert graph.inputs == (TensorSpec("x", TensorType.F32, (None, 5), "tensor(float)"),)
    assert graph.outputs == (TensorSpec("y", TensorType.F32, (None, 3), "tensor(float)"),)


class TestInputsThatDoNotFit:
    @pytest.fixture
    def guest(self) -> Guest:
        return onnx_guest()

    @pytest.mark.parametrize(
        ("tensor_type", "shape", "size", "reason"),
        [
            (TensorType.F16, (1, 5), 10, "expected f32 elements, got f16"),
            (TensorType.I32, (1, 5), 20, "expected f32 elements, got i32"),
            (TensorType.F32, (5,), 20, "expected 2 dimensions [?, 5], got 1 [5]"),
            (TensorType.F32, (), 4, "expected 2 dimensions [?, 5], got 0 []"),
            (TensorType.F32, (1, 1, 5), 20, "expected 2 dimensions [?, 5], got 3 [1, 1, 5]"),
            (TensorType.F32, (1, 4), 16, "expected shape [?, 5], got [1, 4]"),
            (TensorType.F32, (2, 5), 20, "takes 40 bytes, got 20"),
            (TensorType.F32, (1, 5), 24, "takes 20 bytes, got 24"),
            (TensorType.F32, (0xFFFF_FFFF, 5), 20, "takes 85899345900 bytes, got 20"),
            (TensorType.F32, (0, 5), 4, "takes 0 bytes, got 4"),
        ],
    )
    def test_are_refused(
        self, guest: Guest, tensor_type: TensorType, shape: tuple[int, ...], size: int, reason: str
    ) -> None:
        context = guest.open(matmul(np.ones((5, 3), np.float32)))
        assert guest.set_input(context, 0, tensor_type, shape, bytes(size)) == 1
        assert reason in guest.error()

    def test_sizes_that_overflow(self, guest: Guest) -> None:
        context = guest.open(doubling(shape=["a", "b", "c", "d"]))
        assert guest.set_input(context, 0, TensorType.F32, (65536,) * 4, b"") == 1
        assert "takes 73786976294838206464 bytes, got 0" in guest.error()

    def test_wrong_index(self, guest: Guest) -> None:
        context = guest.open(doubling())
        for index in (1, 2, 0xFFFF_FFFF):
            assert guest.set_input(context, index, TensorType.F32, (1,), bytes(4)) == 1
        assert "the model has 1 inputs (x)" in guest.error()

    def test_a_refused_input_leaves_the_old_one(self, guest: Guest) -> None:
        context = guest.open(doubling())
        assert set_array(guest, context, 0, np.array([1, 2], np.float32)) == 0
        assert guest.set_input(context, 0, TensorType.F32, (3,), bytes(4)) == 1
        assert guest.compute(context) == 0
        assert output_array(guest, context).tolist() == [2.0, 4.0]

    def test_what_onnx_runtime_itself_refuses(self, guest: Guest) -> None:
        """The model's shapes leave it open; only the operator knows."""
        context = guest.open(
            model_of(
                [helper.make_node("Add", ["x", "y"], ["z"])],
                [value("x", ["a"]), value("y", ["b"])],
                [value("z", ["c"])],
            )
        )
        assert set_array(guest, context, 0, np.zeros(2, np.float32)) == 0
        assert set_array(guest, context, 1, np.zeros(3, np.float32)) == 0
        assert guest.compute(context) == 5
        assert "ONNX Runtime, while computing" in guest.error()
        assert guest.get_output(context, 0, 4)[0] == 1

    def test_declared_scalars_take_any_rank_as_in_onnx_runtime(self, guest: Guest) -> None:
        context = guest.open(
            model_of([helper.make_node("Neg", ["x"], ["y"])], [value("x", [])], [value("y", [])])
        )
        assert set_array(guest, context, 0, np.ones(3, np.float32)) == 0
        assert guest.compute(context) == 0
        assert output_array(guest, context).tolist() == [-1.0, -1.0, -1.0]


class TestTypesThatWasiNnLacks:
    def test_inputs(self) -> None:
        guest = onnx_guest()
        context = guest.open(doubling(TensorProto.UINT32))
        assert guest.set_input(context, 0, TensorType.I32, (1,), bytes(4)) == 6
        assert "input 0 (x) is a tensor(uint32)" in guest.error()

    def test_outputs(self) -> None:
        guest = onnx_guest()
        context = guest.open(
            model_of(
                [
                    helper.make_node("Greater", ["x", "x"], ["b"]),
                    helper.make_node("SequenceConstruct", ["x"], ["s"]),
                    helper.make_node("Neg", ["x"], ["y"]),
                ],
                [value("x")],
                [
                    value("b", ["n"], TensorProto.BOOL),
                    helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, ["n"]),
                    value("y"),
                ],
            )
        )
        assert set_array(guest, context, 0, np.array([1], np.float32)) == 0
        assert guest.compute(context) == 0
        assert guest.get_output(context, 0, 8)[0] == 6
        assert "output 0 (b) is a tensor(bool)" in guest.error()
        assert guest.get_output(context, 1, 8)[0] == 6
        assert "output 1 (s) is a seq(tensor(float))" in guest.error()
        assert output_array(guest, context, 2).tolist() == [-1.0]


class TestOutputs:
    def test_no_such_output(self) -> None:
        guest = onnx_guest()
        context = guest.open(doubling())
        assert guest.get_output(context, 0, 4)[0] == 1
        assert "there is none before compute" in guest.error()
        assert set_array(guest, context, 0, np.zeros(1, np.float32)) == 0
        assert guest.compute(context) == 0
        assert guest.get_output(context, 1, 4)[0] == 1
        assert "the model has 1 outputs (y)" in guest.error()

    def test_they_stay_while_inputs_change(self) -> None:
        """Also where the output is the input, which a runtime could pass through."""
        guest = onnx_guest()
        context = guest.open(
            model_of(
                [helper.make_node("Identity", ["x"], ["y"])], [value("x")], [value("y"), value("x")]
            )
        )
        assert set_array(guest, context, 0, np.array([1, 2], np.float32)) == 0
        assert guest.compute(context) == 0
        assert set_array(guest, context, 0, np.array([8, 9], np.float32)) == 0
        assert output_array(guest, context, 0).tolist() == [1.0, 2.0]
        assert output_array(guest, context, 1).tolist() == [1.0, 2.0]


class TestWrongModels:
    @pytest.mark.parametrize(
        "model",
        [
            b"",
            b"not a model",
            b"\x08\x09",
            b"\0" * 100,
            b"ORTM" * 30,
            b"\x1c\0\0\0ORTM" + b"\0" * 99,
        ],
    )
    def test_bytes_that_are_no_model(self, model: bytes) -> None:
        guest = onnx_guest()
        assert guest.load(model) == 2
        assert "not a usable ONNX model" in guest.error()

    def test_truncated_at_every_sixteenth(self) -> None:
        model = matmul(RANDOM.standard_normal((20, 30)).astype(np.float32))
        guest = onnx_guest()
        for part in range(16):
            assert guest.load(model[: len(model) * part // 16]) == 2, part

    def test_two_parts(self) -> None:
        guest = onnx_guest()
        assert guest.load(doubling(), b"weights") == 1
        assert "an ONNX model has one part, got 2" in guest.error()
        assert guest.load() == 1

    def test_an_inconsistent_model_has_onnx_runtimes_message(self) -> None:
        guest = onnx_guest()
        model = model_of(
            [helper.make_node("Add", ["x", "ghost"], ["y"])], [value("x")], [value("y")]
        )
        assert guest.load(model) == 2
        assert "ghost" in guest.error()
        assert guest.codec.last_error is not None
        assert isinstance(guest.codec.last_error.__cause__, Exception)

    def test_an_unknown_operator(self) -> None:
        guest = onnx_guest()
        model = model_of(
            [helper.make_node("Frobnicate", ["x"], ["y"], domain="com.acme")],
            [value("x")],
            [value("y")],
            domains=["com.acme"],
        )
        assert guest.load(model) in (2, 6)
        assert "Frobnicate" in guest.error()

    def test_nothing_is_printed(self, capfd: pytest.CaptureFixture[str]) -> None:
        guest = onnx_guest()
        guest.load(b"junk")
        guest.load(model_of([helper.make_node("Add", ["x", "g"], ["y"])], [value("x")], []))
        context = guest.open(
            model_of(
                [helper.make_node("Reshape", ["x", "s"], ["y"])],
                [value("x")],
                [value("y", ["a", "b"])],
                {"s": np.array([7, 7], np.int64)},
            )
        )
        assert set_array(guest, context, 0, np.zeros(3, np.float32)) == 0
        assert guest.compute(context) == 5
        context = guest.open(
            model_of(
                [helper.make_node("ConstantOfShape", ["n"], ["y"])],
                [value("n", [1], TensorProto.INT64)],
                [value("y", ["m"])],
            )
        )
        assert set_array(guest, context, 0, np.array([(1 << 62) + 6], np.int64)) == 0
        assert guest.compute(context) == 5
        assert capfd.readouterr() == ("", "")

    def test_every_exception_of_onnx_runtime_is_mapped(self) -> None:
        raised = {
            name
            for name, thing in vars(ort_state).items()
            if isinstance(thing, type) and issubclass(thing, Exception)
        }
        assert raised <= set(LOAD_ERRORS)


class TestFilesOfTheHost:
    def test_external_data_beside_the_model(self, tmp_path: Path) -> None:
        weight = RANDOM.standard_normal((64, 64)).astype(np.float32)
        made = onnx.load_model_from_string(matmul(weight))
        onnx.save(
            made,
            tmp_path / "m.onnx",
            save_as_external_data=True,
            location="w.bin",
            size_threshold=0,
        )
        assert (tmp_path / "w.bin").stat().st_size >= weight.nbytes
        graphs = onnx_graphs()
        graphs.register("m", "onnx", Target.CPU, paths=[tmp_path / "m.onnx"])
        guest = Guest(NnContext(graphs))
        assert guest.load_by_name(b"m") == 0, guest.error()
        assert guest.init(guest.result) == 0
        context = guest.result
        x = RANDOM.standard_normal((2, 64)).astype(np.float32)
        assert set_array(guest, context, 0, x) == 0
        assert guest.compute(context) == 0
        np.testing.assert_allclose(output_array(guest, context), x @ weight, rtol=1e-4, atol=1e-5)

    def test_a_file_that_is_no_model(self, tmp_path: Path) -> None:
        (tmp_path / "m.onnx").write_bytes(b"text")
        graphs = onnx_graphs()
        graphs.register("m", "onnx", Target.CPU, paths=[tmp_path / "m.onnx"])
        with pytest.raises(WasiNnError, match="ONNX Runtime, while loading") as caught:
            graphs.get("m")
        assert caught.value.kind is ErrorKind.INVALID_ENCODING


class TestThreads:
    def test_contexts_of_one_graph_compute_at_once_and_do_not_mix(self) -> None:
        weight = RANDOM.standard_normal((16, 16)).astype(np.float32)
        graphs = onnx_graphs()
        graphs.register("m", "onnx", Target.CPU, builders=[matmul(weight)])
        failures: list[object] = []

        def work(seed: int) -> None:
            random = np.random.default_rng(seed)
            guest = Guest(NnContext(graphs))
            if guest.load_by_name(b"m") or guest.init(guest.result):
                failures.append(guest.error())
                return
            context = guest.result
            for _ in range(50):
                x = random.standard_normal((random.integers(1, 9), 16)).astype(np.float32)
                guest.rewind()
                if set_array(guest, context, 0, x) or guest.compute(context):
                    failures.append(guest.error())
                if not np.allclose(output_array(guest, context), x @ weight, 1e-4, 1e-5):
                    failures.append(seed)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []

    def test_the_gil_is_free_while_computing(self) -> None:
        guest = onnx_guest(pages=700)
        n = 700
        context = guest.open(matmul(RANDOM.standard_normal((n, n)).astype(np.float32)))
        x = RANDOM.standard_normal((8 * n, n)).astype(np.float32)
        assert set_array(guest, context, 0, x) == 0
        thread = threading.Thread(target=guest.compute, args=(context,))
        longest_s, last = 0.0, time.perf_counter()
        start = last
        thread.start()
        while thread.is_alive():
            time.sleep(0.001)
            now = time.perf_counter()
            longest_s, last = max(longest_s, now - last), now
        took_s = last - start
        assert took_s > 0.01, "too fast to tell; make the matrices larger"
        assert longest_s < took_s / 2

    def test_an_interrupt_ends_an_endless_model(self) -> None:
        interrupt = FakeInterrupt()
        guest = Guest(NnContext(onnx_graphs()), interrupt=interrupt)
        context = guest.open(endless_loop())
        assert set_array(guest, context, 0, np.array([1], np.float32)) == 0
        timer = threading.Timer(0.2, interrupt.set)
        timer.start()
        assert guest.compute(context) == 5
        timer.join()
        assert "terminate" in guest.error()
        guest.codec.context.close()
        interrupt.close()


class TestOptions:
    @pytest.mark.parametrize(
        ("name", "given", "reason"),
        [
            ("threads", "-1", "expected a number from 0 to 1024, got '-1'"),
            ("threads", "many", "expected a number from 0 to 1024, got 'many'"),
            ("spinning", "2", "expected a number from 0 to 1, got '2'"),
            ("optimization", "most", "expected one of disable, basic, extended, all, got 'most'"),
        ],
    )
    def test_bad_values(self, name: str, given: str, reason: str) -> None:
        (report,) = onnx_graphs(**{name: given}).backends.report()
        assert f"option {name}: {reason}" in report.error

    def test_good_values_compute_the_same(self) -> None:
        weight = RANDOM.standard_normal((8, 8)).astype(np.float32)
        x = RANDOM.standard_normal((3, 8)).astype(np.float32)
        for graphs in (
            onnx_graphs(threads="2", spinning="0"),
            onnx_graphs(optimization="disable"),
        ):
            guest = Guest(NnContext(graphs))
            context = guest.open(matmul(weight))
            assert set_array(guest, context, 0, x) == 0
            assert guest.compute(context) == 0
            np.testing.assert_allclose(
                output_array(guest, context), x @ weight, rtol=1e-4, atol=1e-5
            )

    def test_the_device_names_the_library(self) -> None:
        (report,) = onnx_graphs().backends.report()
        assert report.encodings == ("onnx",)
        assert report.devices[0].description == f"ONNX Runtime {ort.__version__}, CPU"
