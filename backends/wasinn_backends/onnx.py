"""ONNX models through ONNX Runtime, on the CPU and on what its execution providers report.

Not a converter: it runs what it is given.

Models from guests go through `onnx_preflight` first; models that the host's user named are loaded
from their file, and may keep their weights in files beside it.

Inputs live in one preallocated buffer each, which `run` reads in place; outputs are read where
ONNX Runtime put them. ONNX Runtime releases the GIL while it computes, and sessions may be used by
many threads, so contexts of one graph compute at the same time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

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
from wasinn_backends.onnx_devices import EpDevices
from wasinn_backends.onnx_preflight import preflight
from wasinn_host.nn.plugin import (
    Backend,
    Device,
    ErrorKind,
    ExecutionContext,
    Graph,
    ModelSource,
    Sample,
    Tensor,
    TensorSpec,
    TensorType,
    WasiNnError,
)

__all__ = ["OnnxBackend"]

_FATAL_ONLY: Final = 4
"""ONNX Runtime writes its log to stderr; what matters comes as an exception as well."""

_CPU_REFUSED: Final = "fallback to CPU EP has been explicitly disabled"
"""What ONNX Runtime says of a model with nodes that the chosen provider does not take."""

_TYPES: Final = {dtype: tensor_type for tensor_type, dtype in NUMPY_TYPES.items()}
_ORT_TYPES: Final = {
    "tensor(float16)": TensorType.F16,
    "tensor(float)": TensorType.F32,
    "tensor(double)": TensorType.F64,
    "tensor(uint8)": TensorType.U8,
    "tensor(int32)": TensorType.I32,
    "tensor(int64)": TensorType.I64,
}

_OPTIMIZATION: Final = {
    "disable": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}

LOAD_ERRORS: Final[Mapping[str, ErrorKind]] = {
    "EPFail": ErrorKind.RUNTIME_ERROR,
    "EngineError": ErrorKind.RUNTIME_ERROR,
    "DeviceReset": ErrorKind.RUNTIME_ERROR,
    "Fail": ErrorKind.INVALID_ENCODING,  # a model that loads, but is inconsistent in itself
    "InvalidArgument": ErrorKind.INVALID_ENCODING,  # likewise: a name that no node defines
    "InvalidGraph": ErrorKind.INVALID_ENCODING,
    "InvalidProtobuf": ErrorKind.INVALID_ENCODING,
    "ModelLoadCanceled": ErrorKind.RUNTIME_ERROR,
    "ModelLoaded": ErrorKind.RUNTIME_ERROR,
    "ModelRequiresCompilation": ErrorKind.UNSUPPORTED_OPERATION,
    "NoModel": ErrorKind.INVALID_ENCODING,
    "NoSuchFile": ErrorKind.NOT_FOUND,
    "NotFound": ErrorKind.NOT_FOUND,
    "NotImplemented": ErrorKind.UNSUPPORTED_OPERATION,
    "RuntimeException": ErrorKind.RUNTIME_ERROR,
}
"""What ONNX Runtime raises while loading. While computing, only InvalidArgument and NotImplemented
keep their meaning; the rest is ``runtime_error``."""

_RUN_ERRORS: Final[Mapping[str, ErrorKind]] = {
    "InvalidArgument": ErrorKind.INVALID_ARGUMENT,
    "NotImplemented": ErrorKind.UNSUPPORTED_OPERATION,
}


class OnnxBackend(Backend):
    """ONNX Runtime, with each device that its execution providers report."""

    api_version = 1
    encodings = frozenset({"onnx"})
    options: ClassVar[Mapping[str, str]] = {
        "threads": "threads of one computation; 0, the default: one per physical core",
        "spinning": "1, the default: idle threads wait busily, which is faster; 0: they sleep",
        "optimization": f"{', '.join(_OPTIMIZATION)} (the default)",
        "ep_library": "NAME=PATH of a library with execution providers; several with commas",
        "ep_options": "PROVIDER.KEY=VALUE for an execution provider; several with commas",
        "cpu_nodes": "1: the CPU runs nodes that a provider lacks; 0, the default: refused",
    }

    def __init__(self, options: Mapping[str, str]) -> None:
        # For the whole process: what is not about one session goes to the default logger, and a
        # guest could fill the terminal with it.
        ort.set_default_logger_severity(_FATAL_ONLY)
        self._threads = number_option(options, "threads", 0, 0, 1024)
        self._spinning = number_option(options, "spinning", 1, 0, 1)
        level = options.get("optimization", "all")
        if level not in _OPTIMIZATION:
            raise WasiNnError(
                ErrorKind.INVALID_ARGUMENT,
                f"option optimization: expected one of {', '.join(_OPTIMIZATION)}, got {level!r}",
            )
        self._level = _OPTIMIZATION[level]
        self._cpu_nodes = number_option(options, "cpu_nodes", 0, 0, 1)
        self._devices = EpDevices(options.get("ep_library", ""), options.get("ep_options", ""))

    def devices(self) -> Sequence[Device]:
        return self._devices.devices()

    def load(self, source: ModelSource, device: Device) -> Graph:
        check_one_part(source, "an ONNX")
        options = self._session_options()
        provider = self._devices.add_to(options, device)
        if provider and not self._cpu_nodes:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        model: str | bytes
        if source.is_trusted:
            model = str(source.paths[0])
        else:
            model = source.builders[0]
            preflight(model)
            # Otherwise ONNX Runtime recognises its own format, which the preflight knows not.
            options.add_session_config_entry("session.load_model_format", "ONNX")
        try:
            session = ort.InferenceSession(
                model,
                options,
                # Given here, they would replace those of the options.
                providers=None if provider else ["CPUExecutionProvider"],
                enable_fallback=0,  # it would print to stdout, which is the guest's
                read_config_from_model=0,  # the host's options rule, not the model's
            )
            # Kept by ONNX Runtime's Python side for the fallback that is off, all of the model.
            session._model_bytes = None
            used = session.get_providers()
            if provider and provider not in used:
                raise WasiNnError(
                    ErrorKind.RUNTIME_ERROR,
                    f"ONNX Runtime made a session for {', '.join(used)}, not for {provider} "
                    f"of device {device.id}",
                )
            return _OnnxGraph(session)
        except UnicodeDecodeError as error:  # of what a damaged model calls its inputs
            raise WasiNnError(
                ErrorKind.INVALID_ENCODING, f"the model has a name that is not UTF-8: {error}"
            ) from error
        except Exception as error:
            raise _mapped(error, LOAD_ERRORS, "loading") from error

    def samples(self) -> Sequence[Sample]:
        return (doubling_sample("onnx", DOUBLING_ONNX),)

    def _session_options(self) -> Any:
        options = ort.SessionOptions()
        options.log_severity_level = _FATAL_ONLY
        options.intra_op_num_threads = self._threads
        options.graph_optimization_level = self._level
        if not self._spinning:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return options


class _OnnxGraph(Graph):
    """A session. Contexts keep using it after `close`; it goes when the last of them goes."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._inputs = tuple(_spec(value) for value in session.get_inputs())
        self._outputs = tuple(_spec(value) for value in session.get_outputs())

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._outputs

    def create_context(self) -> ExecutionContext:
        return _OnnxContext(self._session, self._inputs, self._outputs)

    def close(self) -> None:
        self._session = None


