"""TFLite models on the CPU by XNNPACK, and on what a delegate drives. Not a converter.

The library is LiteRT (``ai-edge-litert``), or ``tflite-runtime`` where that is what is installed;
it is imported when the backend is made. Models from guests are looked through first, by
`tflite_preflight`.

TFLite's interpreter is one computation's: each context has its own, and all of a graph's share the
model's bytes. Inputs are copied when they are set, and once more when it computes, since TFLite
uses an input's memory for other things after it was read. It can not be cancelled: where a guest's
model may run for long, isolation ends it.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import numpy as np

from wasinn_backends.common import (
    bytes_of,
    check_index,
    check_inputs_set,
    check_one_part,
    doubling_sample,
    number_option,
    output_at,
    processors,
    uncarried,
)
from wasinn_backends.tflite_preflight import preflight
from wasinn_host.nn.plugin import (
    Backend,
    Device,
    ErrorKind,
    ExecutionContext,
    Graph,
    ModelSource,
    Quantization,
    Sample,
    Target,
    Tensor,
    TensorSpec,
    TensorType,
    WasiNnError,
)

__all__ = ["TfliteBackend"]

_LIBRARIES: Final = {
    "ai_edge_litert.interpreter": "LiteRT",
    "tflite_runtime.interpreter": "TFLite",
}
"""The modules with the interpreter, the better one first, and what people call the library."""

_TYPES: Final = {
    "float16": TensorType.F16,
    "float32": TensorType.F32,
    "float64": TensorType.F64,
    "bfloat16": TensorType.BF16,
    "uint8": TensorType.U8,
    "int8": TensorType.U8,
    "int32": TensorType.I32,
    "int64": TensorType.I64,
}
"""By numpy's names. Bytes with a sign travel as u8."""

_LARGEST_SIZE: Final = (1 << 31) - 1
_DELEGATE_FUNCTIONS: Final = ("tflite_plugin_create_delegate", "tflite_plugin_destroy_delegate")
_DELEGATED: Final = {"gpu": Target.GPU, "npu": Target.TPU}


class TfliteBackend(Backend):
    """The CPU, and a GPU or NPU where the user names the delegate's library."""

    api_version = 1
    encodings = frozenset({"tensorflowlite"})
    isolates_guests = True  # what passes the look can still break TFLite's memory
    options: ClassVar[Mapping[str, str]] = {
        "threads": "threads of one computation; 0, the default: one per processor",
        "gpu_delegate": "path of the library of a delegate for the GPU",
        "npu_delegate": "path of the library of a delegate for the NPU",
        "delegate_options": "KEY=VALUE for the delegates; several with commas",
        "cpu_nodes": "1: the CPU runs operators that a delegate leaves; 0, the default: refused",
    }

    def __init__(self, options: Mapping[str, str]) -> None:
        self._threads = number_option(options, "threads", 0, 0, 1024) or processors()
        self._cpu_nodes = number_option(options, "cpu_nodes", 0, 0, 1)
        self._delegate_options = _pairs(options.get("delegate_options", ""))
        self._delegates = {
            kind: options[f"{kind}_delegate"]
            for kind in _DELEGATED
            if options.get(f"{kind}_delegate")
        }
        self._library, self._library_name = _imported()

    def devices(self) -> Sequence[Device]:
        found = [Device("cpu", Target.CPU, f"{self._library_name}, CPU")]
        for kind, path in self._delegates.items():
            self._delegate(kind)  # says now what is wrong with it
            name = os.path.basename(path)
            found.append(Device(kind, _DELEGATED[kind], f"{self._library_name}, delegate {name}"))
        return tuple(found)

    def load(self, source: ModelSource, device: Device) -> Graph:
        check_one_part(source, "a TFLite")
        if not source.is_trusted:
            preflight(source.builders[0])
        return _TfliteGraph(self, source.read()[0], device.id)

    def samples(self) -> Sequence[Sample]:
        return (doubling_sample("tensorflowlite", _DOUBLING),)

    def interpreter(self, model: bytes, device: str) -> Any:
        """An interpreter of its own for a computation, its tensors not allocated.

        Args:
            model: its bytes, which the interpreter refers to.
            device: the device's id.
        """
        kinds = self._library.OpResolverType
        if device == "cpu":
            return self._library.Interpreter(model_content=model, num_threads=self._threads)
        # Without XNNPACK, which would take what the delegate leaves.
        return self._library.Interpreter(
            model_content=model,
            num_threads=self._threads,
            experimental_delegates=[self._delegate(device)],
            experimental_op_resolver_type=kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )

    def check_placed(self, interpreter: Any, device: str) -> None:
        """Raises if the CPU would run a part of a model that is for another device.

        Raises:
            WasiNnError: ``unsupported_operation``; it names the operators.
        """
        if device == "cpu" or self._cpu_nodes:
            return
        if left := _left_to_the_cpu(interpreter):
            raise WasiNnError(
                ErrorKind.UNSUPPORTED_OPERATION,
                f"the delegate for {device} does not take {len(left)} of the model's operators: "
                f"{', '.join(sorted(set(left)))}; the option cpu_nodes=1 lets the CPU run them",
            )

    def _delegate(self, kind: str) -> Any:
        path = self._delegates[kind]
        try:
            # First by ourselves: TFLite's object of half a delegate fails when it is freed.
            library = ctypes.CDLL(path)
            for function in _DELEGATE_FUNCTIONS:
                getattr(library, function)
            return self._library.load_delegate(path, self._delegate_options)
        except (ValueError, OSError, AttributeError) as error:
            raise WasiNnError(
                ErrorKind.UNSUPPORTED_OPERATION,
                f"option {kind}_delegate: {path} is no delegate that can be used: "
                f"{' '.join(str(error).split())}",
            ) from error


