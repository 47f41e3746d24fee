"""The tflite backend on the real library: tensors, shapes, errors, threads, delegates."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from ctypes.util import find_library
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.backends.tflite_models import (
    INT8,
    NATIVE,
    TFLITE,
    Array,
    Op,
    T,
    add,
    doubling,
    guest,
    model_of,
    output_array,
    packed,
    quantised_doubling,
    schema,
    set_array,
)
from wasinn_backends.tflite import TfliteBackend
from wasinn_host.nn import TensorType
from wasinn_host.nn.conformance import Outcome, check_backend
from wasinn_host.nn.errors import WasiNnError
from wasinn_host.nn.plugin import (
    Device,
    ErrorKind,
    ExecutionContext,
    Graph,
    ModelSource,
    Quantization,
    Target,
    Tensor,
)

RANDOM = np.random.default_rng(12)
DELEGATE = Path(__file__).with_name("delegate.c")
FLOAT, BOOL, STRING = schema.TensorType.FLOAT32, schema.TensorType.BOOL, schema.TensorType.STRING
INT16 = schema.TensorType.INT16
ERRNO_INVALID_ARGUMENT = 1


def loaded(model: bytes, options: dict[str, str] | None = None, device: str = "cpu") -> Graph:
    """A graph of this process, without the one that guests' models get."""
    backend = TfliteBackend({"threads": "1", **(options or {})})
    (chosen,) = [each for each in backend.devices() if each.id == device]
    return backend.load(ModelSource("tensorflowlite", (model,)), chosen)


def put(context: ExecutionContext, index: int, array: Array, as_type: TensorType) -> None:
    context.set_input(index, Tensor(as_type, array.shape, memoryview(array.tobytes())))


def taken(context: ExecutionContext, index: int, dtype: str = "<f4") -> Array:
    tensor = context.get_output(index)
    return np.frombuffer(tensor.data, dtype).reshape(tensor.shape).copy()


def run(context: ExecutionContext, *arrays: Array) -> Array:
    for index, array in enumerate(arrays):
        put(context, index, array, TensorType.F32)
    context.compute()
    return taken(context, 0)


def test_it_keeps_the_contract() -> None:
    results = list(check_backend("wasinn_backends.tflite:TfliteBackend"))
    assert [(r.name, r.why) for r in results if r.outcome is Outcome.FAILED] == []
    assert [r.name for r in results if r.outcome is Outcome.SKIPPED] == ["cancelling"]


def test_a_guests_model_through_the_abi() -> None:
    user = guest()
    assert user.load(doubling(shape=(-1, 3)), encoding=TFLITE) == 0, user.error()
    assert user.init(user.result) == 0
    context = user.result
    for rows in (1, 4, 2, 2, 0, 3):
        x = RANDOM.standard_normal((rows, 3)).astype(np.float32)
        assert set_array(user, context, 0, x) == 0
        assert user.compute(context) == 0, user.error()
        np.testing.assert_array_equal(output_array(user, context), x + x)
    user.codec.context.close()


def test_wrong_tensors_of_a_guest_are_refused_in_words() -> None:
    user = guest()
    assert user.load(doubling(shape=(-1, 3)), encoding=TFLITE) == 0
    assert user.init(user.result) == 0
    context = user.result
    assert user.compute(context) == ERRNO_INVALID_ARGUMENT
    assert "not set: input 0 (x)" in user.error()
    for array, words in (
        (np.zeros((2, 4), np.float32), "expected shape [?, 3], got [2, 4]"),
        (np.zeros(3, np.float32), "expected 2 dimensions"),
        (np.zeros((2, 3), np.int32), "expected f32 elements, got i32"),
    ):
        assert set_array(user, context, 0, array) == ERRNO_INVALID_ARGUMENT
        assert words in user.error()
    assert set_array(user, context, 1, np.zeros((2, 3), np.float32)) == ERRNO_INVALID_ARGUMENT
    user.codec.context.close()


@pytest.mark.parametrize("tensor_type", NATIVE, ids=lambda t: t.value)
def test_every_type(tensor_type: TensorType) -> None:
    """CONCATENATION of an input with itself, which TFLite has for most types; GATHER for f64."""
    native = NATIVE[tensor_type]
    tensors = [T("x", (3,), native), T("y", (3,), native)]
    options = schema.GatherOptionsT()
    tensors.append(T("all", (3,), schema.TensorType.INT32, np.arange(3, dtype="<i4").tobytes()))
    gather = Op(schema.BuiltinOperator.GATHER, [0, 2], [1], options)
    kept = schema.ReshapeOptionsT()
    kept.newShape = [3]
    same = Op(schema.BuiltinOperator.RESHAPE, [0], [1], kept)
    takes_gather = tensor_type not in (TensorType.F16, TensorType.F64)
    graph = loaded(packed(model_of(tensors, [0], [1], [gather if takes_gather else same])))
    assert graph.inputs[0].type is tensor_type
    context = graph.create_context()
    dtype = np.dtype(DTYPE_OF[tensor_type])
    x = RANDOM.integers(0, 100, 3).astype(dtype)
    put(context, 0, x, tensor_type)
    context.compute()
    assert context.get_output(0).type is tensor_type
    np.testing.assert_array_equal(taken(context, 0, DTYPE_OF[tensor_type]), x)


