"""What was compiled ahead of time does what the module does, in every way it can be compiled."""

from __future__ import annotations

import dataclasses
import gc
import re
import struct
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from tests.aot.aot_images import GUEST, facts_of, image_of, module_of, sections_of
from wasinn_runtime import (
    Config,
    Engine,
    FuncType,
    HostFunc,
    Instance,
    Invalid,
    Malformed,
    Module,
    Store,
    Trap,
    UsageError,
    ValType,
)
from wasinn_runtime.engines.aot_compile import STAGES, AotOptions, compile_image
from wasinn_runtime.engines.aot_format import Facts
from wasinn_runtime.engines.partition import call_graph, divide
from wasinn_runtime.engines.targets import ARCHITECTURES

ROOT = Path(__file__).resolve().parents[2]
RUST = ROOT / "examples" / "rust-files" / "rust-files.wasm"
CALLS = [
    *[("down", n) for n in (0, 1, 100, 5000, 10_000_000, 3)],
    *[("divide", n) for n in (7, 0, -1, 5)],
    *[("load", n) for n in (16, 65532, 65533, 1 << 20, -4)],
    *[("fill", n) for n in (100, 65536, 104)],
    *[("grow", n) for n in (1, 5, 1)],
    *[("load", n) for n in (65536, 3 * 65536 - 4, 3 * 65536 - 3)],
    *[("indirect", n) for n in (0, 1, 2, 3, 1000)],
    *[("import", n) for n in (21, -3)],
    *[("switch", n) for n in range(5)],
    *[("float", n) for n in (7, -7, 2_000_000_000)],
]
_UNARY = FuncType((ValType.I32,), (ValType.I32,))