class _TfliteGraph(Graph):
    def __init__(self, backend: TfliteBackend, model: bytes, device: str) -> None:
        self._backend = backend
        self._model = model
        self._device = device
        self._lock = threading.Lock()
        try:
            first = backend.interpreter(model, device)
            backend.check_placed(first, device)
            self._inputs = tuple(_spec(details) for details in first.get_input_details())
            self._outputs = tuple(_spec(details) for details in first.get_output_details())
        except Exception as error:
            raise _mapped(error, ErrorKind.INVALID_ENCODING, "loading") from error
        self._first = first
        """For the first context: to make one takes time and memory."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._outputs

    def create_context(self) -> ExecutionContext:
        with self._lock:
            interpreter, self._first = self._first, None
        if interpreter is None:
            try:
                interpreter = self._backend.interpreter(self._model, self._device)
            except Exception as error:
                raise _mapped(error, ErrorKind.RUNTIME_ERROR, "making a context") from error
        return _TfliteContext(self, interpreter)

    def check_placed(self, interpreter: Any) -> None:
        self._backend.check_placed(interpreter, self._device)

    def close(self) -> None:
        self._first = None


class _TfliteContext(ExecutionContext):
    def __init__(self, graph: _TfliteGraph, interpreter: Any) -> None:
        self._graph = graph
        self._interpreter = interpreter
        self._indices = [details["index"] for details in interpreter.get_input_details()]
        self._dtypes = [details["dtype"] for details in interpreter.get_input_details()]
        self._given: list[np.ndarray[Any, Any] | None] = [None] * len(self._indices)
        self._allocated: list[tuple[int, ...]] = []
        """The inputs' shapes that there is memory for; empty before there is any."""
        self._results: list[np.ndarray[Any, Any] | None] | None = None

    def set_input(self, index: int, tensor: Tensor) -> None:
        specs = self._graph.inputs
        check_index(specs, index)
        specs[index].check(tensor, index)
        if max(tensor.shape, default=0) > _LARGEST_SIZE:  # beside a zero, any size has no data
            raise WasiNnError(
                ErrorKind.INVALID_ARGUMENT,
                f"input {index} ({specs[index].name}): shape {list(tensor.shape)} has a size of "
                f"more than {_LARGEST_SIZE}",
            )
        array = self._given[index]
        if array is None or array.shape != tensor.shape:
            array = self._given[index] = np.empty(tensor.shape, self._dtypes[index])
        bytes_of(array)[:] = tensor.data

    def compute(self) -> None:
        check_inputs_set(self._graph.inputs, self._given)
        given = [array for array in self._given if array is not None]
        self._results = None
        try:
            self._allocate([array.shape for array in given])
            for index, array in zip(self._indices, given, strict=True):
                if array.size:
                    self._interpreter.set_tensor(index, array)
            self._interpreter.invoke()
        except Exception as error:
            self._allocated = []
            raise _mapped(error, ErrorKind.RUNTIME_ERROR, "computing") from error
        self._results = [None] * len(self._graph.outputs)

    def _allocate(self, shapes: list[tuple[int, ...]]) -> None:
        if self._allocated == shapes:
            return
        for index, shape, details in zip(
            self._indices, shapes, self._interpreter.get_input_details(), strict=True
        ):
            if tuple(details["shape"]) != shape:
                self._interpreter.resize_tensor_input(index, shape, strict=True)
        self._interpreter.allocate_tensors()
        self._graph.check_placed(self._interpreter)
        self._allocated = shapes

    def get_output(self, index: int) -> Tensor:
        specs = self._graph.outputs
        array = output_at(self._results, index, [spec.name for spec in specs])
        spec = specs[index]
        if spec.type is None:
            raise uncarried(f"{index} ({spec.name})", spec.native_type)
        if array is None:
            array = self._read(index)
            assert self._results is not None
            self._results[index] = array
        return Tensor(spec.type, array.shape, bytes_of(array))

    def _read(self, index: int) -> np.ndarray[Any, Any]:
        details = self._interpreter.get_output_details()[index]
        shape = tuple(int(size) for size in details["shape"])
        if 0 in shape:  # TFLite has no memory for it, and refuses to show it
            return np.empty(shape, details["dtype"])
        array: np.ndarray[Any, Any] = self._interpreter.get_tensor(details["index"])
        return array

    def close(self) -> None:
        self._interpreter = None
        self._results = None
        self._given.clear()


