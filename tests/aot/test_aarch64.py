"""Code for aarch64: disassembled and looked at, and run with the real core under an emulator."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from tests.aot.aot_images import facts_of, image_of, module_of, sections_of
from wasinn_runtime import Engine, Instance, Module, Store, Trap
from wasinn_runtime.abi.layout import (
    Activation,
    CodeEntry,
    FuncRef,
    MemoryDef,
    StoreContext,
    VMContext,
)
from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.binary.module import SegmentMode
from wasinn_runtime.engines.link import Image, link
from wasinn_runtime.engines.llvm import target_for, to_object
from wasinn_runtime.engines.targets import ARCHITECTURES
from wasinn_runtime.lower.core import CORE_SYMBOLS, RUNTIME_SYMBOLS, core_unit
from wasinn_runtime.lower.outline import escaping_functions, layout_of, trampoline_names
from wasinn_runtime.lower.units import trampoline_unit
from wasinn_runtime.spec.traps import TrapCode
from wasinn_runtime.spec.types import FuncType, ValType

HERE = Path(__file__).resolve().parent
KERNELS = HERE.parents[1] / "benchmarks" / "kernels"
_UNARY = FuncType((ValType.I32,), (ValType.I32,))
_WIDE = 150


def _wide() -> str:
    """Frames of many KiB: results that do not fit in registers, several times over."""
    results = " ".join(["i64"] * _WIDE)
    values = "\n".join(
        f"(i64.extend_i32_u (i32.xor (local.get 0) (i32.const {i})))" for i in range(_WIDE)
    )
    use = (
        "(call $many (local.get 0))" + "i64.add " * (_WIDE - 1) + "local.get 1 i64.add local.set 1 "
    )
    return f"""
      (func $many (param i32) (result {results}) {values})
      (func $deep (export "deep") (param i32) (result i32) (local i64)
        {use * 12}
        (if (result i32) (i32.eqz (local.get 0))
          (then (i32.wrap_i64 (local.get 1)))
          (else (i32.add (i32.wrap_i64 (local.get 1))
            (call $deep (i32.sub (local.get 0) (i32.const 1)))))))"""


GUEST = f"""
(module
  (type $unary (func (param i32) (result i32)))
  (memory (export "memory") 1 2)
  (data (i32.const 16) "\\2a\\00\\00\\00\\ff\\00\\00\\80")
  (func $down (export "down") (param i32) (result i32)
    (if (result i32) (i32.eqz (local.get 0))
      (then (i32.const 0))
      (else (i32.add (i32.const 1) (call $down (i32.sub (local.get 0) (i32.const 1)))))))
  (func (export "divide") (param i32) (result i32) (i32.div_s (i32.const 100) (local.get 0)))
  (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
  (func (export "narrow") (param i32) (result i32)
    (i32.add (i32.load8_s (local.get 0)) (i32.load16_u offset=2 (local.get 0))))
  (func (export "size") (param i32) (result i32) (i32.add (local.get 0) (memory.size)))
  (func (export "leaf") (param i32) (result i32) (i32.rotl (local.get 0) (i32.const 7)))
  (func (export "switch") (param i32) (result i32)
    (block $d (block $c (block $b (block $a
      (br_table $a $b $c $a $b $c $d (local.get 0)))
      (return (i32.load (i32.const 16))))
      (return (i32.const 20)))
      (return (call $down (i32.const 5))))
    (i32.const 43))
  (func (export "float") (param i32) (result i32)
    (i32.trunc_f64_s (f64.mul
      (f64.nearest (f64.div (f64.convert_i32_s (local.get 0)) (f64.const 3))) (f64.const 1.5))))
  {_wide()})
"""
CALLS = [
    *[("down", n) for n in (0, 1, 500, 10_000_000, 3)],
    *[("divide", n) for n in (7, 0, -1)],
    *[("load", n) for n in (16, 20, 65532, 65536, 1 << 20, -4)],
    *[("narrow", n) for n in (16, 20, 65533)],
    ("size", 1),
    *[("leaf", n) for n in (1, -2)],
    *[("switch", n) for n in (0, 1, 2, 3, 6, 99)],
    *[("float", n) for n in (7, -7, 2_000_000_000)],
    *[("deep", n) for n in (0, 1, 3, 100_000, 2)],
]


def _image(data: bytes, tmp: Path) -> Image:
    """The code section of a file, as the linker made it."""
    from wasinn_runtime.engines.aot_compile import AotOptions, compile_image

    image = bytes(compile_image(data, "guest.wasm", AotOptions(target="aarch64-linux-gnu")).image)
    facts, sections = facts_of(image), sections_of(image)
    made = Image(ARCHITECTURES["aarch64"].machine, bytearray(sections["code"]))
    made.parts = [(at, size, protection) for at, size, protection in facts.parts]
    made.words = list(memoryview(sections["words"]).cast("I"))
    made.imports = [(at, name, addend) for at, name, addend in facts.imports]
    cells = list(memoryview(sections["functions"]).cast("I"))
    count = len(cells) // 3
    made.functions = [
        (cells[i], cells[count + i], f"f{cells[2 * count + i]}") for i in range(count)
    ]
    for number in range(len(escaping_functions(decode(data)))):
        made.exports[f"entry{number}"] = facts.entries + 8 * number
    return made


# --- disassembled ---------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["guest", "sha256", "bytecode", "fft", "hello"])
def test_disassembly(source: str, tmp_path: Path) -> None:
    """Every instruction is one; each function's check covers its frame; calls end where code is."""
    capstone = pytest.importorskip("capstone", reason="capstone is not installed")
    paths = {"hello": HERE.parents[1] / "examples" / "hello" / "hello.wasm"}
    data = module_of(GUEST) if source == "guest" else b""
    image = _image(data or paths.get(source, KERNELS / f"{source}.wasm").read_bytes(), tmp_path)
    decoder = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN)
    starts = {at for at, _, _ in image.functions}
    end = max(at + size for at, size, _ in image.functions)
    checked = 0
    for at, size, name in image.functions:
        code = bytes(image.memory[at : at + size])
        listing = list(decoder.disasm(code, at))
        assert len(listing) * 4 == size, f"{name}: bytes that are no instruction"
        text = [(i.mnemonic, i.op_str) for i in listing]
        frame = sum(_lowers(mnemonic, operands) for mnemonic, operands in text)
        if text[0][0] == "b":
            assert listing[0].op_str == f"#{at + 24:#x}"
            assert frame == 0, name
        else:
            assert text[:2] == [("mrs", "x16, tpidr_el0"), ("ldr", "x16, [x16, #8]")]
            assert text[3:5] == [("cmp", "x17, x16"), ("b.hs", f"#{at + 24:#x}")]
            assert text[5][0] == "bl"
            bound = _immediate(text[2][1])
            assert frame <= bound <= frame + 4096, (name, frame, bound)
            checked += 1
        for instruction in listing:
            if instruction.mnemonic == "bl":
                target = int(instruction.op_str[1:], 0)
                # A function of the module, or a stub after them all.
                assert target in starts or end <= target < image.parts[0][1], name
    assert checked or source == "bytecode"  # one function, which calls none


