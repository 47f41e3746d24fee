"""Looks through a TFLite model from a guest before TFLite does. Not a validator of TFLite.

TFLite verifies the flatbuffer (that every offset leads to something within the file), and trusts
much of what it finds there. This is a walk of the same tables, without decoding the weights; it
refuses what could make the host's process read outside of the model, write to it, or never end,
and leaves what operators mean to TFLite.

Refused, each with the reason:

- operators that are not in the list below: a model's own ones, those with strings, hash tables or
  variables of the process, and those of which only a converter's intermediate forms are made;
- operators with more or fewer inputs and outputs than they take, or without one they must have;
- numbers of 4, 8 or 16 bits that an operator computes with, and no scale, or one out of reason;
- weights that lie in other files or behind the flatbuffer, and sparse weights;
- constants whose bytes are not what type and shape take; tensors of 2 GiB;
- operators that read what nothing computed before, or write a constant, an input, or what another
  operator wrote;
- graphs that call themselves.

Sources: TFLite's schema.fbs (field numbers), the flatbuffers encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Final

from wasinn_backends.tflite_operators import CUSTOM, OPERATORS, Operator
from wasinn_host.nn.plugin import ErrorKind, WasiNnError

__all__ = ["preflight"]

MAX_OPERATORS: Final = 100_000
MAX_TENSORS: Final = 400_000
MAX_SUBGRAPHS: Final = 1_000
MAX_RANK: Final = 8
MAX_TENSOR_BYTES: Final = (1 << 31) - 1
"""TFLite's operators compute places in a tensor with 32 bits."""

_WIDTHS: Final = {
    element_type: bits
    for bits, element_types in (
        (128, (11,)),
        (64, (4, 8, 10, 12)),
        (32, (0, 2, 15)),
        (16, (1, 7, 16, 18)),
        (8, (3, 6, 9, 21, 22)),
        (4, (17, 20)),
        (2, (19,)),
    )
    for element_type in element_types
}
"""Bits of an element. Not here: strings (5), resources (13) and variants (14)."""

_QUANTISED: Final[Mapping[int, tuple[int, int]]] = {
    3: (0, 255),
    7: (-(1 << 15), (1 << 15) - 1),
    9: (-128, 127),
    17: (-8, 7),
}
"""Element types that stand for other numbers, where there is a scale; the zero points they have."""

_SCALES: Final = (1e-12, 1e12)

# Field numbers, by table. What is not named here is skipped.
_MODEL_OPERATOR_CODES, _MODEL_SUBGRAPHS, _MODEL_BUFFERS, _MODEL_SIGNATURES = 1, 2, 4, 7
_MODEL_EXTERNAL = (8, 9)
_CODE_DEPRECATED, _CODE_BUILTIN = 0, 3
_GRAPH_TENSORS, _GRAPH_INPUTS, _GRAPH_OUTPUTS, _GRAPH_OPERATORS = 0, 1, 2, 3
_BUFFER_DATA, _BUFFER_OFFSET, _BUFFER_SIZE = 0, 1, 2
_TENSOR_SHAPE, _TENSOR_TYPE, _TENSOR_BUFFER, _TENSOR_NAME, _TENSOR_QUANTIZATION = 0, 1, 2, 3, 4
_TENSOR_VARIABLE, _TENSOR_SPARSITY, _TENSOR_SIGNATURE = 5, 6, 7
_TENSOR_VARIANTS, _TENSOR_EXTERNAL = 9, 10
_QUANTIZATION_SCALE, _QUANTIZATION_ZERO_POINT, _QUANTIZATION_DIMENSION = 2, 3, 6
_QUANTIZATION_DETAILS_TYPE = 4
_OPERATOR_CODE, _OPERATOR_INPUTS, _OPERATOR_OUTPUTS, _OPERATOR_INTERMEDIATES = 0, 1, 2, 8
_OPERATOR_OPTIONS_TYPE, _OPERATOR_OPTIONS, _OPERATOR_OPTIONS_2 = 3, 4, 12
_OPTIONS_GRAPHS, _OPTIONS_COUNT = (0, 1), 0
_OPERATOR_LARGE_OPTIONS = 9
_SIGNATURE_MAPS, _SIGNATURE_GRAPH, _MAP_TENSOR = (0, 1), 4, 1