def behaviour(module: Module) -> list[str]:
    """Results and traps of all calls, with where they trapped; memory and global at last."""
    instance = Instance(Store(module.engine), module, [HostFunc(_UNARY, lambda n: 2 * n)])
    seen = []
    for name, argument in CALLS:
        try:
            seen.append(f"{name} {argument}: {instance.exports[name](argument)}")  # type: ignore[operator]
        except Trap as trap:
            seen.append(f"{name} {argument}: {type(trap).__name__} {trap}")
    seen.append(instance.exports.memory.read(0, 200).hex())
    seen.append(str(instance.exports.started.value))
    return seen


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(Config(cache_dir=tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def expected(engine: Engine) -> list[str]:
    seen = behaviour(Module(engine, module_of(GUEST), "sample.wasm"))
    assert "divide 0: Trap wasm trap: integer divide by zero in function 3 (divide)" in seen
    assert "down 10000000: Exhaustion wasm trap: call stack exhausted in function 2 (down)" in seen
    assert (
        "load 196609: Trap wasm trap: out of bounds memory access in function 4 (load)" not in seen
    )
    assert seen[-1] == "8"
    return seen


@pytest.mark.parametrize("level", range(4))
def test_levels(engine: Engine, expected: list[str], level: int) -> None:
    assert behaviour(Module.from_aot(engine, image_of(opt_level=level))) == expected


@pytest.mark.parametrize("cpu", ["native", "x86-64", "x86-64-v2"])
def test_cpus(engine: Engine, expected: list[str], cpu: str) -> None:
    if cpu != "native" and AotOptions().architecture.name != "x86_64":
        pytest.skip(f"{cpu} is another CPU than this one")
    image = image_of(cpu=cpu)
    assert behaviour(Module.from_aot(engine, image)) == expected
    assert ("avx" in facts_of(image).cpu_features) <= (cpu == "native")


def test_it_runs_without_the_module(engine: Engine, expected: list[str], tmp_path: Path) -> None:
    path = tmp_path / "sample.aot"
    path.write_bytes(image_of())
    module = Module.from_aot(engine, path)
    path.unlink()
    assert behaviour(module) == expected
    assert [name for _, name, _ in module.imports] == ["twice"]
    assert [name for name, _ in module.exports][:2] == ["memory", "started"]


def test_the_file_holds_no_webassembly_code() -> None:
    module = sections_of(image_of())["module"]
    assert bytes([0x41, 0xE4, 0x00]) in module_of(GUEST)  # i32.const 100, from $divide
    assert bytes([0x41, 0xE4, 0x00]) not in module
    Module.validate(module)
    with pytest.raises(UsageError, match="compiled code only"):
        Module.from_aot(Engine(), image_of(), "sample.aot").llvm_ir()


def test_debug_information_stays_out() -> None:
    def custom(name: bytes, size: int) -> bytes:
        content = bytes([len(name)]) + name + bytes(size)
        return b"\0" + bytes([len(content) & 0x7F | 0x80, len(content) >> 7]) + content

    source = module_of("(module $m (func $f))") + custom(b".debug_info", 5000)
    source += custom(b"producers", 300)
    image = bytes(compile_image(source, "m.wasm").image)
    module = sections_of(image)["module"]
    assert b".debug_info" not in module
    assert b"producers" in module
    assert facts_of(image).source_bytes == len(source)


def test_the_same_input_gives_the_same_file() -> None:
    assert image_of() == image_of()


def test_a_module_goes_when_nobody_has_it(engine: Engine) -> None:
    module = Module.from_aot(engine, image_of('(module (func (export "f") unreachable))'))
    code = weakref.ref(module.code.image.code)  # type: ignore[attr-defined]
    base = module.code.image.code.base  # type: ignore[attr-defined]
    assert f"{base:x}-" in Path("/proc/self/maps").read_text()
    del module
    gc.collect()
    assert code() is None


def test_many_instances_of_many_modules(engine: Engine, expected: list[str]) -> None:
    image = image_of()
    for _ in range(30):
        module = Module.from_aot(engine, image)
        assert behaviour(module) == expected


# --- several parts --------------------------------------------------------------------------------


def _chain(count: int) -> str:
    """Functions that call each other over all distances, through calls and through a table."""
    functions = []
    for i in range(count):
        near, far = (i * 7 + 3) % count, (i * 31 + count // 2) % count
        filler = "".join(
            f"(i32.rotl (i32.add (local.get 1) (i32.const {i * 97 + k})) (i32.const 5)) local.set 1"
            for k in range(40)
        )
        functions.append(
            f"""(func $f{i} (param i32 i32) (result i32)
              (if (i32.le_s (local.get 0) (i32.const 0)) (then (return (local.get 1))))
              {filler}
              (i32.xor
                (call $f{near} (i32.sub (local.get 0) (i32.const 1)) (local.get 1))
                (call_indirect (type $t) (i32.sub (local.get 0) (i32.const 2)) (local.get 1)
                  (i32.const {far}))))"""
        )
    names = " ".join(f"$f{i}" for i in range(count))
    return f"""(module (type $t (func (param i32 i32) (result i32)))
      (table {count} funcref) (elem (i32.const 0) {names})
      (func $small (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
      {"".join(functions)}
      (func (export "run") (param i32) (result i32)
        (call $f1 (call $small (local.get 0)) (i32.const 99))))"""


def test_parts_do_what_the_whole_does(engine: Engine) -> None:
    wat = _chain(240)
    data = module_of(wat)
    module = Module(engine, data)
    whole = Instance(Store(engine), module).exports
    for jobs in (2, 3, 5):
        made = compile_image(data, "chain.wasm", AotOptions(opt_level=2, jobs=jobs))
        assert made.parts > 1, made.parts
        parts = Instance(Store(engine), Module.from_aot(engine, bytes(made.image))).exports
        for n in range(14):
            assert parts.run(n) == whole.run(n), (jobs, n)
        assert all(made.seconds[name] > 0 for name in STAGES)


def test_an_exported_function_may_be_a_copy_elsewhere(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table of entries names it, and its part only has it to inline."""
    monkeypatch.setattr("wasinn_runtime.engines.partition._LEAST_PART_BYTES", 1)
    data = module_of("""(module
      (func $even (export "even") (param i32) (result i32)
        (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 1))
          (else (call $odd (i32.sub (local.get 0) (i32.const 1))))))
      (func $odd (export "odd") (param i32) (result i32)
        (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 0))
          (else (call $even (i32.sub (local.get 0) (i32.const 1)))))))""")
    made = compile_image(data, "parity.wasm", AotOptions(jobs=2, verify_ir=True))
    assert made.parts == 2
    exports = Instance(Store(engine), Module.from_aot(engine, bytes(made.image))).exports
    assert [exports.even(n) for n in (0, 1, 76, 77)] == [1, 0, 1, 0]
    assert [exports.odd(n) for n in (0, 1, 76, 77)] == [0, 1, 0, 1]


def test_parts_of_a_small_module_are_one(engine: Engine, expected: list[str]) -> None:
    made = compile_image(module_of(GUEST), "sample.wasm", AotOptions(jobs=8))
    assert made.parts == 1
    assert behaviour(Module.from_aot(engine, bytes(made.image))) == expected


def test_a_partition_holds_every_function_once() -> None:
    from wasinn_runtime.binary.decoder import decode

    parsed = decode(RUST.read_bytes(), "rust-files.wasm")
    graph = call_graph(parsed)
    first = parsed.imported_functions
    for most in (1, 2, 3, 7):
        parts = divide(parsed, graph, most)
        assert len(parts) <= most
        assert sorted(i for p in parts for i in p.own) == sorted(graph)
        assert [p.has_entries for p in parts] == [True] + [False] * (len(parts) - 1)
        sizes = [sum(_size(parsed.code[i - first]) for i in p.own) for p in parts]
        biggest = max(max(map(_size, parsed.code)), sum(sizes) // (4 * len(sizes)))
        assert max(sizes) < 1.1 * (sum(sizes) / len(sizes) + biggest), sizes
        everything = {i: p for p in parts for i in p.own}
        for part in parts:
            assert part.shared <= part.own
            assert not part.copies & part.own
            for i in part.own | part.copies:
                for callee in graph[i] - part.own:
                    assert callee in everything[callee].shared


def _size(body: object) -> int:
    return int(body.end) - int(body.start)  # type: ignore[attr-defined]


def test_defects_are_told_as_without_parts() -> None:
    good = bytearray(module_of(_chain(240)))
    bad_type = bytearray(good)
    bad_type[bad_type.rindex(b"\x41\xe3\x00")] = 0x42  # the last i32.const 99 becomes an i64
    for data in (bytes(bad_type), bytes(good[:-3]), bytes(good[: len(good) // 2])):
        said = []
        for jobs in (1, 4):
            try:
                compile_image(data, "bad.wasm", AotOptions(opt_level=0, jobs=jobs))
                said.append("fine")
            except (Malformed, Invalid) as error:
                said.append(f"{type(error).__name__} {error}")
        assert said[0] == said[1]


def test_a_compiling_process_that_dies_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    from wasinn_runtime.engines import parallel
    from wasinn_runtime.errors import Internal

    monkeypatch.setattr(parallel, "_PROGRAM", "import os, signal; os.kill(os.getpid(), 9)")
    with pytest.raises(Internal, match="a compiling process ended by signal 9"):
        compile_image(module_of(_chain(240)), "chain.wasm", AotOptions(jobs=2))


def test_the_working_directory_gives_no_modules(tmp_path: Path) -> None:
    """A file there must not pass for ours in the processes that compile."""
    (tmp_path / "wasinn_runtime.py").write_text("raise SystemExit('hijacked')")
    (tmp_path / "json.py").write_text("raise SystemExit('hijacked')")
    source = tmp_path / "chain.wasm"
    source.write_bytes(module_of(_chain(240)))
    program = (
        "import sys; sys.path.remove('') if '' in sys.path else None\n"
        "from wasinn_runtime.engines.aot_compile import *\n"
        f"data = open({str(source)!r}, 'rb').read()\n"
        "print(compile_image(data, 'chain.wasm', AotOptions(opt_level=0, jobs=2)).parts)\n"
    )
    path = ":".join(str(ROOT / folder) for folder in (".", "runtime"))
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert int(done.stdout) > 1, done.stderr


# --- limits and options ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": "riscv64-linux-gnu"}, "expected x86_64-unknown-linux-gnu and aarch64"),
        ({"target": "x86_64-windows"}, "no code can be compiled for 'x86_64-windows'"),
        ({"cpu": "x86-64-v9", "target": "x86_64"}, "did you mean x86-64-v"),
        ({"cpu": "neoverse", "target": "arm64"}, "did you mean neoverse-n1"),
        ({"opt_level": 4}, "opt_level is 4"),
        ({"jobs": 0}, "jobs is 0"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        compile_image(module_of("(module)"), "m.wasm", AotOptions(**options))  # type: ignore[arg-type]


def test_modules_that_are_none_are_told() -> None:
    with pytest.raises(Malformed, match="magic header"):
        compile_image(b"something else", "m.wasm")
    with pytest.raises(Invalid, match="type mismatch"):
        compile_image(module_of("(module (func i32.const 1 drop))").replace(b"\x1a", b"\x01"), "m")


def test_a_module_of_nothing(engine: Engine) -> None:
    image = image_of("(module)")
    instance = Instance(Store(engine), Module.from_aot(engine, image))
    assert list(instance.exports) == []
    assert struct.unpack_from("<Q", image, 24) == (len(image),)


# --- the document ---------------------------------------------------------------------------------


def test_the_document_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = (ROOT / "docs" / "aot.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert examples
    exec(compile("\n".join(examples), "docs/aot.md", "exec"), {})
    fields = [f.name for f in dataclasses.fields(Facts)]
    table = text.partition("| Field | Content |")[2].partition("The sections:")[0]
    assert all(f"`{name}`" in table for name in [*fields, "sections"])
    assert all(f"`{name}`" in text for name in sections_of(image_of("(module)")))
    for architecture in ARCHITECTURES.values():
        assert all(f"`{cpu}`" in text for cpu in architecture.cpus)
