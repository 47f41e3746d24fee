"""Looks through an ONNX model from a guest before ONNX Runtime does. Not a validator of ONNX.

A scan of the protobuf wire format, without decoding the model: it refuses what could make the
host's process read files, overflow its stack or allocate without bound, and leaves everything else
(operators, types, shapes) to ONNX Runtime. Nothing is copied; tensors' bytes are skipped.

Refused, each with the reason:

- external data in any tensor, wherever it sits, whatever location it names. That includes the
  marker by which ONNX Runtime takes a "location" for an address in its own memory.
- nodes that refer to files or to prebuilt engines (``EPContext``);
- model-local functions that call themselves, nest too deep, or expand to too many nodes;
- graphs in graphs, messages in messages, or nodes beyond the limits below;
- initializers whose dimensions promise more than their bytes hold;
- a message field given twice where one is allowed: protobuf merges those, so each half could look
  harmless.

Source: onnx.proto (field numbers), protobuf encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from wasinn_host.nn.plugin import ErrorKind, WasiNnError

__all__ = ["preflight"]

MAX_DEPTH: Final = 16
"""Graphs nested in attributes. ONNX Runtime's protobuf parser gives up at about 33."""

MAX_NODES: Final = 200_000
"""Nodes, also after functions are expanded. The largest published models have some 50,000."""

MAX_FUNCTION_DEPTH: Final = 64
"""Model-local functions calling each other; they are inlined recursively."""

MAX_FIELDS: Final = 4_000_000
"""Protobuf fields visited, which bounds the time this scan takes (about a microsecond each)."""

_MAX_ELEMENTS: Final = 1 << 62

_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5

# Field numbers, by message. What is not named here is skipped.
_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 20, 25
_TRAINING_GRAPHS = (1, 2)
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_OP_TYPE, _NODE_ATTRIBUTE, _NODE_DOMAIN, _NODE_OVERLOAD = 4, 5, 7, 8
_ATTRIBUTE_T, _ATTRIBUTE_G, _ATTRIBUTE_SPARSE = 5, 6, 22
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSES = 10, 11, 23
_SPARSE_VALUES, _SPARSE_INDICES = 1, 2
_TENSOR_DIMS, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 1, 13, 14
_FUNCTION_NAME, _FUNCTION_NODE, _FUNCTION_DOMAIN = 1, 7, 10
_FUNCTION_ATTRIBUTE, _FUNCTION_OVERLOAD = 11, 13

_FunctionId = tuple[bytes, bytes, bytes]


def preflight(model: bytes) -> None:
    """Accepts a model or says why it is refused.

    Args:
        model: a serialized ModelProto.

    Raises:
        WasiNnError: ``invalid_encoding`` when the bytes are no ONNX protobuf,
            ``unsupported_operation`` for what must not come from a guest, ``too_large`` beyond
            the limits.
    """
    _Scan(model).model()