def _lowers(mnemonic: str, operands: str) -> int:
    """By how much an instruction lowers the stack pointer."""
    if mnemonic in ("stp", "str") and "[sp, #-" in operands and operands.endswith("]!"):
        return int(operands.rpartition("#-")[2][:-2], 0)
    if mnemonic == "sub" and operands.startswith("sp, sp, #"):
        return _immediate(operands)
    return 0


def _immediate(operands: str) -> int:
    number, _, shift = operands.partition("#")[2].partition(", lsl #")
    return int(number, 0) << int(shift or 0)


# --- run ------------------------------------------------------------------------------------------


Run = Callable[[bytes, Sequence[tuple[str, int]]], list[str]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs calls of a module's exports with one i32 parameter, in a process for aarch64."""
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if emulator is None:
        pytest.skip("qemu-user is not installed")
    pytest.importorskip("ziglang", reason="ziglang is not installed")
    place = tmp_path_factory.mktemp("aarch64")
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl", "-O1"]
    harness = place / "harness"
    subprocess.run([*zig, "-static", "-o", harness, HERE / "arm_harness.c"], check=True)
    target = target_for(ARCHITECTURES["aarch64"], "generic")

    # LLVM here has no assembler for another CPU, and the core has lines of assembly.
    text = f'target triple = "{target.triple}"\n{core_unit(16, 440, "aarch64")}'
    (place / "core.ll").write_text(text)
    flags: list[str | Path] = ["-fPIC", "-Wno-override-module", "-c", "-o", place / "core.o"]
    subprocess.run([*zig, *flags, place / "core.ll"], check=True)
    core = link([(place / "core.o").read_bytes()], CORE_SYMBOLS)
    names = trampoline_names(_UNARY)
    adapters = link([to_object(trampoline_unit([_UNARY], "aarch64"), target, 2)], names)

    def run(data: bytes, calls: Sequence[tuple[str, int]]) -> list[str]:
        plan = _plan(place, "core", core)
        plan += _plan(place, "adapters", adapters, {names[0]: "enter"})
        plan += _plan(place, "guest", _image(data, place))
        plan += _instance(place, data)
        (place / "plan").write_text("\n".join(plan) + "\n")
        parsed = decode(data)
        numbers = {e.name: escaping_functions(parsed).index(e.index) for e in parsed.exports
                   if e.kind.value == "func"}  # fmt: skip
        words = [w for name, n in calls for w in (f"entry{numbers[name]}", str(n & 0xFFFFFFFF))]
        done = subprocess.run(
            [emulator, harness, place / "plan", *words],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
        return done.stdout.splitlines()

    return run


def _plan(
    place: Path, name: str, image: Image, renamed: Mapping[str, str] | None = None
) -> list[str]:
    path = place / f"{name}.bin"
    path.write_bytes(image.memory)
    lines = [f"image {path} {len(image.memory)}"]
    lines += [f"word {at}" for at in image.words]
    lines += [f"import {at} {symbol}" for at, symbol, _ in image.imports]
    lines += [f"part {at} {size} {bits}" for at, size, bits in image.parts]
    lines += [f"export {(renamed or {}).get(n, n)} {at}" for n, at in image.exports.items()]
    return lines


def _instance(place: Path, data: bytes) -> list[str]:
    """What Python sets up of a store, and of an instance with a memory, here for the harness."""
    parsed = decode(data)
    layout = layout_of(parsed)
    assert StoreContext.BYTES <= 1 << 16  # as large as the harness has it
    lines = [
        f"fact STACK_BUDGET {StoreContext.STACK_BUDGET}",
        f"fact budget {256 << 10}",
        f"fact ENTRY {FuncRef.ENTRY}",
        f"fact CONTEXT {FuncRef.CONTEXT}",
        f"fact ARRAY {FuncRef.ARRAY}",
        f"fact SLOTS {Activation.SLOTS}",
        f"fact TRAP_CODE {Activation.TRAP_CODE}",
        f"fact TRAP_PC {Activation.TRAP_PC}",
        f"point vm {VMContext.STORE} store 0",
        f"cell entry {CodeEntry.INDEX} 0",
    ]
    if parsed.memories:
        least = parsed.memories[0].limits.min << 16
        lines.append(f"memory {8 << 30} {least}")
        definition = layout.total_bytes + 64
        lines += [
            f"point vm {layout.memory(0) + VMContext.RESOURCE_BASE} memory 0",
            f"point vm {layout.memory(0) + VMContext.RESOURCE_DEF} vm {definition}",
            f"point vm {definition + MemoryDef.BASE} memory 0",
            f"cell vm {definition + MemoryDef.BYTE_LENGTH} {least}",
        ]
        for number, segment in enumerate(parsed.data_segments):
            assert segment.mode is SegmentMode.ACTIVE
            (_, at, _), = segment.at  # fmt: skip
            path = place / f"data{number}.bin"
            path.write_bytes(data[segment.start : segment.end])
            lines.append(f"data {at} {path} {segment.end - segment.start}")
    return lines


def _expected(data: bytes, calls: Sequence[tuple[str, int]]) -> list[str]:
    engine = Engine()
    instance = Instance(Store(engine), Module(engine, data))
    seen = []
    codes = {code.text: code.value for code in TrapCode}
    for name, argument in calls:
        try:
            seen.append(str(instance.exports[name](argument) & 0xFFFFFFFF))  # type: ignore[operator]
        except Trap as trap:
            seen.append(f"trap {codes[trap.code]}")
    return seen


def test_guest_functions_run_and_trap(run: Run) -> None:
    data = module_of(GUEST)
    seen = [line.partition(" at ")[0] for line in run(data, CALLS)]
    assert seen == _expected(data, CALLS)
    assert f"trap {TrapCode.CALL_STACK_EXHAUSTED.value}" in seen


def test_traps_lie_in_the_functions_that_trapped(run: Run, tmp_path: Path) -> None:
    data = module_of(GUEST)
    image = _image(data, tmp_path)
    numbers = {"down": 0, "divide": 1, "load": 2, "deep": 9}
    for name, argument in (("down", 1 << 30), ("divide", 0), ("load", -4), ("deep", 1 << 20)):
        (line,) = run(data, [(name, argument)])
        pc = int(line.rpartition(" ")[2])
        inside = [symbol for at, size, symbol in image.functions if at <= pc < at + size]
        assert inside == [f"f{numbers[name]}"], (name, line)


@pytest.mark.parametrize("name", ["fib", "crc32", "sieve", "quicksort", "matmul"])
def test_kernels_run(run: Run, name: str) -> None:
    data = (KERNELS / f"{name}.wasm").read_bytes()
    calls = [("run", 3), ("run", 12)]
    assert run(data, calls) == _expected(data, calls)


def test_the_runtime_symbols_are_all_in_the_core() -> None:
    assert set(RUNTIME_SYMBOLS) <= set(CORE_SYMBOLS)
    assert facts_of(image_of(target="aarch64")).cpu_features == ["fp-armv8", "neon"]
