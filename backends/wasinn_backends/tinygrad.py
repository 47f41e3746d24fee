"""ONNX models on GPUs, through tinygrad. Not a second CPU backend: it offers GPUs alone.

Each graph is compiled once per set of input shapes, the last few of which are kept. tinygrad's
state counts for the whole process, so one lock is held while it works: contexts compute one after
the other. It has no way to end a computation: isolation alone ends one.

What a compiled model decided from numbers stays decided. So a model whose shapes, axes or the like
hang on the numbers of its inputs, instead of on their shapes, is refused, see `_check_fixed`.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import dataclasses
import importlib
import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

import numpy as np

from wasinn_backends.common import (
    DOUBLING_ONNX,
    NUMPY_TYPES,
    bytes_of,
    check_index,
    check_inputs_set,
    check_one_part,
    doubling_sample,
    number_option,
    output_at,
    uncarried,
)
from wasinn_backends.onnx_preflight import preflight
from wasinn_host.nn.plugin import (
    Backend,
    Device,
    ErrorKind,
    ExecutionContext,
    Graph,
    ModelSource,
    Sample,
    Target,
    Tensor,
    TensorSpec,
    TensorType,
    WasiNnError,
)

__all__ = ["TinygradBackend"]

_TYPES: Final[Mapping[str, TensorType]] = {
    "half": TensorType.F16,
    "float": TensorType.F32,
    "double": TensorType.F64,
    "unsigned char": TensorType.U8,
    "int": TensorType.I32,
    "long": TensorType.I64,
}
"""By tinygrad's names."""
_OF_NUMPY: Final = {dtype: tensor_type for tensor_type, dtype in NUMPY_TYPES.items()}

_KINDS: Final = ("METAL", "CUDA", "CL", "NV", "AMD", "QCOM")
_DEFAULT_KINDS: Final = "METAL,CUDA,CL"
"""The others drive the hardware without the vendor's library, so they are tried on request only."""

_SETTINGS: Final[Mapping[str, Any]] = {
    "CACHELEVEL": 0,  # no database of kernels in the user's home
    "DEBUG": 0,  # nothing on stdout, which is the guest's
    "BEAM": 0,
    "JIT": 1,
    "SCACHE": 0,
    "PARALLEL": 0,  # no processes of its own
    "MAX_BUFFER_SIZE": 1 << 30,  # elements of one tensor
}
_MOST_PROGRAMS: Final = 4096
"""Programs that tinygrad keeps for the process before they are forgotten."""

_SHAPE_OPS: Final = frozenset({"Shape", "Size"})
"""What these give hangs on the shape of what they take, not on its numbers."""

_lock: Final = threading.RLock()


