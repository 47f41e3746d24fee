"""OpenVINO's own models, ONNX's and TensorFlow's, on OpenVINO's devices. Not a converter.

Models are read by `openvino_reading`, which looks through those of guests first. OpenVINO is
imported when the backend is made, not when this file is.

An input is copied once, into the tensor that the infer request reads; outputs are read where
OpenVINO put them. Requests of one compiled model compute at the same time.

OpenVINO's package tells its maker of each import, and writes an id for that into the home folder;
here it is imported without the part that does.

OpenVINO looks for `cancel` between the nodes of a model, not inside of a Loop's body: a guest that
loads a model with an endless Loop is stopped by isolation alone.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from wasinn_backends.common import (
    NUMPY_TYPES,
    bytes_of,
    check_index,
    check_inputs_set,
    number_option,
    output_at,
    uncarried,
)
from wasinn_backends.openvino_reading import ENCODINGS, read
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

__all__ = ["OpenVinoBackend", "import_openvino", "own_memory"]

_TYPES: Final = {tensor_type.value: tensor_type for tensor_type in NUMPY_TYPES}
"""By OpenVINO's names, which are those of WASI-NN."""
_TARGETS: Final = {"CPU": Target.CPU, "GPU": Target.GPU, "NPU": Target.TPU}
_AUTO: Final = "auto"
_MEMORY: Final = "GPU_DEVICE_TOTAL_MEM_SIZE"
_HINTS: Final = ("LATENCY", "THROUGHPUT")
_TELEMETRY: Final = "openvino_telemetry"
_IMPORTING: Final = threading.Lock()


class OpenVinoBackend(Backend):
    """Everything that OpenVINO's ``Core.available_devices`` lists, and its choice among these."""

    api_version = 1
    encodings = ENCODINGS
    options: ClassVar[Mapping[str, str]] = {
        "threads": "CPU threads of one computation; 0, the default: OpenVINO chooses",
        "hint": "latency (the default) or throughput",
        "cache_dir": "folder for compiled models of the host's own files; default: none is kept",
    }

    def __init__(self, options: Mapping[str, str]) -> None:
        threads = number_option(options, "threads", 0, 0, 1024)
        hint = options.get("hint", "latency").upper()
        if hint not in _HINTS:
            raise WasiNnError(
                ErrorKind.INVALID_ARGUMENT,
                f"option hint: expected latency or throughput, got {options['hint']!r}",
            )
        self._cache_dir = _made(options.get("cache_dir", ""))
        self._ov: Any = import_openvino()
        self._core: Any = self._ov.Core()
        self._threads = threads
        self._hint = hint

    def devices(self) -> Sequence[Device]:
        found = []
        for name in self._core.available_devices:
            target = _TARGETS.get(name.split(".")[0])
            if target is not None:
                about = f"OpenVINO, {self._core.get_property(name, 'FULL_DEVICE_NAME')}"
                memory = own_memory(self._core, name)
                found.append(Device(name.lower().replace(".", ":"), target, about, memory))
        if found:
            # Last, and of a target that another one has: only who names it gets it.
            among = ", ".join(device.id for device in found)
            found.append(Device(_AUTO, found[0].target, f"OpenVINO's choice among {among}"))
        return tuple(found)

    def load(self, source: ModelSource, device: Device) -> Graph:
        try:
            model = read(self._ov, self._core, source)
            name = device.id.upper().replace(":", ".")
            config = self._config(device, source)
            return _Graph(self._ov, self._core.compile_model(model, name, config))
        except Exception as error:
            raise _mapped(error, ErrorKind.INVALID_ENCODING, "loading") from error

    def _config(self, device: Device, source: ModelSource) -> dict[str, Any]:
        config: dict[str, Any] = {"PERFORMANCE_HINT": self._hint}
        # Otherwise f32 models run in bf16 where the processor can, and differ.
        of_cpu: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
        if self._threads:
            of_cpu["INFERENCE_NUM_THREADS"] = self._threads
        if device.id == _AUTO:
            config["DEVICE_PROPERTIES"] = {"CPU": of_cpu}
        elif device.target is Target.CPU:
            config.update(of_cpu)
        # Compiled models are found by a number of 64 bits that is no secure hash: a guest could
        # make a model that is found in place of another.
        if self._cache_dir and source.is_trusted:
            config["CACHE_DIR"] = self._cache_dir
        return config

    def samples(self) -> Sequence[Sample]:
        x = np.array([[0.5, -1, 2], [3, 4, -5]], np.float32)
        weight = np.array([1, 2, 4], np.float32)
        given, product = (
            Tensor(TensorType.F32, array.shape, bytes_of(array)) for array in (x, x * weight)
        )
        parts = (_MULTIPLYING.encode(), weight.tobytes())
        return (Sample("openvino", parts, (given,), (product,)),)


class _Graph(Graph):
    """A compiled model. Contexts keep using it after `close`."""

    def __init__(self, ov: Any, compiled: Any) -> None:
        self._ov = ov
        self._compiled = compiled
        self._inputs = tuple(_spec(port) for port in compiled.inputs)
        self._outputs = tuple(_spec(port) for port in compiled.outputs)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._outputs

    def create_context(self) -> ExecutionContext:
        request = self._compiled.create_infer_request()
        return _Context(self._ov, request, self._inputs, self._outputs)

    def close(self) -> None:
        self._compiled = None


