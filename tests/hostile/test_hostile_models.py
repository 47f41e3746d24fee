"""Models that mean harm, of every format, from a guest: refused with a number, and that is all.

Each case is a process without isolation, in a folder whose files the models name. Formats that no
installed backend reads are refused as such; what reads them is tried as soon as it is installed.
"""

from __future__ import annotations

import io
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import pytest
from onnx import TensorProto, helper

from tests.backends.onnx_models import doubling, model_of, value
from tests.backends.tflite_models import Op, T, packed, schema
from tests.backends.tflite_models import doubling as tflite_doubling
from tests.backends.tflite_models import model_of as tflite_model_of
from tests.hostile.child import Canaries, run_case
from tests.nn.pass_through import EPHEMERAL, PassThrough, module_of
from wasinn_host.host import Host

OPENVINO, ONNX, TENSORFLOW, PYTORCH, TFLITE, AUTODETECT, GGML = range(7)
BAD_ARGUMENT, BAD_ENCODING, RUNTIME_ERROR, UNSUPPORTED, TOO_LARGE = 1, 2, 5, 6, 7
REFUSED = {BAD_ARGUMENT, BAD_ENCODING, UNSUPPORTED, TOO_LARGE}
MIB = 1 << 20


@contextmanager
def a_guest() -> Iterator[PassThrough]:
    """Of a host with all installed backends."""
    # One thread each: what broke its memory ends, where several may wait for one another.
    with Host(backend_options={"onnx": {"threads": "1"}, "tflite": {"threads": "1"}}) as host:
        nn = PassThrough(host.open(module_of(EPHEMERAL, pages=1024)))
        yield nn
        # It is as well as before.
        nn.rewind()
        context = nn.open(doubling())
        assert nn.set_input(context, 1, (1,), struct.pack("<f", 21)) == 0
        assert nn.call("compute", context) == 0
        assert nn.get_output(context, 4) == (0, struct.pack("<f", 42))
        nn.guest.close()


def refuse_all(
    models: Iterable[tuple[bytes, ...]], encoding: int, numbers: set[int] = REFUSED
) -> None:
    with a_guest() as nn:
        for number, parts in enumerate(models):
            for each in (encoding, AUTODETECT, GGML):
                nn.rewind()
                errno = nn.load(*parts, encoding=each)
                assert errno in numbers, (number, each, errno, nn.error)
                assert len(nn.error) < 2000


# --- ONNX -----------------------------------------------------------------------------------------


def _with_external(entries: dict[str, str]) -> bytes:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2])
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in entries.items():
        tensor.external_data.add(key=key, value=text)
    node = helper.make_node("Add", ["x", "w"], ["y"])
    return model_of([node], [value("x", [2])], [value("y", [2])], tensors=[tensor])


def external_data() -> None:
    places = (
        *(
            "weights.bin",
            "./weights.bin",
            "hardlink.bin",
            "link",
            "below/secret",
            "below/../secret",
        ),
        *("../canaries/secret", "/etc/passwd", "file:///etc/passwd", "/proc/self/mem", "/dev/zero"),
        *("*/_ORT_MEM_ADDR_/*", "", "a\0b", "x" * 5000, "\\\\server\\share", "C:\\secret"),
    )
    ranges: tuple[dict[str, str], ...] = (
        {"offset": "0", "length": "8"},
        {"offset": str((1 << 64) - 4), "length": "12"},
        {"offset": "-1", "length": "-1"},
        {"__class__": "x", "__dict__": "y", "basepath": "/"},
    )
    models = [(_with_external({"location": p, **r}),) for p in places for r in ranges]
    refuse_all(models, ONNX, {UNSUPPORTED, BAD_ENCODING})


def _field(number: int, content: bytes) -> bytes:
    size, length = bytearray(), len(content)
    while length > 127:
        size.append(length & 127 | 128)
        length >>= 7
    return bytes([number << 3 | 2, *size, length]) + content