class _Slot:
    """The buffer of one input: an array for ONNX Runtime and the same bytes for the host."""

    __slots__ = ("data", "shape")

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.shape = array.shape
        self.data = bytes_of(array)


class _OnnxContext(ExecutionContext):
    def __init__(
        self, session: Any, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
    ) -> None:
        self._session = session
        self._specs = inputs
        self._output_specs = outputs
        self._output_names = [spec.name for spec in outputs]
        # ONNX Runtime 1.24 and before hand out the fed array, which the next input changes.
        given = {spec.name for spec in inputs}
        self._passed_on = [i for i, name in enumerate(self._output_names) if name in given]
        self._slots: list[_Slot | None] = [None] * len(inputs)
        self._feeds: dict[str, np.ndarray[Any, Any]] = {}
        self._results: list[Any] | None = None
        self._run_options = ort.RunOptions()
        self._run_options.log_severity_level = _FATAL_ONLY

    def set_input(self, index: int, tensor: Tensor) -> None:
        check_index(self._specs, index)
        spec = self._specs[index]
        spec.check(tensor, index)
        slot = self._slots[index]
        if slot is None or slot.shape != tensor.shape:
            # The data is as long as the shape says, so a guest can not make this larger than
            # what it holds itself.
            array = np.empty(tensor.shape, NUMPY_TYPES[tensor.type])
            slot = self._slots[index] = _Slot(array)
            self._feeds[spec.name] = array
        slot.data[:] = tensor.data

    def compute(self) -> None:
        check_inputs_set(self._specs, self._slots)
        self._results = None
        self._run_options.terminate = False
        try:
            results = self._session.run(self._output_names, self._feeds, self._run_options)
        except Exception as error:
            raise _mapped(error, _RUN_ERRORS, "computing") from error
        for index in self._passed_on:
            results[index] = results[index].copy()
        self._results = results

    def cancel(self) -> None:
        self._run_options.terminate = True

    def get_output(self, index: int) -> Tensor:
        array = output_at(self._results, index, self._output_names)
        tensor_type = _TYPES.get(array.dtype) if isinstance(array, np.ndarray) else None
        if tensor_type is None:
            spec = self._output_specs[index]
            raise uncarried(f"{index} ({spec.name})", spec.native_type)
        return Tensor(tensor_type, array.shape, bytes_of(array))

    def close(self) -> None:
        self._session = None
        self._results = None
        self._feeds.clear()
        self._slots.clear()


def _spec(value: Any) -> TensorSpec:
    """ONNX Runtime's description of an input or output, in the interface's words."""
    tensor_type = _ORT_TYPES.get(value.type)
    shape = None
    # ONNX Runtime says [] both for a scalar and for an open rank, and takes any rank for both.
    if tensor_type is not None and value.shape:
        shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return TensorSpec(value.name, tensor_type, shape, value.type)


def _mapped(error: Exception, kinds: Mapping[str, ErrorKind], doing: str) -> Exception:
    """The one place where ONNX Runtime's exceptions become the interface's."""
    if isinstance(error, (WasiNnError, MemoryError)):
        return error
    text = " ".join(str(error).split())
    known = getattr(ort_state, type(error).__name__, None) is type(error)
    kind = kinds.get(type(error).__name__) if known else None
    if _CPU_REFUSED in text:
        kind = ErrorKind.UNSUPPORTED_OPERATION
        text += " (the option cpu_nodes=1 lets the CPU run them)"
    if "bad_alloc" in text or "Failed to allocate memory" in text:
        kind = ErrorKind.TOO_LARGE
    return WasiNnError(kind or ErrorKind.RUNTIME_ERROR, f"ONNX Runtime, while {doing}: {text}")
