"""TorchScript archives and exported programs, through PyTorch. Not a converter of Python models.

Guests may bring TorchScript, which goes through `torch_preflight`; exported programs run Python
when they are read, so they are loaded from files that the host's user named, and only from those.
PyTorch is imported when the backend is made, not when this file is.

TorchScript's signature says how many tensors go in and how often they come out, not of which type
or shape: those stay open, and an operator that can not take them says so. PyTorch releases the GIL
while it computes, and contexts of one graph compute at the same time. It has no way to end a
computation, so there is no ``cancel``: isolation alone ends one.
"""

from __future__ import annotations

import copy
import importlib
import io
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

from wasinn_backends.common import (
    check_index,
    check_inputs_set,
    check_one_part,
    doubling_sample,
    number_option,
    output_at,
    uncarried,
)
from wasinn_backends.torch_preflight import is_exported_program, preflight
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

__all__ = ["TorchBackend"]

_TYPE_NAMES: Final[Mapping[TensorType, str]] = {
    TensorType.F16: "float16",
    TensorType.F32: "float32",
    TensorType.F64: "float64",
    TensorType.BF16: "bfloat16",
    TensorType.U8: "uint8",
    TensorType.I32: "int32",
    TensorType.I64: "int64",
}
_HERE: Final = r"wasinn_backends\.torch\Z"
"""Where Python finds what operators of TorchScript warn of, since `_called` calls them."""
_ANY: Final = "Tensor"
"""The native type of what TorchScript leaves open."""


class TorchBackend(Backend):
    """PyTorch on the CPU, and on CUDA and Apple's GPU where it reports them."""

    api_version = 1
    encodings = frozenset({"pytorch"})
    options: ClassVar[Mapping[str, str]] = {
        "threads": "threads of one operator; 0, the default: PyTorch chooses",
        "interop_threads": "threads for operators of one model at once; 0, the default: as above",
    }

    def __init__(self, options: Mapping[str, str]) -> None:
        threads = number_option(options, "threads", 0, 0, 1024)
        interop_threads = number_option(options, "interop_threads", 0, 0, 1024)
        try:
            self._torch = importlib.import_module("torch")
        except ImportError as error:
            raise WasiNnError(
                ErrorKind.UNSUPPORTED_OPERATION,
                f"PyTorch can not be imported ({error}); install wasinn-host[torch]",
            ) from error
        # A guest chooses what operators warn of, with as many texts as there are shapes: that would
        # fill the host's stderr and memory, or end the computation where warnings are errors.
        warnings.filterwarnings("ignore", module=_HERE)
        # Both count for the whole process.
        if threads:
            self._torch.set_num_threads(threads)
        if interop_threads and interop_threads != self._torch.get_num_interop_threads():
            try:
                self._torch.set_num_interop_threads(interop_threads)
            except RuntimeError as error:
                raise WasiNnError(
                    ErrorKind.INVALID_ARGUMENT,
                    f"option interop_threads: PyTorch has begun to work in this process with "
                    f"{self._torch.get_num_interop_threads()}, and keeps them",
                ) from error

    def devices(self) -> Sequence[Device]:
        torch = self._torch
        found = [Device("cpu", Target.CPU, f"PyTorch {torch.__version__}, CPU")]
        if torch.cuda.is_available():
            for index in range(torch.cuda.device_count()):
                about = torch.cuda.get_device_properties(index)
                found.append(
                    Device(f"cuda:{index}", Target.GPU, about.name, int(about.total_memory))
                )
        if torch.backends.mps.is_available():
            found.append(Device("mps", Target.GPU, "Apple GPU (Metal)"))
        return tuple(found)

    def load(self, source: ModelSource, device: Device) -> Graph:
        check_one_part(source, "a PyTorch")
        (model,) = source.read()
        try:
            # Warnings that loading TorchScript is deprecated are not for the guest's user.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if source.is_trusted and is_exported_program(model):
                    return _exported(self._torch, io.BytesIO(model), device.id)
                data = model if source.is_trusted else preflight(model)
                # First to the CPU: a device would copy before anything is known about the model.
                loaded = self._torch.jit.load(io.BytesIO(data), map_location="cpu")
                return _scripted(self._torch, loaded.eval().to(device.id), device.id)
        except Exception as error:
            raise _mapped(self._torch, error, "loading") from error

    def samples(self) -> Sequence[Sample]:
        return (doubling_sample("pytorch", _doubling()),)