def onnx_structure() -> None:
    head = b"\x08\x09"
    deep = b""
    for _ in range(20_000):
        deep = _field(1, _field(5, _field(6, deep)))
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    calls_itself = helper.make_function(
        "f", "F", ["a"], ["b"], [helper.make_node("F", ["a"], ["b"], domain="f")], opset
    )
    huge = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 62], raw_data=b"1234")
    empty = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 40, 1 << 40, 0])
    inputs, outputs = [value("x")], [value("y")]
    add = helper.make_node("Add", ["x", "w"], ["y"])
    models = (
        head + b"\x3a\xff\xff\xff\xff\x07",
        head + b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        head + _field(7, _field(1, b"\x22\x01X") * 1_000_000),
        head + _field(7, deep),
        head + b"\x1b" * 100_000,
        model_of([add], inputs, outputs, tensors=[huge]),
        model_of([add], inputs, outputs, tensors=[empty]),
        model_of([helper.make_node("Evil", ["x"], ["y"], domain="com.evil")], inputs, outputs),
        model_of(
            [helper.make_node("F", ["x"], ["y"], domain="f")],
            inputs,
            outputs,
            functions=[calls_itself],
            domains=["f"],
        ),
        model_of([helper.make_node("Neg", ["y"], ["y"])], inputs, outputs),
        doubling()[:-1],
        doubling() * 1000,
    )
    refuse_all([(model,) for model in models], ONNX)


def onnx_computations() -> None:
    """Models that load, and then want more than there is."""
    wanted = {
        "Split": ([1 << 62], "s"),
        "Expand": ([1 << 50], "s"),
        "Tile": ([1 << 40], "s"),
        "Reshape": ([1 << 62, 1 << 62], "s"),
        "Gather": ([1 << 40], "s"),
        "Pad": ([1 << 36, 1 << 36], "s"),
    }
    with a_guest() as nn:
        for operator, (numbers, name) in wanted.items():
            nn.rewind()
            tensor = TensorProto(
                name=name, data_type=TensorProto.INT64, dims=[len(numbers)], int64_data=numbers
            )
            node = helper.make_node(operator, ["x", name], ["y"])
            model = model_of([node], [value("x")], [value("y", None)], tensors=[tensor])
            errno = nn.load(model)
            if errno == 0:
                context = nn.init(nn.result) or nn.result
                assert nn.set_input(context, 1, (2,), bytes(8)) == 0
                errno = nn.call("compute", context)
            assert errno in {RUNTIME_ERROR, *REFUSED}, operator


# --- TensorFlow Lite ------------------------------------------------------------------------------