DTYPE_OF = {
    TensorType.F16: "<f2",
    TensorType.F32: "<f4",
    TensorType.F64: "<f8",
    TensorType.U8: "u1",
    TensorType.I32: "<i4",
    TensorType.I64: "<i8",
}


def test_types_that_wasi_nn_lacks_say_so() -> None:
    less = Op(schema.BuiltinOperator.LESS, [0, 1], [2])
    tensors = [T("x", (2,)), T("y", (2,)), T("is_less", (2,), BOOL)]
    graph = loaded(packed(model_of(tensors, [0, 1], [2], [less])))
    assert graph.outputs[0].type is None
    context = graph.create_context()
    put(context, 0, np.zeros(2, np.float32), TensorType.F32)
    put(context, 1, np.ones(2, np.float32), TensorType.F32)
    context.compute()
    with pytest.raises(WasiNnError, match=r"output 0 \(is_less\) is a bool, which WASI-NN"):
        context.get_output(0)


@pytest.mark.parametrize(("element", "dtype"), [(INT8, "i1"), (NATIVE[TensorType.U8], "u1")])
def test_quantised_models_say_what_their_bytes_stand_for(element: int, dtype: str) -> None:
    graph = loaded(quantised_doubling(element, 0.5, 3))
    for spec, scale in ((graph.inputs[0], 0.5), (graph.outputs[0], 1.0)):
        assert spec.type is TensorType.U8
        assert spec.native_type == np.dtype(dtype).name
        assert spec.quantization == Quantization(scale, 3)
    context = graph.create_context()
    x = np.array([3, 5, 7, 13], dtype)
    put(context, 0, x, TensorType.U8)
    context.compute()
    np.testing.assert_array_equal(taken(context, 0, dtype), x)  # twice, of twice the scale


def test_outputs_stay_until_the_next_computation() -> None:
    context = loaded(doubling()).create_context()
    first = run(context, np.array([1, 2], np.float32))
    held = context.get_output(0)
    put(context, 0, np.array([5, 6], np.float32), TensorType.F32)
    np.testing.assert_array_equal(np.frombuffer(held.data, np.float32), first)
    context.compute()
    np.testing.assert_array_equal(taken(context, 0), [10, 12])


def test_inputs_stay_over_computations_and_other_shapes() -> None:
    tensors = [T("a", (-1,)), T("b", (-1,)), T("c", (-1,)), T("d", (-1,))]
    model = model_of(tensors, [0, 1], [3], [add([0, 1], 2), add([2, 2], 3)])
    context = loaded(packed(model)).create_context()
    a, b = np.array([1, 2, 3], np.float32), np.array([10, 20, 30], np.float32)
    np.testing.assert_array_equal(run(context, a, b), 2 * (a + b))
    put(context, 1, b + 1, TensorType.F32)
    context.compute()
    np.testing.assert_array_equal(taken(context, 0), 2 * (a + b + 1))
    put(context, 1, np.array([7], np.float32), TensorType.F32)
    context.compute()
    np.testing.assert_array_equal(taken(context, 0), 2 * (a + 7))


def test_a_failed_computation_leaves_a_context_that_works() -> None:
    tensors = [T("a", (-1,)), T("b", (-1,)), T("c", (-1,))]
    context = loaded(packed(model_of(tensors, [0, 1], [2], [add([0, 1], 2)]))).create_context()
    two, three = np.ones(2, np.float32), np.ones(3, np.float32)
    with pytest.raises(WasiNnError, match="TFLite, while computing: ") as raised:
        run(context, two, three)
    assert raised.value.kind is ErrorKind.RUNTIME_ERROR
    with pytest.raises(WasiNnError, match="none before compute"):
        context.get_output(0)
    np.testing.assert_array_equal(run(context, two, two), [2, 2])


def test_contexts_of_one_graph_keep_apart_in_threads() -> None:
    graph = loaded(doubling())
    found: dict[int, bool] = {}

    def work(number: int) -> None:
        context = graph.create_context()
        x = np.full(1000, number, np.float32)
        found[number] = all(bool((run(context, x) == 2 * number).all()) for _ in range(50))
        context.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(6), True)