class _Context(ExecutionContext):
    def __init__(
        self,
        ov: Any,
        request: Any,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
    ) -> None:
        self._ov = ov
        self._request = request
        self._inputs = inputs
        self._outputs = outputs
        self._arrays: list[np.ndarray[Any, Any] | None] = [None] * len(inputs)
        self._is_computed = False

    def set_input(self, index: int, tensor: Tensor) -> None:
        check_index(self._inputs, index)
        self._inputs[index].check(tensor, index)
        array = self._arrays[index]
        if array is None or array.shape != tensor.shape:
            array = np.empty(tensor.shape, NUMPY_TYPES[tensor.type])
            try:
                shared = self._ov.Tensor(array, shared_memory=True)
                self._request.set_input_tensor(index, shared)
            except Exception as error:
                raise _mapped(
                    error, ErrorKind.INVALID_ARGUMENT, f"setting input {index}"
                ) from error
            self._arrays[index] = array
        bytes_of(array)[:] = tensor.data

    def compute(self) -> None:
        check_inputs_set(self._inputs, self._arrays)
        self._is_computed = False
        try:
            self._request.start_async()
            self._request.wait()
        except Exception as error:
            raise _mapped(error, ErrorKind.RUNTIME_ERROR, "computing") from error
        self._is_computed = True

    def cancel(self) -> None:
        self._request.cancel()

    def get_output(self, index: int) -> Tensor:
        names = [spec.name for spec in self._outputs]
        spec = output_at(self._outputs if self._is_computed else None, index, names)
        if spec.type is None:
            raise uncarried(f"{index} ({spec.name})", spec.native_type)
        array = self._request.get_output_tensor(index).data
        return Tensor(spec.type, array.shape, bytes_of(array))

    def close(self) -> None:
        self._request = None
        self._arrays.clear()


def import_openvino() -> Any:
    """The package, imported without its telemetry: it takes its own stub where that is missing."""
    with _IMPORTING:
        # An entry of None makes an import fail.
        is_ours = _TELEMETRY not in sys.modules
        if is_ours:
            sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
        try:
            return importlib.import_module("openvino")
        except ImportError as error:
            raise WasiNnError(
                ErrorKind.UNSUPPORTED_OPERATION,
                f"OpenVINO can not be imported ({error}); install wasinn-host[openvino]",
            ) from error
        finally:
            if is_ours:
                del sys.modules[_TELEMETRY]


def own_memory(core: Any, name: str) -> int | None:
    """Bytes of memory that a device has for itself; None where it has none or does not say."""
    if _MEMORY not in core.get_property(name, "SUPPORTED_PROPERTIES"):
        return None
    if "INTEGRATED" in str(core.get_property(name, "DEVICE_TYPE")):
        return None  # it shares the CPU's
    return int(core.get_property(name, _MEMORY)) or None


def _made(folder: str) -> str:
    """The option ``cache_dir``, as a folder that is there; empty for none."""
    if folder:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WasiNnError(
                ErrorKind.INVALID_ARGUMENT,
                f"option cache_dir: expected a folder that is there or can be made, "
                f"got {folder!r}: {error.strerror}",
            ) from error
    return folder


def _spec(port: Any) -> TensorSpec:
    native = str(port.get_element_type().to_string())
    partial = port.get_partial_shape()
    shape = None
    if not partial.rank.is_dynamic:
        shape = tuple(None if size.is_dynamic else size.get_length() for size in partial)
    name = min(port.get_names(), default="")
    return TensorSpec(name, _TYPES.get(native), shape, native)


def _mapped(error: Exception, kind: ErrorKind, doing: str) -> Exception:
    """The one place where OpenVINO's exceptions become the interface's."""
    if isinstance(error, (WasiNnError, MemoryError)):
        return error
    text = " ".join(str(error).split())
    if "bad_alloc" in text or "allocate memory" in text:
        kind = ErrorKind.TOO_LARGE
    return WasiNnError(kind, f"OpenVINO, while {doing}: {text}")


_PORT: Final = '<port id="{}" precision="FP32"><dim>-1</dim><dim>3</dim></port>'
_MULTIPLYING: Final = f"""<?xml version="1.0"?>
<net name="multiply" version="11">
<layers>
<layer id="0" name="x" type="Parameter" version="opset1">
<data shape="?,3" element_type="f32"/><output>{_PORT.format(0)}</output></layer>
<layer id="1" name="weight" type="Const" version="opset1">
<data element_type="f32" shape="3" offset="0" size="12"/>
<output><port id="0" precision="FP32"><dim>3</dim></port></output></layer>
<layer id="2" name="y" type="Multiply" version="opset1"><data auto_broadcast="numpy"/>
<input>{_PORT.format(0)}<port id="1" precision="FP32"><dim>3</dim></port></input>
<output>{_PORT.format(2)}</output></layer>
<layer id="3" name="result" type="Result" version="opset1"><input>{_PORT.format(0)}</input></layer>
</layers>
<edges>
<edge from-layer="0" from-port="0" to-layer="2" to-port="0"/>
<edge from-layer="1" from-port="0" to-layer="2" to-port="1"/>
<edge from-layer="2" from-port="2" to-layer="3" to-port="0"/>
</edges>
</net>
"""