def preflight(model: bytes) -> None:
    """Accepts a model or says why it is refused.

    Args:
        model: a flatbuffer with the identifier ``TFL3``.

    Raises:
        WasiNnError: ``invalid_encoding`` when the bytes are no TFLite model or contradict
            themselves, ``unsupported_operation`` for what must not come from a guest,
            ``too_large`` beyond the limits.
    """
    try:
        _Scan(model).model()
    except (struct.error, IndexError) as error:
        raise _not_tflite("an offset leads out of it") from error


class _Table:
    """A flatbuffers table: its fields by number. Reading outside of the data raises."""

    def __init__(self, data: bytes, at: int) -> None:
        vtable = at - _number(data, "<i", at)
        self._data = data
        self._at = at
        size, own_bytes = _number(data, "<H", vtable), _number(data, "<H", vtable + 2)
        if size < 4 or size % 2 or own_bytes < 4 or at + own_bytes > len(data):
            raise IndexError(at)
        self._fields = struct.unpack_from(f"<{size // 2 - 2}H", data, vtable + 4)
        if max(self._fields, default=0) >= own_bytes:  # also of fields that are not read here
            raise IndexError(at)

    def _place(self, field: int) -> int:
        """Where a field lies; 0 for one that is not there."""
        offset: int = self._fields[field] if field < len(self._fields) else 0
        return self._at + offset if offset else 0

    def has(self, field: int) -> bool:
        return self._place(field) != 0

    def number(self, field: int, form: str = "<i", default: int = 0) -> int:
        place = self._place(field)
        return _number(self._data, form, place) if place else default

    def _pointed(self, field: int) -> int:
        place = self._place(field)
        return place + _number(self._data, "<I", place) if place else 0

    def table(self, field: int) -> _Table | None:
        place = self._pointed(field)
        return _Table(self._data, place) if place else None

    def vector(self, field: int, item_bytes: int) -> tuple[int, int]:
        """Where a vector's items begin, and how many there are; ``(0, 0)`` for none."""
        place = self._pointed(field)
        if not place:
            return 0, 0
        count = _number(self._data, "<I", place)
        if place + 4 + count * item_bytes > len(self._data):
            raise _not_tflite(f"a vector of {count} items reaches past its end")
        return place + 4, count

    def numbers(self, field: int, form: str = "i") -> tuple[int, ...]:
        start, count = self.vector(field, struct.calcsize(f"<{form}"))
        return struct.unpack_from(f"<{count}{form}", self._data, start) if count else ()

    def tables(self, field: int, most: int, what: str) -> Iterator[_Table]:
        start, count = self.vector(field, 4)
        if count > most:
            raise _too_large(f"it has {count} {what}, more than {most}")
        for at in range(start, start + 4 * count, 4):
            yield _Table(self._data, at + _number(self._data, "<I", at))

    def text(self, field: int) -> str:
        start, count = self.vector(field, 1)
        try:
            return self._data[start : start + count].decode()
        except UnicodeDecodeError as error:
            raise _not_tflite(f"a name is no UTF-8: {error}") from error