def _imported() -> tuple[Any, str]:
    reasons = []
    for module, name in _LIBRARIES.items():
        try:
            return importlib.import_module(module), name
        except (ImportError, AttributeError) as error:  # of a library for another numpy
            reasons.append(f"{module.partition('.')[0]}: {' '.join(str(error).split())}")
    raise WasiNnError(
        ErrorKind.UNSUPPORTED_OPERATION,
        f"TFLite can not be imported ({'; '.join(reasons)}); install wasinn-host[tflite]",
    )


def _pairs(text: str) -> dict[str, str]:
    pairs = {}
    for item in filter(None, text.split(",")):
        key, equals, value = item.partition("=")
        if not key or not equals:
            raise WasiNnError(
                ErrorKind.INVALID_ARGUMENT,
                f"option delegate_options: expected KEY=VALUE, got {item!r}",
            )
        pairs[key] = value
    return pairs


def _left_to_the_cpu(interpreter: Any) -> list[str]:
    """The operators that outputs need and no delegate takes.

    TFLite keeps operators in its list when a delegate takes them, and adds the delegate's behind:
    which ones run follows from who makes what.
    """
    makers: dict[int, dict[str, Any]] = {}
    for operator in interpreter._get_ops_details():
        makers.update((int(number), operator) for number in operator["outputs"])
    left = {}
    seen: set[int] = set()
    wanted = [int(details["index"]) for details in interpreter.get_output_details()]
    while wanted:
        number = wanted.pop()
        maker = makers.get(number)
        if maker is None or number in seen:
            continue
        seen.add(number)
        if maker["op_name"] != "DELEGATE":
            left[maker["index"]] = str(maker["op_name"])
        wanted += [int(n) for n in maker["inputs"]]
    return list(left.values())


def _spec(details: Mapping[str, Any]) -> TensorSpec:
    signature = details["shape_signature"]
    sizes = signature if len(signature) else details["shape"]
    native = np.dtype(details["dtype"]).name
    scales = details["quantization_parameters"]["scales"]
    zero_points = details["quantization_parameters"]["zero_points"]
    quantization = None
    if len(scales) == 1 and len(zero_points) == 1:
        quantization = Quantization(float(scales[0]), int(zero_points[0]))
    shape = tuple(None if size < 0 else int(size) for size in sizes)
    return TensorSpec(details["name"], _TYPES.get(native), shape, native, quantization)


def _mapped(error: Exception, kind: ErrorKind, doing: str) -> Exception:
    """The one place where TFLite's exceptions become the interface's."""
    if isinstance(error, (WasiNnError, MemoryError)):
        return error
    text = " ".join(str(error).split()) or type(error).__name__
    return WasiNnError(kind, f"TFLite, while {doing}: {text}")


_DOUBLING: Final = bytes.fromhex(
    "1800000054464c3300000e001800140010000c00080004000e000000140000001c0000002000000018010000"
    "030000000100000004000000f0feffff000000000000000001000000100000000c00140010000c0008000400"
    "0c00000010000000500000005400000058000000010000001400000000000e001400000010000c000b000400"
    "0e000000100000000000000b0c0000001000000050ffffff0100000001000000020000000000000000000000"
    "01000000010000000100000000000000020000004c00000004000000d0ffffff0c0000001400000018000000"
    "02000000ffffffff030000000100000079000000020000000100000003000000140010000c00000000000800"
    "0000000000000400140000000c000000140000001800000002000000ffffffff030000000100000078000000"
    "02000000010000000300000001000000080000000400040004000000"
)
"""``y = x + x`` for float32 [n, 3]."""