class _TorchGraph(Graph):
    """A module that is called with tensors. Contexts keep it after `close`."""

    def __init__(
        self,
        torch: Any,
        module: Any,
        device: str,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        *,
        call: Callable[[Any, tuple[Any, ...]], Any],
        writes_inputs: bool,
        writes_state: bool,
    ) -> None:
        self.call = call
        self.torch = torch
        self.device = device
        self.writes_inputs = writes_inputs
        self._writes_state = writes_state
        self._module = module
        self._inputs = inputs
        self._outputs = outputs
        self.types = {getattr(torch, name): key for key, name in _TYPE_NAMES.items()}
        self.dtypes = {key: dtype for dtype, key in self.types.items()}
        # Memory that outputs may share with the model, which they must not give away.
        self.kept = frozenset(
            tensor.untyped_storage().data_ptr()
            for tensor in (*module.parameters(), *module.buffers())
        )

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._outputs

    def create_context(self) -> ExecutionContext:
        # What a model remembers from one computation to the next is its context's alone.
        module = copy.deepcopy(self._module) if self._writes_state else self._module
        return _TorchContext(self, module)

    def close(self) -> None:
        self._module = None


class _Slot:
    """The buffer of one input: a tensor for PyTorch and the same bytes for the host."""

    __slots__ = ("data", "shape", "tensor", "type")

    def __init__(self, torch: Any, dtype: Any, tensor: Tensor) -> None:
        self.type = tensor.type
        self.shape = tensor.shape
        self.tensor = torch.empty(tensor.shape, dtype=dtype)
        self.data = _bytes_of(torch, self.tensor)


class _TorchContext(ExecutionContext):
    def __init__(self, graph: _TorchGraph, module: Any) -> None:
        self._graph = graph
        self._module = module
        self._slots: list[_Slot | None] = [None] * len(graph.inputs)
        self._results: list[Any] | None = None

    def set_input(self, index: int, tensor: Tensor) -> None:
        specs = self._graph.inputs
        check_index(specs, index)
        spec = specs[index]
        if spec.type is None and spec.native_type == _ANY:
            spec = TensorSpec(spec.name, tensor.type, spec.shape, spec.native_type)
        spec.check(tensor, index)
        slot = self._slots[index]
        if slot is None or slot.shape != tensor.shape or slot.type is not tensor.type:
            dtype = self._graph.dtypes[tensor.type]
            slot = self._slots[index] = _Slot(self._graph.torch, dtype, tensor)
        slot.data[:] = tensor.data

    def compute(self) -> None:
        graph = self._graph
        check_inputs_set(graph.inputs, self._slots)
        slots = [slot for slot in self._slots if slot is not None]
        self._results = None
        try:
            # Per thread, so here and not once.
            with graph.torch.inference_mode():
                given = [slot.tensor.to(graph.device) for slot in slots]
                if graph.writes_inputs:
                    given = [tensor.clone() for tensor in given]
                # Outputs that share memory with inputs or weights would change with them.
                shared = graph.kept | {t.untyped_storage().data_ptr() for t in given}
                self._results = [
                    self._steady(value, shared)
                    for value in _flat(graph.call(self._module, tuple(given)))
                ]
        except Exception as error:
            raise _mapped(graph.torch, error, "computing") from error

    def _steady(self, value: Any, shared: frozenset[int]) -> Any:
        if not isinstance(value, self._graph.torch.Tensor):
            return value
        value = value.detach()
        if value.layout is not self._graph.torch.strided or value.is_quantized:
            return value
        if value.untyped_storage().data_ptr() in shared:
            value = value.clone()
        return value.cpu().contiguous()

    def get_output(self, index: int) -> Tensor:
        value = output_at(self._results, index)
        torch = self._graph.torch
        is_tensor = isinstance(value, torch.Tensor)
        plain = is_tensor and value.layout is torch.strided and not value.is_quantized
        tensor_type = self._graph.types.get(value.dtype) if plain else None
        if tensor_type is None:
            native = f"{value.dtype} ({value.layout})" if is_tensor else type(value).__name__
            raise uncarried(str(index), native)
        return Tensor(tensor_type, tuple(value.shape), _bytes_of(torch, value))

    def close(self) -> None:
        self._module = None
        self._results = None
        self._slots.clear()


def _bytes_of(torch: Any, tensor: Any) -> memoryview:
    """The memory of a contiguous tensor on the CPU."""
    if tensor.numel() == 0:
        return memoryview(bytearray())  # PyTorch views no strides of nothing as other types
    # Strides of dimensions of size 1 may be anything, and other types can not be viewed so.
    flat = tensor.as_strided((tensor.numel(),), (1,))
    data: memoryview = flat.view(torch.uint8).numpy().data
    return data


def _called(module: Any, given: tuple[Any, ...]) -> Any:
    """What a TorchScript module gives, with its hooks, as calling it does.

    Not by calling it: warnings count as those of the Python code that called an operator, which
    has to be this file and not PyTorch's.
    """
    for hook in module._forward_pre_hooks.values():
        replaced = hook(module, given)
        if replaced is not None:
            given = replaced if isinstance(replaced, tuple) else (replaced,)
    result = module.forward(*given)
    for hook in module._forward_hooks.values():
        replaced = hook(module, given, result)
        result = result if replaced is None else replaced
    return result