class TinygradBackend(Backend):
    """The GPUs that tinygrad finds: by Metal, CUDA and OpenCL, and by others on request."""

    api_version = 1
    encodings = frozenset({"onnx"})
    options: ClassVar[Mapping[str, str]] = {
        "devices": f"which of {', '.join(_KINDS)} to try; default: {_DEFAULT_KINDS}",
        "shapes": "sets of input shapes a graph is kept compiled for, 1 to 1024; default: 8",
    }

    def __init__(self, options: Mapping[str, str]) -> None:
        self._kinds = options.get("devices", _DEFAULT_KINDS).upper().split(",")
        if unknown := [kind for kind in self._kinds if kind not in _KINDS]:
            raise WasiNnError(
                ErrorKind.INVALID_ARGUMENT,
                f"option devices: expected some of {','.join(_KINDS)}, got {unknown[0]!r}",
            )
        self._shapes = number_option(options, "shapes", 8, 1, 1024)
        try:
            self._tinygrad = importlib.import_module("tinygrad")
            # It makes constants, which belong to no device, but would have tinygrad choose one:
            # that opens each kind, writes to the environment, and fails where there is none.
            with _working(self._kinds[0]):
                self._onnx = importlib.import_module("tinygrad.nn.onnx")
        except ImportError as error:
            raise WasiNnError(
                ErrorKind.UNSUPPORTED_OPERATION,
                f"tinygrad can not be imported ({error}); install wasinn-host[tinygrad]",
            ) from error

    def devices(self) -> Sequence[Device]:
        found: list[Device] = []
        reasons: list[str] = []
        for kind in self._kinds:
            with _working(kind):
                try:
                    first = self._tinygrad.Device[kind]
                    count = first.count() if kind == "CL" else 1
                    opened = [self._tinygrad.Device[f"{kind}:{i}"] for i in range(count)]
                    found += [_described(kind, i, device) for i, device in enumerate(opened)]
                except Exception as error:
                    reasons.append(f"{kind}: {_one_line(error, 200)}")
        if not found:
            raise WasiNnError(
                ErrorKind.UNSUPPORTED_OPERATION, f"tinygrad finds no GPU ({'; '.join(reasons)})"
            )
        return tuple(found)

    def load(self, source: ModelSource, device: Device) -> Graph:
        check_one_part(source, "an ONNX")
        if not source.is_trusted:
            preflight(source.builders[0])
        name = device.id.upper()
        with _working(name):
            try:
                # From bytes it refuses external data, from a file it reads what lies beside it.
                given = source.paths[0] if source.is_trusted else self._bytes(source.builders[0])
                model = self._onnx.OnnxPBParser(given).parse()
                runner = self._onnx.OnnxRunner.__new__(self._onnx.OnnxRunner)
                runner._init_from_graph(model["graph"])
                _check_fixed(self._onnx, runner)
                weights = [v for v in runner.graph_values.values() if v is not None]
                if weights:
                    self._tinygrad.Tensor.realize(*weights)
                outputs = tuple(
                    _spec(v["name"], v["parsed_type"]) for v in model["graph"]["output"]
                )
                return _TinygradGraph(self._tinygrad, runner, name, outputs, self._shapes)
            except Exception as error:
                raise _mapped(error, "loading") from error

    def _bytes(self, model: bytes) -> Any:
        return self._tinygrad.Tensor(model, device="PYTHON")

    def samples(self) -> Sequence[Sample]:
        return (doubling_sample("onnx", DOUBLING_ONNX),)


class _TinygradGraph(Graph):
    """Weights on a device, and what was compiled for them. Contexts keep it after `close`."""

    def __init__(
        self, tinygrad: Any, runner: Any, device: str, outputs: tuple[TensorSpec, ...], most: int
    ) -> None:
        self._tinygrad = tinygrad
        self._runner = runner
        self._device = device
        self._most = most
        self._compiled: OrderedDict[tuple[tuple[int, ...], ...], Any] = OrderedDict()
        self._outputs = outputs
        self._inputs = tuple(_spec(name, value) for name, value in runner.graph_inputs.items())
        runner.graph_inputs = {
            name: value if value is None else _with_open_sizes(name, value)
            for name, value in runner.graph_inputs.items()
        }

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._outputs

    def create_context(self) -> ExecutionContext:
        return _TinygradContext(self)

    def run(self, arrays: Sequence[np.ndarray[Any, Any]]) -> list[Any]:
        """The outputs for these inputs; what has no numpy type comes as tinygrad's tensor."""
        with _working(self._device):
            given = [self._tinygrad.Tensor(a, device=self._device).realize() for a in arrays]
            shapes = tuple(array.shape for array in arrays)
            if 0 in (size for shape in shapes for size in shape):
                return _arrays(self._function()(*given))  # nothing to compile for
            call = self._compiled.get(shapes)
            if call is None:
                call = self._compile(shapes, given)
            self._compiled.move_to_end(shapes)
            return _arrays(call(*given))

    def _compile(self, shapes: tuple[tuple[int, ...], ...], given: Sequence[Any]) -> Any:
        jit_errors = importlib.import_module("tinygrad.engine.jit").JitError
        function = self._function()
        call = self._tinygrad.TinyJit(function)
        try:
            # The first call finds out what shapes hang on, the second one is what is kept.
            call(*given)
            call(*given)
        except jit_errors:
            call = function  # a model that computes nothing, of constants for example
        while len(self._compiled) >= self._most:
            _forget(self._compiled.popitem(last=False)[1])
        self._compiled[shapes] = call
        return call

    def _function(self) -> Any:
        """The model as a function of tensors; what it learns about shapes is its own."""
        known: dict[str, Any] = {}
        names = list(self._runner.graph_inputs)

        def function(*tensors: Any) -> tuple[Any, ...]:
            runner = copy.copy(self._runner)
            runner.graph_values = dict(runner.graph_values)
            runner.variable_dims = {}
            runner._python_const_cache = known
            self._place_constants(runner)
            # Clones, or an output that is an input would stay that of the first call.
            results = runner(dict(zip(names, (t.clone() for t in tensors), strict=True)), debug=0)
            return tuple(
                value.contiguous() if value.uop.device else value.clone(self._device)
                for value in results.values()
            )

        return function

    def _place_constants(self, runner: Any) -> None:
        """Constants that belong to no device are read through a CPU, with a compiler for it, by
        tinygrad: have them on this device before operators want them as Python numbers."""
        original = runner._get_python_const

        def placed(name: str, op: str, index: int) -> Any:
            value = runner.graph_values[name]
            if isinstance(value, self._tinygrad.Tensor) and not value.uop.device:
                runner.graph_values[name] = value.clone(self._device)
            return original(name, op, index)

        runner._get_python_const = placed

    def close(self) -> None:
        with _lock:
            for call in self._compiled.values():
                _forget(call)
            self._compiled.clear()
            self._runner = None
            _trim()