class _Scan:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._fields_left = MAX_FIELDS
        self._nodes = 0
        # Per function: the operators of its nodes, which may be functions again.
        self._functions: dict[_FunctionId, list[_FunctionId]] = {}

    def model(self) -> None:
        functions: list[tuple[int, int]] = []
        graphs: list[tuple[int, int]] = []
        trainings: list[tuple[int, int]] = []
        for field, _value, start, end in self._messages(0, len(self._data), "the model"):
            if field == _MODEL_GRAPH:
                graphs.append((start, end))
            elif field == _MODEL_FUNCTIONS:
                functions.append((start, end))
            elif field == _MODEL_TRAINING:
                trainings.append((start, end))
        if not graphs:
            raise _not_onnx("the model has no graph")
        _only_one(graphs, "ModelProto.graph")
        for start, end in functions:
            self._function(start, end)
        main: list[_FunctionId] = []
        self._graph(*graphs[0], 1, main)
        for start, end in trainings:
            for field, _value, inner, stop in self._messages(start, end, "training info"):
                if field in _TRAINING_GRAPHS:
                    self._graph(inner, stop, 1, main)
        self._check_expansion(main)

    def _graph(self, start: int, end: int, depth: int, calls: list[_FunctionId]) -> None:
        if depth > MAX_DEPTH:
            raise _too_large(f"graphs are nested more than {MAX_DEPTH} deep")
        for field, _value, inner, stop in self._messages(start, end, "a graph"):
            if field == _GRAPH_NODE:
                self._node(inner, stop, depth, calls)
            elif field == _GRAPH_INITIALIZER:
                self._tensor(inner, stop)
            elif field == _GRAPH_SPARSE:
                self._sparse(inner, stop)

    def _node(self, start: int, end: int, depth: int, calls: list[_FunctionId]) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _too_large(f"the model has more than {MAX_NODES} nodes")
        op_type = domain = overload = b""
        for field, _value, inner, stop in self._messages(start, end, "a node"):
            if field == _NODE_ATTRIBUTE:
                self._attribute(inner, stop, depth, calls)
            elif field == _NODE_OP_TYPE:
                op_type = self._data[inner:stop]
            elif field == _NODE_DOMAIN:
                domain = self._data[inner:stop]
            elif field == _NODE_OVERLOAD:
                overload = self._data[inner:stop]
        if op_type == b"EPContext":
            raise _refused("EPContext nodes, which refer to files or compiled engines")
        calls.append((domain, op_type, overload))

    def _attribute(self, start: int, end: int, depth: int, calls: list[_FunctionId]) -> None:
        single: list[int] = []
        for field, _value, inner, stop in self._messages(start, end, "an attribute"):
            if field in (_ATTRIBUTE_T, _ATTRIBUTE_G, _ATTRIBUTE_SPARSE):
                if field in single:
                    raise _not_onnx("an attribute gives one value twice")
                single.append(field)
            if field in (_ATTRIBUTE_T, _ATTRIBUTE_TENSORS):
                self._tensor(inner, stop)
            elif field in (_ATTRIBUTE_G, _ATTRIBUTE_GRAPHS):
                self._graph(inner, stop, depth + 1, calls)
            elif field in (_ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES):
                self._sparse(inner, stop)

    def _sparse(self, start: int, end: int) -> None:
        seen: list[int] = []
        for field, _value, inner, stop in self._messages(start, end, "a sparse tensor"):
            if field in (_SPARSE_VALUES, _SPARSE_INDICES):
                if field in seen:
                    raise _not_onnx("a sparse tensor gives one part twice")
                seen.append(field)
                self._tensor(inner, stop)

    def _tensor(self, start: int, end: int) -> None:
        elements = 1
        for field, value, inner, stop in self._fields(start, end, "a tensor"):
            if field == _TENSOR_EXTERNAL or (field == _TENSOR_LOCATION and value != 0):
                raise _refused("a tensor with external data; put the data into the model")
            if field != _TENSOR_DIMS:
                continue
            if value is not None:
                elements = _times(elements, value)
                continue
            position = inner  # packed: one length, then varints
            while position < stop:
                value, position = self._varint(position, stop)
                elements = _times(elements, value)
        # The densest types hold four elements a byte; eight leaves room for denser ones.
        if elements > 8 * (end - start):
            raise _not_onnx(
                f"a tensor's dimensions promise {elements} elements, "
                f"its {end - start} bytes can not hold them"
            )

    def _function(self, start: int, end: int) -> None:
        name = domain = overload = b""
        calls: list[_FunctionId] = []
        for field, _value, inner, stop in self._messages(start, end, "a function"):
            if field == _FUNCTION_NAME:
                name = self._data[inner:stop]
            elif field == _FUNCTION_DOMAIN:
                domain = self._data[inner:stop]
            elif field == _FUNCTION_OVERLOAD:
                overload = self._data[inner:stop]
            elif field == _FUNCTION_NODE:
                self._node(inner, stop, 1, calls)
            elif field == _FUNCTION_ATTRIBUTE:
                self._attribute(inner, stop, 1, calls)
        if (domain, name, overload) in self._functions:
            raise _not_onnx(f"function {name.decode('utf-8', 'replace')} is defined twice")
        self._functions[domain, name, overload] = calls

    def _check_expansion(self, main: list[_FunctionId]) -> None:
        """Sizes of functions after expansion, callees first, without recursion of our own.

        Raises:
            WasiNnError: a function reaches itself, or the model grows beyond `MAX_NODES`.
        """
        if not self._functions:
            return
        sizes: dict[_FunctionId, int] = {}
        depths: dict[_FunctionId, int] = {}
        for root in self._functions:
            open_calls: set[_FunctionId] = set()
            pending: list[tuple[_FunctionId, bool]] = [(root, False)]
            while pending:
                current, is_done = pending.pop()
                name = current[1].decode("utf-8", "replace")
                if is_done:
                    open_calls.remove(current)
                    callees = self._functions[current]
                    sizes[current] = 1 + sum(sizes.get(callee, 1) for callee in callees)
                    depths[current] = 1 + max((depths.get(c, 0) for c in callees), default=0)
                    if sizes[current] > MAX_NODES:
                        raise _too_large(f"function {name} expands to over {MAX_NODES} nodes")
                    if depths[current] > MAX_FUNCTION_DEPTH:
                        raise _too_large(f"functions call over {MAX_FUNCTION_DEPTH} deep ({name})")
                elif current in open_calls:
                    raise _refused(f"a function that calls itself: {name}")
                elif current not in sizes:
                    open_calls.add(current)
                    pending.append((current, True))
                    known = dict.fromkeys(self._functions[current])
                    pending.extend((c, False) for c in known if c in self._functions)
        total = sum(sizes.get(call, 1) for call in main)
        if total > MAX_NODES:
            raise _too_large(f"functions expand the model to {total} nodes, over {MAX_NODES}")

    def _messages(
        self, start: int, end: int, what: str
    ) -> Iterator[tuple[int, int | None, int, int]]:
        """Those fields of a message that have a length: bytes, text and messages."""
        return (entry for entry in self._fields(start, end, what) if entry[1] is None)

    def _fields(
        self, start: int, end: int, what: str
    ) -> Iterator[tuple[int, int | None, int, int]]:
        """Walks one message's fields.

        Yields:
            field number, then the value and (0, 0) for a varint, or None and where the payload
            starts and ends.
        """
        position = start
        data = self._data
        while position < end:
            self._fields_left -= 1
            if self._fields_left < 0:
                raise _too_large(f"the model has more than {MAX_FIELDS} fields")
            tag = data[position]
            if tag < 0x80:
                position += 1
            else:
                tag, after = self._varint(position, end)
                # Parsers differ in what they make of longer ones: this must not be ambiguous.
                if tag > 0xFFFF_FFFF or after - position > 5:
                    raise _not_onnx(f"{what} has an overlong field number")
                position = after
            field, wire = tag >> 3, tag & 7
            if field == 0:
                raise _not_onnx(f"{what} has a field without a number")
            if wire == _LEN:
                length, position = self._varint(position, end)
                if length > end - position:
                    raise _not_onnx(f"{what} is cut off: field {field} says {length} bytes")
                yield field, None, position, position + length
                position += length
            elif wire == _VARINT:
                value, position = self._varint(position, end)
                yield field, value, 0, 0
            elif wire in (_I64, _I32):
                position += 8 if wire == _I64 else 4
                if position > end:
                    raise _not_onnx(f"{what} is cut off in field {field}")
            else:
                raise _not_onnx(f"{what} has a field of wire type {wire}")

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        data = self._data
        value = shift = 0
        while position < end:
            byte = data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF, position
            shift += 7
            if shift >= 70:
                break
        raise _not_onnx("a number is cut off or too long")


def _times(elements: int, size: int) -> int:
    """A stored tensor's number of elements with one dimension more; sizes are int64."""
    if size >> 63:
        raise _not_onnx("a tensor has a negative dimension")
    if elements * size > _MAX_ELEMENTS:
        raise _not_onnx("a tensor's dimensions multiply to more than 2**62 elements")
    return elements * size


def _only_one(found: list[tuple[int, int]], what: str) -> None:
    if len(found) > 1:
        raise _not_onnx(f"{what} is given {len(found)} times")


def _not_onnx(reason: str) -> WasiNnError:
    return WasiNnError(ErrorKind.INVALID_ENCODING, f"not a usable ONNX model: {reason}")


def _refused(what: str) -> WasiNnError:
    return WasiNnError(
        ErrorKind.UNSUPPORTED_OPERATION, f"ONNX models from guests must not contain {what}"
    )


def _too_large(reason: str) -> WasiNnError:
    return WasiNnError(ErrorKind.TOO_LARGE, f"ONNX model refused: {reason}")