class _Scan:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._codes: list[int] = []
        self._buffers: list[int] = []
        self._operators_left = MAX_OPERATORS
        self._tensors_left = MAX_TENSORS

    def model(self) -> None:
        data = self._data
        if data[4:8] != b"TFL3":
            raise _not_tflite("the identifier TFL3 is not there")
        model = _Table(data, _number(data, "<I", 0))
        if any(model.vector(field, 4)[1] for field in _MODEL_EXTERNAL):
            raise _refused("weights in other files")
        for code in model.tables(_MODEL_OPERATOR_CODES, MAX_OPERATORS, "operator codes"):
            # Older models know the first of the two alone, which ends at 127.
            first, second = code.number(_CODE_DEPRECATED, "<b"), code.number(_CODE_BUILTIN)
            self._codes.append(max(first, second))
        for buffer in model.tables(_MODEL_BUFFERS, MAX_TENSORS, "buffers"):
            if buffer.number(_BUFFER_OFFSET, "<Q") or buffer.number(_BUFFER_SIZE, "<Q"):
                raise _refused("weights behind the flatbuffer")
            self._buffers.append(buffer.vector(_BUFFER_DATA, 1)[1])
        subgraphs = list(model.tables(_MODEL_SUBGRAPHS, MAX_SUBGRAPHS, "graphs"))
        if not subgraphs:
            raise _not_tflite("it has no graph")
        graphs = [_Subgraph(self, index, table) for index, table in enumerate(subgraphs)]
        _check_calls([graph.calls for graph in graphs])
        for signature in model.tables(_MODEL_SIGNATURES, MAX_SUBGRAPHS, "signatures"):
            of = signature.number(_SIGNATURE_GRAPH, "<I")
            if of >= len(graphs):
                raise _not_tflite(f"a signature is of graph {of}; there are {len(graphs)}")
            for field in _SIGNATURE_MAPS:
                for entry in signature.tables(field, MAX_TENSORS, "named tensors"):
                    graphs[of].check_number(entry.number(_MAP_TENSOR, "<I"), "a signature")

    def tensor(self, tensor: _Table, what: str) -> bool:
        """Checks a tensor; whether it is a constant."""
        self._tensors_left -= 1
        if self._tensors_left < 0:
            raise _too_large(f"it has more than {MAX_TENSORS} tensors")
        if tensor.has(_TENSOR_SPARSITY):
            raise _refused(f"{what} is sparse")
        if tensor.has(_TENSOR_VARIANTS) or tensor.number(_TENSOR_EXTERNAL, "<I"):
            raise _refused(f"{what} is a variant or lies in another file")
        tensor.text(_TENSOR_NAME)
        element_type = tensor.number(_TENSOR_TYPE, "<b")
        bits = _WIDTHS.get(element_type)
        if bits is None:
            raise _refused(f"{what} has elements of type {element_type}, strings or resources")
        shape = tensor.numbers(_TENSOR_SHAPE)
        elements = _elements(shape, what)
        size_bytes = (elements * bits + 7) // 8
        if size_bytes > MAX_TENSOR_BYTES:
            raise _too_large(f"{what} of shape {list(shape)} takes {size_bytes} bytes")
        signature = tensor.numbers(_TENSOR_SIGNATURE)
        if signature and (
            len(signature) != len(shape)
            or any(s not in (-1, d) for s, d in zip(signature, shape, strict=True))
        ):
            raise _not_tflite(f"{what} has shape {list(shape)} and signature {list(signature)}")
        quantization = tensor.table(_TENSOR_QUANTIZATION)
        if quantization is not None:
            _check_quantization(quantization, element_type, shape, what)
        buffer = tensor.number(_TENSOR_BUFFER, "<I")
        if buffer >= len(self._buffers):
            raise _not_tflite(f"{what} has buffer {buffer}; there are {len(self._buffers)}")
        given = self._buffers[buffer]
        if not given:
            return False
        if tensor.number(_TENSOR_VARIABLE, "<b"):
            raise _not_tflite(f"{what} is a variable and a constant")
        if given != size_bytes:
            raise _not_tflite(
                f"{what} of shape {list(shape)} takes {size_bytes} bytes, its buffer has {given}"
            )
        return True

    def code(self, number: int, what: str) -> int:
        """The operator that a node's number stands for."""
        self._operators_left -= 1
        if self._operators_left < 0:
            raise _too_large(f"it has more than {MAX_OPERATORS} operators")
        if number >= len(self._codes):
            raise _not_tflite(f"{what} has code {number}; there are {len(self._codes)}")
        return self._codes[number]