def _scripted(torch: Any, module: Any, device: str) -> _TorchGraph:
    """A graph of a TorchScript module, with what its ``forward`` says about itself."""
    if not hasattr(module, "forward"):
        raise WasiNnError(ErrorKind.INVALID_ENCODING, "the TorchScript module has no forward")
    schema = module.forward.schema
    arguments = schema.arguments[1:]  # without the module itself
    for argument in arguments:
        if argument.type.kind() != "TensorType" and not argument.has_default_value():
            raise WasiNnError(
                ErrorKind.UNSUPPORTED_OPERATION,
                f"forward takes {argument.name} of type {argument.type}; "
                "WASI-NN can give it tensors only",
            )
    count = 0
    while count < len(arguments) and arguments[count].type.kind() == "TensorType":
        count += 1
    if any(a.type.kind() == "TensorType" and not a.has_default_value() for a in arguments[count:]):
        raise WasiNnError(
            ErrorKind.UNSUPPORTED_OPERATION, "forward takes a tensor after what is none"
        )
    returned = schema.returns[0].type
    kinds = [e.kind() for e in returned.elements()] if returned.kind() == "TupleType" else []
    if returned.kind() == "TensorType":
        kinds = ["TensorType"]
    # Of lists, dictionaries and tuples of those nobody knows the length before computing.
    is_fixed = all(kind == "TensorType" for kind in kinds)
    graph = module.inlined_graph
    aliases = graph.alias_db()
    _module, *given = graph.inputs()
    return _TorchGraph(
        torch,
        module,
        device,
        tuple(TensorSpec(a.name, None, None, _ANY) for a in arguments[:count]),
        tuple(TensorSpec(f"output_{i}", None, None, _ANY) for i in range(len(kinds)))
        if is_fixed
        else (),
        call=_called,
        writes_inputs=any(aliases.has_writers(value) for value in given),
        writes_state=any(
            node.kind() == "prim::SetAttr"
            or (
                node.kind() == "prim::GetAttr"
                and any(aliases.has_writers(value) for value in node.outputs())
            )
            for node in _nodes(graph)
        ),
    )


def _nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def _exported(torch: Any, file: io.BytesIO, device: str) -> _TorchGraph:
    """A graph of an exported program, whose file says types and shapes."""
    importlib.import_module("torch.export")
    program = torch.export.load(file)
    if device != "cpu":
        moving = importlib.import_module("torch.export.passes")
        program = moving.move_to_device_pass(program, device)
    types = {getattr(torch, name): key for key, name in _TYPE_NAMES.items()}
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    signature = program.graph_signature
    specs = []
    for names in (signature.user_inputs, signature.user_outputs):
        found = []
        for name in names:
            value = values.get(name)
            if not isinstance(value, torch.Tensor):
                raise WasiNnError(
                    ErrorKind.UNSUPPORTED_OPERATION,
                    f"the program takes or gives {name}, which is no tensor",
                )
            shape = tuple(size if isinstance(size, int) else None for size in value.shape)
            found.append(TensorSpec(name, types.get(value.dtype), shape, str(value.dtype)))
        specs.append(tuple(found))
    return _TorchGraph(
        torch,
        program.module(),
        device,
        *specs,
        call=lambda module, given: module(*given),
        writes_inputs=bool(signature.user_inputs_to_mutate),
        writes_state=bool(signature.buffers_to_mutate),
    )


def _flat(value: Any) -> Iterator[Any]:
    """What a model returns, one after the other: the leaves of tuples, lists and dictionaries."""
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        for inner in value:
            yield from _flat(inner)
    else:
        yield value


def _mapped(torch: Any, error: Exception, doing: str) -> Exception:
    """The one place where PyTorch's exceptions become the interface's."""
    if isinstance(error, (WasiNnError, MemoryError)):
        return error
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines)
    if text.startswith("The following operation failed in the TorchScript interpreter"):
        text = lines[-1]  # the rest is the model's code
    kind = ErrorKind.RUNTIME_ERROR
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text:
        kind = ErrorKind.TOO_LARGE
    elif doing == "loading":
        kind = ErrorKind.INVALID_ENCODING
    return WasiNnError(kind, f"PyTorch, while {doing}: {text[:1000]}")


def _doubling() -> bytes:
    """A TorchScript archive of y = x + x."""
    code = (
        b"class M(Module):\n  __parameters__ = []\n  __buffers__ = []\n  training : bool\n"
        b"  def forward(self: __torch__.M,\n    x: Tensor) -> Tensor:\n    return torch.add(x, x)\n"
    )
    pickled = b"\x80\x02c__torch__\nM\nq\x00)\x81}(X\x08\x00\x00\x00trainingq\x01\x89ub."
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in (
            ("data.pkl", pickled),
            ("code/__torch__.py", code),
            ("constants.pkl", b"\x80\x02)."),
            ("version", b"3\n"),
            ("byteorder", b"little"),
        ):
            archive.writestr(zipfile.ZipInfo(f"double/{name}"), data)
    return file.getvalue()