class _TinygradContext(ExecutionContext):
    def __init__(self, graph: _TinygradGraph) -> None:
        self._graph = graph
        self._slots: list[np.ndarray[Any, Any] | None] = [None] * len(graph.inputs)
        self._results: list[Any] | None = None

    def set_input(self, index: int, tensor: Tensor) -> None:
        specs = self._graph.inputs
        check_index(specs, index)
        specs[index].check(tensor, index)
        slot = self._slots[index]
        if slot is None or slot.shape != tensor.shape:
            slot = self._slots[index] = np.empty(tensor.shape, NUMPY_TYPES[tensor.type])
        bytes_of(slot)[:] = tensor.data

    def compute(self) -> None:
        check_inputs_set(self._graph.inputs, self._slots)
        given = [slot for slot in self._slots if slot is not None]
        self._results = None
        try:
            self._results = self._graph.run(given)
        except Exception as error:
            raise _mapped(error, "computing") from error

    def get_output(self, index: int) -> Tensor:
        value = output_at(self._results, index)
        tensor_type = _OF_NUMPY.get(value.dtype) if isinstance(value, np.ndarray) else None
        if tensor_type is None:
            raise uncarried(str(index), str(value.dtype))
        return Tensor(tensor_type, value.shape, bytes_of(value))

    def close(self) -> None:
        self._results = None
        self._slots.clear()


@contextlib.contextmanager
def _working(device: str) -> Iterator[None]:
    """tinygrad for one thread at a time, with settings and environment given back after."""
    context = importlib.import_module("tinygrad.helpers").Context
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = os.environ.get("POCL_CACHE_DIR")
        if before is None:
            kernels = _kernel_folder()
            os.environ["POCL_CACHE_DIR"] = kernels
            with contextlib.suppress(OSError):
                os.makedirs(kernels, exist_ok=True)
        try:
            # Only the kind: tensors say which of several devices.
            with context(DEV=device.split(":")[0], **_SETTINGS):
                yield
        finally:
            if before is None:
                os.environ.pop("POCL_CACHE_DIR", None)


def _kernel_folder() -> str:
    """Where PoCL keeps what it compiled: in wasinn's cache directory."""
    base = os.environ.get("WASINN_CACHE_DIR")
    if not base:
        home = os.path.join(os.path.expanduser("~"), ".cache")
        base = os.path.join(os.environ.get("XDG_CACHE_HOME") or home, "wasinn")
    return os.path.join(base, "pocl")


def _described(kind: str, index: int, device: Any) -> Device:
    """A device, with what OpenCL tells about it; the other libraries are not asked."""
    number = f":{index}" if index else ""
    if kind != "CL":
        arch = getattr(device, "arch", "") or ""
        return Device(f"{kind.lower()}{number}", Target.GPU, f"{kind} {arch}".strip())
    cl = importlib.import_module("tinygrad.runtime.autogen.opencl")
    memory, shared = ctypes.c_uint64(), ctypes.c_uint32()
    for word, into in (
        (cl.CL_DEVICE_GLOBAL_MEM_SIZE, memory),
        (cl.CL_DEVICE_HOST_UNIFIED_MEMORY, shared),
    ):
        cl.clGetDeviceInfo(device.cl_dev, word, ctypes.sizeof(into), ctypes.byref(into), None)
    about = f"OpenCL, {device.device_name}, driver {device.driver_version}"
    # Memory that it shares with the CPU is not its own.
    own = None if shared.value or not memory.value else int(memory.value)
    return Device(f"cl{number}", Target.GPU, about, own)


