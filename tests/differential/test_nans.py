"""Each instruction whose NaN may be any of several gives the canonical one once rewritten."""

from __future__ import annotations

import pytest
import wasmtime

from tests.differential.nans import SHAPE_OF_NANS, canonical_nans
from tests.differential.players import WasmtimePlayer
from wasinn_runtime.spec.features import ALL_FEATURES
from wasinn_runtime.spec.opcodes import Opcode
from wasinn_runtime.spec.types import ValType

# NaNs with the sign set, and with payloads.
_OPERANDS = {
    ValType.F32: "(f32.const -nan:0x7ffeff)",
    ValType.F64: "(f64.const -nan:0xfffdfffffffff)",
    ValType.V128: "(v128.const {} {})",
}
_LANES = {"f32x4": "-nan:0x7ffeff 1 -nan:0x600001 -nan", "f64x2": "-nan:0xfffdfffffffff 1"}
_NAN_OF_WIDTH = {32: 0x7FC00000, 64: 0x7FF8 << 48}


def _loads(shape: str) -> tuple[str, int]:
    """Loads of each lane's bits, and a lane's width."""
    width = 64 if "64" in shape else 32
    count = 128 // width if "x" in shape else 1
    loads = (f"(i{width}.load (i32.const {n * width // 8}))" for n in range(count))
    return " ".join(loads), width


@pytest.mark.parametrize(("row", "shape"), SHAPE_OF_NANS.items(), ids=str)
def test_nans_become_canonical(row: Opcode, shape: str) -> None:
    assert row.params is not None
    # Of the operands, which have another shape where the width changes.
    lanes = {"demote": "f64x2", "promote": "f32x4"}.get(
        row.name.partition(".")[2].split("_")[0], shape
    )
    operands = [_OPERANDS[ty].format(lanes, _LANES.get(lanes)) for ty in row.params]
    loads, width = _loads(shape)
    count = loads.count("load")
    ty = "v128" if "x" in shape else shape
    text = f"""
      (module (memory 1)
        (func (export "bits") (param f32) (result {f"i{width} " * count}) (local i64)
          ({ty}.store (i32.const 0) ({row.name} {" ".join(operands)})) {loads}))"""
    data = canonical_nans(bytes(wasmtime.wat2wasm(text)), ALL_FEATURES)
    engine = WasmtimePlayer.engine(canonical=False)
    store = wasmtime.Store(engine)
    store.set_fuel(1000)
    instance = wasmtime.Instance(store, wasmtime.Module(engine, data), [])
    function = instance.exports(store)["bits"]
    assert isinstance(function, wasmtime.Func)
    got = function(store, 0.0)
    bits = [value % (1 << width) for value in (got if isinstance(got, list) else [got])]
    assert bits[0] == _NAN_OF_WIDTH[width]
    assert {value for value in bits if _is_nan(value, width)} == {_NAN_OF_WIDTH[width]}


def _is_nan(bits: int, width: int) -> bool:
    fraction = 23 if width == 32 else 52
    infinity = (1 << width - 1) - (1 << fraction)
    return bits % (1 << width - 1) > infinity
