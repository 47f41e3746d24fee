"""What the look at a guest's TFLite model refuses, and that it takes what it should."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.backends.tflite_models import INT8, Op, T, add, doubling, model_of, packed, schema
from wasinn_backends.tflite_operators import OPERATORS
from wasinn_backends.tflite_preflight import preflight
from wasinn_host.nn.errors import WasiNnError
from wasinn_host.nn.plugin import ErrorKind

B, TYPES = schema.BuiltinOperator, schema.TensorType
FLOATS = np.arange(3, dtype="<f4").tobytes()


def plain() -> Any:
    """z = (x + w) + (x + w), of three floats."""
    tensors = [T("x", (3,)), T("w", (3,), data=FLOATS), T("y", (3,)), T("z", (3,))]
    return model_of(tensors, [0], [3], [add([0, 1], 2), add([2, 2], 3)])


def whole(code: int, count_in: int = 1, options: Any = None, count_out: int = 1) -> Any:
    """A model of one operator."""
    tensors = [T(f"t{number}", (3,)) for number in range(count_in + count_out)]
    outputs = range(count_in, count_in + count_out)
    return model_of(
        tensors, range(count_in), outputs, [Op(code, range(count_in), outputs, options)]
    )


def spoilt(change: Callable[[Any], object]) -> Any:
    model = plain()
    change(model)
    return model


def tensor(model: Any, number: int) -> Any:
    return model.subgraphs[0].tensors[number]


def operator(model: Any, number: int) -> Any:
    return model.subgraphs[0].operators[number]


def put(owner: Any, **values: Any) -> None:
    for name, value in values.items():
        assert hasattr(owner, name)
        setattr(owner, name, value)


def quantised(scale: list[float], zero_point: list[int], along: int = 0) -> Any:
    made = schema.QuantizationParametersT()
    made.scale, made.zeroPoint, made.quantizedDimension = scale, zero_point, along
    return made


def looping(*called: int) -> Any:
    """Graphs in a row, of which each runs the one that is named for it, by an IF."""
    model = plain()
    options = schema.IfOptionsT()
    code = schema.OperatorCodeT()
    code.builtinCode, code.version = B.IF, 1
    code.deprecatedBuiltinCode = B.IF
    model.operatorCodes.append(code)
    graphs = []
    for number in called:
        graph = plain().subgraphs[0]
        options = schema.IfOptionsT()
        options.thenSubgraphIndex = options.elseSubgraphIndex = number
        choose = schema.OperatorT()
        choose.opcodeIndex = len(model.operatorCodes) - 1
        choose.inputs, choose.outputs = [0], [3]
        choose.builtinOptionsType, choose.builtinOptions = schema.BuiltinOptions.IfOptions, options
        graph.operators = [choose]
        graphs.append(graph)
    model.subgraphs = [*graphs, plain().subgraphs[0]]
    return model


def external() -> Any:
    model = plain()
    model.externalBufferGroups = [schema.ExternalBufferGroupT()]
    model.externalBufferGroups[0].name = "/etc/passwd"
    return model


SPOILT: dict[str, tuple[Any, str]] = {
    "CUSTOM": (whole(B.CUSTOM), "an operator of its own"),
    "CALL_ONCE": (whole(B.CALL_ONCE), "of kind 129"),
    "FAKE_QUANT": (whole(B.FAKE_QUANT), "of kind 80"),
    "STABLEHLO_ADD": (whole(B.STABLEHLO_ADD, 2), "refused from guests: operator 0 of graph 0 is"),
    "too few inputs": (whole(B.ADD), "(ADD) has 1 inputs, expected 2 to 2"),
    "too many inputs": (whole(B.ABS, 2), "has 2 inputs"),
    "outputs that the options deny": (
        whole(B.UNPACK, 1, schema.UnpackOptionsT(), 2),
        "has 2 outputs, and says 0",
    ),
    "no options": (whole(B.UNPACK), "lacks its options"),
    "no output": (
        spoilt(lambda m: put(operator(m, 0), outputs=[])),
        "has 0 outputs",
    ),
    "no operator code": (spoilt(lambda m: put(operator(m, 0), opcodeIndex=9)), "has code 9; there"),
    "input past the end": (spoilt(lambda m: put(operator(m, 0), inputs=[0, 99])), "is tensor 99"),
    "missing input": (spoilt(lambda m: put(operator(m, 0), inputs=[0, -1])), "must be there, of"),
    "output past the end": (spoilt(lambda m: put(operator(m, 0), outputs=[4])), "is tensor 4; the"),
    "output before the start": (spoilt(lambda m: put(operator(m, 0), outputs=[-2])), "tensor -2"),
    "reads what comes later": (
        spoilt(lambda m: put(operator(m, 0), inputs=[3, 3])),
        "nothing comp",
    ),
    "reads its own output": (
        spoilt(lambda m: put(operator(m, 0), inputs=[2, 2])),
        "nothing comput",
    ),
    "writes a constant": (spoilt(lambda m: put(operator(m, 0), outputs=[1])), "not its to write"),
    "writes an input": (spoilt(lambda m: put(operator(m, 0), outputs=[0])), "not its to write"),
    "written twice": (spoilt(lambda m: put(operator(m, 1), outputs=[2])), "not its to write"),
    "intermediate": (spoilt(lambda m: put(operator(m, 0), intermediates=[77])), "is tensor 77"),
    "constant input": (spoilt(lambda m: put(m.subgraphs[0], inputs=[1])), "is a constant"),
    "input of no tensor": (spoilt(lambda m: put(m.subgraphs[0], inputs=[-1])), "is tensor -1"),
    "output of no tensor": (spoilt(lambda m: put(m.subgraphs[0], outputs=[4])), "is tensor 4"),
    "output of nothing": (spoilt(lambda m: put(m.subgraphs[0], operators=[])), "nothing computes"),
    "no graph": (spoilt(lambda m: put(m, subgraphs=[])), "it has no graph"),
    "no buffer": (spoilt(lambda m: put(tensor(m, 0), buffer=7)), "has buffer 7; there are 2"),
    "short constant": (
        spoilt(lambda m: put(m.buffers[1], data=[1, 2, 3])),
        "takes 12 bytes, its b",
    ),
    "large constant": (
        spoilt(lambda m: put(tensor(m, 1), shape=[1 << 20])),
        "takes 4194304 bytes, its buffer has 12",
    ),
    "weights behind": (
        spoilt(lambda m: put(m.buffers[1], offset=8, size=12)),
        "behind the flatbuf",
    ),
    "weights elsewhere": (external(), "weights in other files"),
    "external tensor": (spoilt(lambda m: put(tensor(m, 1), externalBuffer=1)), "in another file"),
    "sparse": (
        spoilt(lambda m: put(tensor(m, 1), sparsity=schema.SparsityParametersT())),
        "is sparse",
    ),
    "strings": (spoilt(lambda m: put(tensor(m, 0), type=TYPES.STRING)), "elements of type 5"),
    "resources": (spoilt(lambda m: put(tensor(m, 0), type=TYPES.RESOURCE)), "elements of type 13"),
    "negative size": (spoilt(lambda m: put(tensor(m, 0), shape=[-3])), "has shape [-3]"),
    "overflowing size": (
        spoilt(lambda m: put(tensor(m, 0), shape=[1 << 30, 1 << 30, 1 << 30])),
        "too large",
    ),
    "2 GiB": (spoilt(lambda m: put(tensor(m, 0), shape=[1 << 29])), "takes 2147483648 bytes"),
    "many dimensions": (spoilt(lambda m: put(tensor(m, 0), shape=[1] * 9)), "has 9 dimensions"),
    "signature of another rank": (
        spoilt(lambda m: put(tensor(m, 0), shapeSignature=[-1, 3])),
        "and signature [-1, 3]",
    ),
    "variable and constant": (
        spoilt(lambda m: put(tensor(m, 1), isVariable=True)),
        "is a variable and a constant",
    ),
    "scales of no dimension": (
        spoilt(lambda m: put(tensor(m, 1), quantization=quantised([1, 1], [0, 0], 5))),
        "has 2 scales along 5",
    ),
    "zero points": (
        spoilt(lambda m: put(tensor(m, 1), quantization=quantised([1], [0, 0, 0]))),
        "1 scales and 3 zero points",
    ),
    "scale of nothing": (
        spoilt(lambda m: put(tensor(m, 1), quantization=quantised([0.0], [0]))),
        "has the scale 0.0",
    ),
    "scale that is no number": (
        spoilt(lambda m: put(tensor(m, 1), quantization=quantised([float("nan")], [0]))),
        "has the scale nan",
    ),
    "zero point out of the type": (
        model_of([T("x", (3,), INT8, scale=1, zero_point=200), T("y", (3,))], [0], [0], []),
        "has the zero point 200",
    ),
    "bytes without a scale": (
        model_of([T("x", (3,), INT8), T("y", (3,), INT8)], [0], [1], [add([0, 0], 1)]),
        "computes with tensor 0, which has no scale",
    ),
    "graph that runs itself": (looping(0), "graph 0 runs itself"),
    "graphs that run one another": (looping(1, 2, 0), "runs itself"),
    "graph that is not there": (looping(9), "runs graph 9; there are 2"),
    "options of another operator": (whole(B.IF, 1, schema.AddOptionsT()), "or has another operat"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_it_refuses(name: str) -> None:
    model, words = SPOILT[name]
    with pytest.raises(WasiNnError) as raised:
        preflight(packed(model))
    assert words in raised.value.message
    assert raised.value.kind in (
        ErrorKind.INVALID_ENCODING,
        ErrorKind.UNSUPPORTED_OPERATION,
        ErrorKind.TOO_LARGE,
    )


def test_a_signature_of_tensors_that_are_not_there() -> None:
    model = plain()
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serve", 0
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = "x", 44
    signature.inputs, signature.outputs = [entry], []
    model.signatureDefs = [signature]
    with pytest.raises(WasiNnError, match="a signature of graph 0 is tensor 44"):
        preflight(packed(model))
    entry.tensorIndex, signature.subgraphIndex = 0, 3
    with pytest.raises(WasiNnError, match="a signature is of graph 3; there are 1"):
        preflight(packed(model))


def test_it_takes_what_is_whole() -> None:
    preflight(packed(plain()))
    preflight(packed(looping(1, 2, 3)))
    preflight(doubling())
    no_bias = model_of(
        [T("x", (1, 3)), T("w", (1, 3), data=FLOATS), T("y", (1, 1))],
        [0],
        [2],
        [Op(B.FULLY_CONNECTED, [0, 1, -1], [2], schema.FullyConnectedOptionsT())],
    )
    preflight(packed(no_bias))
    moved = model_of([T("x", (3,), INT8), T("y", (3,), INT8)], [0], [1], [Op(B.RESHAPE, [0], [1])])
    preflight(packed(moved))


def test_every_cut_and_every_wrong_offset_is_an_error_of_ours() -> None:
    model = packed(plain())
    for end in range(len(model)):
        with pytest.raises(WasiNnError):
            preflight(model[:end])
    for at in range(0, len(model) - 3, 4):
        for wrong in (0, 1, 3, len(model), 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFC, 0xFFFF_FFFF):
            changed = model[:at] + struct.pack("<I", wrong) + model[at + 4 :]
            with contextlib.suppress(WasiNnError):  # and nothing else
                preflight(changed)


def test_a_vector_of_many_is_counted_before_it_is_walked() -> None:
    model = plain()
    model.subgraphs = [schema.SubGraphT() for _ in range(2000)]
    with pytest.raises(WasiNnError, match="it has 2000 graphs, more than 1000") as raised:
        preflight(packed(model))
    assert raised.value.kind is ErrorKind.TOO_LARGE


def test_the_table_names_operators_of_the_schema() -> None:
    for code, row in OPERATORS.items():
        assert getattr(B, row.name) == code
        for member in (row.counted_in, row.graphs_in):
            name = row.name.replace("_", "").lower() + "options"
            members = {word.lower(): number for word, number in vars(schema.BuiltinOptions).items()}
            assert member is None or members[name] == member
    names = {row.name for row in OPERATORS.values()}
    words = ("HASHTABLE", "VAR", "CALL", "CUSTOM", "STABLEHLO", "SPARSE", "DELEGATE")
    assert {name for name in names if any(w in name for w in words)} == {"SPARSE_TO_DENSE"}