def tflite() -> None:
    whole = struct.pack("<I4s", 24, b"TFL3") + bytes(range(256)) * 16
    models = [b"\x18\0\0\0TFL3"]
    models += [whole[: len(whole) * part // 16] for part in range(1, 16)]
    models += [
        struct.pack("<I", root & 0xFFFF_FFFF) + whole[4:]
        for root in (0, 1, 3, 5, 7, 8, len(whole) - 3, len(whole), -1, -8, 1 << 31)
    ]
    # A table whose fields all point far away, each vector longer than the file.
    table = struct.pack("<HH14H", 32, 60, *range(4, 60, 4)) + struct.pack("<i", 32)
    for far in (0xFFFF_FFFF, 0x7FFF_FFFF, 4, 0):
        models.append(
            struct.pack("<I4s", 40, b"TFL3") + table + struct.pack("<I", far) * 14 + bytes(64)
        )
    real = tflite_doubling()
    models += [real[: len(real) * part // 16] for part in range(1, 16)]
    for root in (0, 2, 3, 26, len(real) - 4, len(real), 1 << 31):
        models.append(struct.pack("<I", root) + real[4:])
    refuse_all([(model,) for model in models], TFLITE)


def tflite_that_breaks_the_library() -> None:
    """A model that passes the look, and writes past a tensor of another type in the computation."""
    code = schema.BuiltinOperator.SOFTMAX
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    tensors = [T("x", (4, 1, 5, 50)), T("y", (4, 1, 5, 50), schema.TensorType.BOOL)]
    model = packed(tflite_model_of(tensors, [0], [1], [Op(code, [0], [1], options)]))
    with a_guest() as nn:
        for _ in range(5):
            nn.rewind()
            context = nn.open(model, encoding=TFLITE)
            assert nn.set_input(context, 1, (4, 1, 5, 50), bytes(4000)) == 0
            assert nn.call("compute", context) in (0, RUNTIME_ERROR)


# --- OpenVINO -------------------------------------------------------------------------------------

IR = """<?xml version="1.0"?>{doctype}
<net name="m" version="{version}"><layers>
<layer id="0" name="x" type="Parameter" version="opset1"><data shape="2" element_type="f32"/>
<output><port id="0" precision="FP32"><dim>2</dim></port></output></layer>
<layer id="1" name="w" type="Const" version="{opset}">
<data element_type="f32" shape="{shape}" offset="{offset}" size="{size}"/>
<output><port id="0" precision="FP32"><dim>2</dim></port></output></layer>
<layer id="2" name="add" type="{type}" version="{opset}"><data auto_broadcast="numpy"/>
<input><port id="0"><dim>2</dim></port><port id="1"><dim>2</dim></port></input>
<output><port id="2" precision="FP32"><dim>2</dim></port></output></layer>
<layer id="3" name="y" type="Result" version="opset1">
<input><port id="0"><dim>2</dim></port></input></layer></layers>
<edges><edge from-layer="0" from-port="0" to-layer="2" to-port="0"/>
<edge from-layer="1" from-port="0" to-layer="2" to-port="1"/>
<edge from-layer="2" from-port="2" to-layer="3" to-port="0"/></edges>{more}</net>"""


def _ir(**changes: object) -> bytes:
    plain = {"doctype": "", "version": "11", "opset": "opset1", "type": "Add", "more": ""}
    data = {"shape": "2", "offset": "0", "size": "8"}
    return IR.format(**{**plain, **data, **changes}).encode()


def openvino() -> None:
    laughs = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(30))
    bomb = f'<!DOCTYPE net [<!ENTITY l0 "ha">{laughs}]>'
    reads = (
        '<!DOCTYPE net [<!ENTITY s SYSTEM "secret"><!ENTITY % t SYSTEM "file:///etc/passwd">%t;]>'
    )
    weights = struct.pack("<2f", 1, 2)
    texts = (
        _ir(offset=(1 << 64) - 50, size=100),
        _ir(offset=(1 << 64) - 4, size=8),
        _ir(offset=1, size=8),
        _ir(offset=0, size=1 << 40),
        _ir(offset=-1, size=-1),
        _ir(shape=",".join(["4294967295"] * 8)),
        _ir(shape="-1"),
        _ir(opset="opset999"),
        _ir(type="Evil"),
        _ir(version="99"),
        _ir(doctype=bomb, more="&l30;"),
        _ir(doctype=reads, more="&s;"),
        _ir(more="<a>" * 100_000),
        _ir()[:-100],
        b"<?xml",
        b"<net/>",
        b"<net>" + b"\xff" * 1000,
    )
    models: list[tuple[bytes, ...]] = [(text, weights) for text in texts]
    models += [(_ir(), weights[:7]), (weights, _ir()[:-9]), (_ir(), weights, weights)]
    refuse_all([*models, *((text,) for text in texts)], OPENVINO)


# --- GGUF -----------------------------------------------------------------------------------------


def _gguf(metadata: bytes = b"", keys: int = 0, tensors: bytes = b"", count: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, count, keys) + metadata + tensors + bytes(512)


def _text(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _shaped(*dims: int, kind: int = 0, offset: int = 0, rank: int = -1) -> bytes:
    given = struct.pack(f"<{len(dims)}Q", *dims)
    stated = len(dims) if rank < 0 else rank
    return _text(b"t") + struct.pack("<I", stated) + given + struct.pack("<IQ", kind, offset)


def gguf() -> None:
    top32, top64 = (1 << 32) - 1, (1 << 64) - 1
    name = _text(b"general.architecture") + struct.pack("<I", 8) + _text(b"llama")
    blocks = _text(b"llama.block_count") + struct.pack("<II", 4, 1 << 30)
    models = [
        b"GGUF",
        _gguf(keys=top64),
        _gguf(count=top64),
        _gguf(_text(b""), 1),
        _gguf(struct.pack("<Q", top64), 1),
        _gguf(_text(b"k") + struct.pack("<I", 99), 1),
        # An array of arrays of arrays, and arrays of more elements than there are bytes.
        _gguf(_text(b"k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 10_000, 1),
        _gguf(_text(b"k") + struct.pack("<IIQ", 9, 0, top64), 1),
        _gguf(_text(b"k") + struct.pack("<IIQ", 9, 8, 1 << 61), 1),
        _gguf(_text(b"k") + struct.pack("<IIQ", 9, 77, 3), 1),
        _gguf(name + blocks, 2),
        _gguf(name + name, 2),
        *(
            _gguf(name, 1, tensor, 1)
            for tensor in (
                _shaped(0),
                _shaped(0, 5),
                _shaped(1 << 63, 2),
                _shaped(1 << 32, 1 << 32),
                _shaped(1, 1, 1, 1, 1),
                _shaped(2, rank=top32),
                _shaped(2, kind=top32),
                _shaped(2, offset=top64 - 3),
                _shaped(2, offset=1 << 40),
                _shaped(2, offset=1),
            )
        ),
        b"GGUF" + struct.pack("<IQQ", top32, 0, 0),
        b"FUGG" + bytes(100),
    ]
    refuse_all([(model,) for model in models], GGML)


# --- PyTorch --------------------------------------------------------------------------------------


class _Touches:
    """Unpickled, it would leave a file."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("pwned", "w")


def _archive(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as made:
        for name, content in files.items():
            made.writestr(f"archive/{name}", content)
    return out.getvalue()


def pickles() -> None:
    evil = [pickle.dumps(_Touches(), protocol) for protocol in range(6)]
    by_name = b"cos\nsystem\n(S'touch pwned'\ntR."
    weights_only = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(U\x05touchtR."
    plain = {"version": b"3\n", "constants.pkl": b"\x80\x02).", "code/__torch__.py": b""}
    code = b"class M(Module):\n  def forward(self: __torch__.M, x: Tensor) -> Tensor:\n    return "
    models = [
        *evil,
        by_name,
        *(_archive({**plain, "data.pkl": each}) for each in (*evil, by_name, weights_only)),
        *(_archive({**plain, "data.pkl": b"\x80\x02N.", "constants.pkl": each}) for each in evil),
        _archive({"data.pkl": evil[2]}),
        _archive({**plain, "data.pkl": b"\x80\x02N."}, zipfile.ZIP_DEFLATED)[:-10],
        *(
            _archive(
                {
                    **plain,
                    "data.pkl": b"\x80\x02c__torch__\nM\n)\x81}b.",
                    "code/__torch__.py": code + call + b"\n",
                }
            )
            for call in (
                b'torch.from_file("secret", False, 4, dtype=0)',
                b'torch.save(x, "pwned")',
                b"ops.aten.from_file('secret', False, 4)",
            )
        ),
        _archive({**plain, "data.pkl": bytes(64 * MIB)}, zipfile.ZIP_DEFLATED),
        _archive({f"{n}": b"" for n in range(20_000)}),
        _archive({"../../pwned": b"x", "/pwned": b"x", **plain, "data.pkl": b"\x80\x02N."}),
    ]
    refuse_all([(model,) for model in models], PYTORCH)


def other_formats() -> None:
    """What no encoding is, or another one than is said."""
    header = b'{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    safetensors = struct.pack("<Q", len(header)) + header + bytes(8)
    saved_model = b"\x08\x01" + _field(2, _field(1, b"serve")) + bytes(50)
    texts = (safetensors, saved_model, b"", b"\0", b"\xff" * MIB, b"PK\3\4" + bytes(100))
    for encoding in (OPENVINO, ONNX, TENSORFLOW, PYTORCH, TFLITE):
        refuse_all([(text,) for text in texts], encoding)
    refuse_all([(doubling(),)], TFLITE, {0, *REFUSED})


def onnx() -> None:
    onnx_structure()
    onnx_computations()


def formats() -> None:
    """All of these in one process: each asks every backend, and importing those takes long."""
    for models in (tflite, tflite_that_breaks_the_library, openvino, gguf, pickles, other_formats):
        print(models.__name__, file=sys.stderr, flush=True)
        models()


@pytest.mark.parametrize("case", [external_data, onnx, formats], ids=lambda c: c.__name__)
def test_a_model_that_means_harm(canaries: Canaries, case: Callable[[], None]) -> None:
    run_case(case, canaries)