class _Subgraph:
    """One graph: its tensors, and the order in which they are computed."""

    def __init__(self, scan: _Scan, index: int, table: _Table) -> None:
        self._scan = scan
        self._name = f"graph {index}"
        self.calls: list[int] = []
        constants: set[int] = set()
        self._given: set[int] = set()
        """Tensors that there is something in, at the operator that is looked at."""
        self._bare: set[int] = set()
        """Tensors of small integers that do not say what they stand for."""
        self._count = table.vector(_GRAPH_TENSORS, 4)[1]
        for number, tensor in enumerate(table.tables(_GRAPH_TENSORS, MAX_TENSORS, "tensors")):
            if scan.tensor(tensor, f"tensor {number} of {self._name}"):
                constants.add(number)
            elif tensor.number(_TENSOR_VARIABLE, "<b") or 0 in tensor.numbers(_TENSOR_SHAPE):
                self._given.add(number)
            if tensor.number(_TENSOR_TYPE, "<b") in _QUANTISED and not _is_scaled(tensor):
                self._bare.add(number)
        inputs = table.numbers(_GRAPH_INPUTS)
        for number in inputs:
            self.check_number(number, "an input")
            if number in constants:
                raise _not_tflite(f"input tensor {number} of {self._name} is a constant")
        self._fixed = constants | set(inputs)
        """What no operator may write."""
        self._given |= self._fixed
        operators = table.tables(_GRAPH_OPERATORS, MAX_OPERATORS, "operators")
        for number, operator in enumerate(operators):
            self._operator(operator, f"operator {number} of {self._name}")
        for number in table.numbers(_GRAPH_OUTPUTS):
            self.check_number(number, "an output")
            self._check_given(number, f"output tensor {number}")

    def check_number(self, number: int, what: str) -> None:
        if not 0 <= number < self._count:
            raise _not_tflite(f"{what} of {self._name} is tensor {number}; there are {self._count}")

    def _check_given(self, number: int, what: str) -> None:
        if number not in self._given:
            raise _not_tflite(f"{what} of {self._name} is read, and nothing computes it before")

    def _operator(self, operator: _Table, what: str) -> None:
        code = self._scan.code(operator.number(_OPERATOR_CODE, "<I"), what)
        inputs = operator.numbers(_OPERATOR_INPUTS)
        outputs = operator.numbers(_OPERATOR_OUTPUTS)
        row = _row(code, len(inputs), len(outputs), what)
        what = f"{what} ({row.name})"
        if operator.number(_OPERATOR_LARGE_OPTIONS, "<Q"):
            raise _refused("options behind the flatbuffer")
        for place, number in enumerate(inputs):
            if number == -1 and row.optional_from is not None and place >= row.optional_from:
                continue
            self.check_number(number, f"input {place} of {what}, which must be there,")
            self._check_given(number, f"tensor {number}")
        for number in operator.numbers(_OPERATOR_INTERMEDIATES):
            if number != -1:
                self.check_number(number, f"an intermediate of {what}")
        for number in outputs:
            self.check_number(number, f"an output of {what}")
            if number in self._fixed:
                raise _not_tflite(f"{what} writes tensor {number}, which is not its to write")
            self._fixed.add(number)
            self._given.add(number)
        if not row.moves and (bare := self._bare.intersection((*inputs, *outputs))):
            raise _not_tflite(f"{what} computes with tensor {min(bare)}, which has no scale")
        for field in (_OPERATOR_OPTIONS, _OPERATOR_OPTIONS_2):
            operator.table(field)  # whole, whatever is in it
        if row.graphs_in is not None:
            options = _options(operator, row.graphs_in, what)
            self.calls += [options.number(field) for field in _OPTIONS_GRAPHS]
        elif row.counted_in is not None:
            count = _options(operator, row.counted_in, what).number(_OPTIONS_COUNT)
            if count != len(outputs):
                raise _not_tflite(f"{what} has {len(outputs)} outputs, and says {count}")


def _options(operator: _Table, member: int, what: str) -> _Table:
    options = operator.table(_OPERATOR_OPTIONS)
    if options is None or operator.number(_OPERATOR_OPTIONS_TYPE, "<B") != member:
        raise _not_tflite(f"{what} lacks its options, or has another operator's")
    return options