def test_models_of_the_hosts_files_run_here_and_may_hold_more(tmp_path: Path) -> None:
    """FAKE_QUANT is refused from guests, and fine in a file."""
    options = schema.FakeQuantOptionsT()
    options.min, options.max, options.numBits = -1.0, 1.0, 8
    fake = Op(schema.BuiltinOperator.FAKE_QUANT, [0], [1], options)
    model = packed(model_of([T("x", (2,)), T("y", (2,))], [0], [1], [fake]))
    with pytest.raises(WasiNnError, match="the host's user can name such a model as a file"):
        loaded(model)
    path = tmp_path / "m.tflite"
    path.write_bytes(model)
    backend = TfliteBackend({})
    graph = backend.load(ModelSource("tensorflowlite", paths=(path,)), backend.devices()[0])
    y = run(graph.create_context(), np.array([0.5, 9], np.float32))
    np.testing.assert_allclose(y, [0.5, 1], atol=0.01)


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(b"no model")
    backend = TfliteBackend({})
    with pytest.raises(WasiNnError, match="TFLite, while loading") as raised:
        backend.load(ModelSource("tensorflowlite", paths=(path,)), backend.devices()[0])
    assert raised.value.kind is ErrorKind.INVALID_ENCODING
    with pytest.raises(WasiNnError, match="can not be read"):
        backend.load(
            ModelSource("tensorflowlite", paths=(tmp_path / "none",)), backend.devices()[0]
        )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threads": "-1"}, "option threads: expected a number from 0 to 1024, got '-1'"),
        ({"cpu_nodes": "yes"}, "option cpu_nodes: expected a number from 0 to 1"),
        ({"delegate_options": "a=1,b"}, "option delegate_options: expected KEY=VALUE, got 'b'"),
    ],
)
def test_bad_options(options: dict[str, str], words: str) -> None:
    with pytest.raises(WasiNnError, match=words):
        TfliteBackend(options)


# --- delegates ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def delegate(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The library of a delegate that adds, compiled from `delegate.c`."""
    library = tmp_path_factory.mktemp("delegate") / "libadder.so"
    command = [sys.executable, "-m", "ziglang", "cc", "-O1", "-shared", "-fPIC"]
    subprocess.run([*command, "-o", library, DELEGATE], check=True)
    return str(library)


def chain(*codes: int) -> bytes:
    """x through operators of two equal inputs or of one."""
    tensors = [T(f"t{number}", (-1,)) for number in range(len(codes) + 1)]
    binary = (schema.BuiltinOperator.ADD, schema.BuiltinOperator.MUL)
    operators = [
        Op(code, [at, at] if code in binary else [at], [at + 1]) for at, code in enumerate(codes)
    ]
    return packed(model_of(tensors, [0], [len(codes)], operators))


ADD, MUL = schema.BuiltinOperator.ADD, schema.BuiltinOperator.MUL


@pytest.mark.parametrize(("kind", "target"), [("gpu", Target.GPU), ("npu", Target.TPU)])
def test_a_delegate_is_a_device(delegate: str, kind: str, target: Target) -> None:
    options = {f"{kind}_delegate": delegate, "delegate_options": "bias=100"}
    device = TfliteBackend(options).devices()[1]
    assert device == Device(kind, target, "LiteRT, delegate libadder.so")
    graph = loaded(chain(ADD, ADD), options, kind)
    context = graph.create_context()
    for count in (2, 5, 2):
        x = np.arange(count, dtype=np.float32)
        # That it computed is seen by what only the delegate adds, for each of the two operators.
        np.testing.assert_array_equal(run(context, x), 4 * x + 300)
    cpu = loaded(chain(ADD, ADD), options)
    np.testing.assert_array_equal(run(cpu.create_context(), x), 4 * x)


def test_what_a_delegate_leaves_is_refused_unless_the_user_allows_the_cpu(delegate: str) -> None:
    options = {"gpu_delegate": delegate, "delegate_options": "bias=100"}
    with pytest.raises(WasiNnError, match="does not take 1 of the model's operators: MUL; the opt"):
        loaded(chain(ADD, MUL), options, "gpu")
    graph = loaded(chain(ADD, MUL), {**options, "cpu_nodes": "1"}, "gpu")
    x = np.arange(3, dtype=np.float32)
    np.testing.assert_array_equal(run(graph.create_context(), x), (2 * x + 100) ** 2)


def test_delegates_that_can_not_be_had(delegate: str, tmp_path: Path) -> None:
    no_library = tmp_path / "text.so"
    no_library.write_text("text")
    for path, options, words in (
        (find_library("m"), "", "undefined symbol: tflite_plugin_create_delegate"),
        (tmp_path / "none.so", "", "option gpu_delegate: .*none.so is no delegate"),
        (no_library, "", "invalid ELF header|file too short"),
        (delegate, "refuse=1", "the adder was told to refuse"),
    ):
        made = TfliteBackend({"gpu_delegate": str(path), "delegate_options": options})
        with pytest.raises(WasiNnError, match=words):
            made.devices()


def test_the_models_of_a_whole_run_share_nothing_that_closes(delegate: str) -> None:
    options = {"gpu_delegate": delegate}
    x = np.ones(3, np.float32)
    for _ in range(20):
        graph = loaded(chain(ADD), options, "gpu")
        contexts: Sequence[Any] = [graph.create_context() for _ in range(3)]
        graph.close()
        for context in contexts:
            np.testing.assert_array_equal(run(context, x), 2 * x)
            context.close()