def _check_fixed(onnx: Any, runner: Any) -> None:
    """Refuses what could not be computed again with other numbers once it is compiled.

    tinygrad takes certain inputs of operators as Python numbers and keeps them. That is right as
    long as they follow from the model and from shapes.
    """
    changing = set(runner.graph_inputs)
    for node in runner.graph_nodes:
        if node.op not in runner.onnx_ops:
            raise WasiNnError(
                ErrorKind.UNSUPPORTED_OPERATION, f"tinygrad has no operator {node.op}"
            )
        if any(isinstance(value, onnx.OnnxRunner) for value in node.opts.values()):
            raise WasiNnError(
                ErrorKind.UNSUPPORTED_OPERATION,
                f"operator {node.op} has a graph of its own, which this backend does not run",
            )
        if node.op in _SHAPE_OPS:
            continue
        for index in onnx.required_input_python_consts.get(node.op, ()):
            if index < len(node.inputs) and node.inputs[index] in changing:
                raise WasiNnError(
                    ErrorKind.UNSUPPORTED_OPERATION,
                    f"operator {node.op} takes input {index} ({node.inputs[index]}) from the "
                    "numbers of the model's inputs; only their shapes may decide that here",
                )
        if not changing.isdisjoint(node.inputs):
            changing.update(node.outputs)


def _spec(name: str, value: Any) -> TensorSpec:
    """tinygrad's description of an input or output, in the interface's words."""
    if value is None:
        return TensorSpec(name, None, None, "value of no stated type")
    native = str(value.dtype.name)
    if value.is_optional or value.is_sequence:
        return TensorSpec(name, None, None, "sequence or optional value")
    known = _TYPES.get(native)
    # [] stands both for a scalar and for an open rank.
    shape = tuple(s if isinstance(s, int) and s >= 0 else None for s in value.shape) or None
    return TensorSpec(name, known, shape if known else None, native)


def _with_open_sizes(name: str, value: Any) -> Any:
    """An input whose nameless sizes have names, since tinygrad lets only named ones be open."""
    shape = tuple(
        size if isinstance(size, str) or (isinstance(size, int) and size >= 0) else f"{name}.{i}"
        for i, size in enumerate(value.shape)
    )
    return dataclasses.replace(value, shape=shape)


def _arrays(tensors: Sequence[Any]) -> list[Any]:
    """Results on the host, before the next call overwrites what they lie in."""
    return [t.numpy().copy() if t.dtype.name in _TYPES else t for t in tensors]


def _forget(call: Any) -> None:
    captured = getattr(call, "captured", None)
    if captured is not None:
        captured.free_intermediates()


def _trim() -> None:
    """Empties what tinygrad keeps without bound for the process, once it is much."""
    for module, name in (
        ("tinygrad.engine.realize", "runtime_cache"),
        ("tinygrad.codegen", "to_program_cache"),
    ):
        kept = getattr(importlib.import_module(module), name)
        if len(kept) > _MOST_PROGRAMS:
            kept.clear()


def _one_line(error: Exception, most: int = 1000) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:most]


def _mapped(error: Exception, doing: str) -> Exception:
    """The one place where tinygrad's exceptions become the interface's."""
    if isinstance(error, (WasiNnError, MemoryError)):
        return error
    text = _one_line(error)
    kind = ErrorKind.RUNTIME_ERROR
    if "is too large" in text or "ALLOCATION_FAILURE" in text or "INVALID_BUFFER_SIZE" in text:
        kind = ErrorKind.TOO_LARGE
    elif isinstance(error, FileNotFoundError):
        kind = ErrorKind.MODEL_NOT_FOUND
    elif isinstance(error, NotImplementedError):
        kind = ErrorKind.UNSUPPORTED_OPERATION
    elif doing == "loading" and "OpenCL Error" not in text:
        kind = ErrorKind.INVALID_ENCODING
    return WasiNnError(kind, f"tinygrad, while {doing}: {text}")