def _row(code: int, inputs: int, outputs: int, what: str) -> Operator:
    """What is known of an operator, if it may be there, with so many inputs and outputs."""
    row = OPERATORS.get(code)
    if row is None:
        named = "an operator of its own (CUSTOM)" if code == CUSTOM else f"of kind {code}"
        raise _refused(f"{what} is {named}")
    for kind, count, (least, most) in (
        ("inputs", inputs, row.inputs),
        ("outputs", outputs, row.outputs),
    ):
        if not least <= count <= most:
            raise _not_tflite(f"{what} ({row.name}) has {count} {kind}, expected {least} to {most}")
    return row


def _check_calls(calls: list[list[int]]) -> None:
    """Raises unless each graph runs only graphs of the model, and none itself again."""
    for caller, called in enumerate(calls):
        for number in called:
            if not 0 <= number < len(calls):
                raise _not_tflite(
                    f"graph {caller} runs graph {number}; there are {len(calls)} graphs"
                )
    # Those that run only graphs which are known to end, over and over: what stays runs itself.
    left = set(range(len(calls)))
    while ending := {graph for graph in left if not left.intersection(calls[graph])}:
        left -= ending
    if left:
        raise _not_tflite(f"graph {min(left)} runs itself")


def _elements(shape: tuple[int, ...], what: str) -> int:
    if len(shape) > MAX_RANK:
        raise _too_large(f"{what} has {len(shape)} dimensions, more than {MAX_RANK}")
    elements = 1
    for size in shape:
        if size < 0:
            raise _not_tflite(f"{what} has shape {list(shape)}")
        elements *= size
    return elements


def _is_scaled(tensor: _Table) -> bool:
    quantization = tensor.table(_TENSOR_QUANTIZATION)
    return quantization is not None and quantization.vector(_QUANTIZATION_SCALE, 4)[1] > 0


def _check_quantization(
    quantization: _Table, element_type: int, shape: tuple[int, ...], what: str
) -> None:
    """Raises unless there is one scale, or one for each part along a dimension."""
    if quantization.number(_QUANTIZATION_DETAILS_TYPE, "<B"):
        raise _refused(f"{what} is quantised in a way of its own")
    scales = quantization.numbers(_QUANTIZATION_SCALE, "f")
    zero_points = quantization.numbers(_QUANTIZATION_ZERO_POINT, "q")
    if len(scales) != len(zero_points) and zero_points and scales:
        raise _not_tflite(f"{what} has {len(scales)} scales and {len(zero_points)} zero points")
    along = quantization.number(_QUANTIZATION_DIMENSION)
    if len(scales) > 1 and not (0 <= along < len(shape) and shape[along] == len(scales)):
        raise _not_tflite(f"{what} of shape {list(shape)} has {len(scales)} scales along {along}")
    for scale in scales:
        if not _SCALES[0] <= scale <= _SCALES[1]:  # nor NaN
            raise _not_tflite(f"{what} has the scale {scale}")
    least, most = _QUANTISED.get(element_type, (-(1 << 31), (1 << 31) - 1))
    for zero_point in zero_points:
        if not least <= zero_point <= most:
            raise _not_tflite(f"{what} has the zero point {zero_point}")


def _number(data: bytes, form: str, at: int) -> int:
    if at < 0:  # which would count from the end
        raise IndexError(at)
    number: int = struct.unpack_from(form, data, at)[0]
    return number


def _not_tflite(reason: str) -> WasiNnError:
    return WasiNnError(ErrorKind.INVALID_ENCODING, f"not a usable TFLite model: {reason}")


def _refused(reason: str) -> WasiNnError:
    return WasiNnError(
        ErrorKind.UNSUPPORTED_OPERATION,
        f"refused from guests: {reason}; the host's user can name such a model as a file",
    )


def _too_large(reason: str) -> WasiNnError:
    return WasiNnError(ErrorKind.TOO_LARGE, f"the TFLite model is too large: {reason}")
