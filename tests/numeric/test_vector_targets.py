"""The meanings of vector instructions by themselves, compiled for several CPUs, against the twin.

They differ by CPU, and only here those run that this machine's own does not need. Lanes, masks
and constants come once as immediates and once as values, as interpreters have them.
"""

from __future__ import annotations

import ctypes
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.numeric.vector_cases import (
    CASE_BYTES,
    SLOT,
    TRIALS,
    Operands,
    Trial,
    agrees,
    cases,
    expected,
    packed,
    results,
)
from wasinn_runtime.engines.core import runtime_imports
from wasinn_runtime.engines.elf import Object
from wasinn_runtime.engines.link import link
from wasinn_runtime.engines.linked import load, pack
from wasinn_runtime.engines.llvm import target_for, to_object
from wasinn_runtime.engines.place import LIBRARY, Code
from wasinn_runtime.engines.targets import (
    ARCHITECTURES,
    cpu_features,
    host_architecture,
    missing_features,
)
from wasinn_runtime.lower.meanings import MEANINGS
from wasinn_runtime.lower.simd import LANE_MEANINGS
from wasinn_runtime.lower.writer import LLVM_TYPE, METADATA, FunctionWriter
from wasinn_runtime.spec.opcodes import Imm

HARNESS = Path(__file__).with_name("vector_harness.c")
TARGETS = [
    ("x86_64", "x86-64", 2),
    ("x86_64", "x86-64-v2", 2),
    ("x86_64", "x86-64-v3", 2),
    ("aarch64", "generic", 2),
    ("x86_64", "x86-64", 0),
    ("aarch64", "generic", 0),
]

# A trial, and whether its immediate is a value.
Subject = tuple[Trial, bool]
SUBJECTS: list[Subject] = [(trial, False) for trial in TRIALS]
SUBJECTS += [(trial, True) for trial in TRIALS if trial.immediate is not None]


def written(name: str, subject: Subject) -> str:
    """A function that computes one case in place."""
    trial, by_value = subject
    row, w = trial.row, FunctionWriter(f"define void @{name}(ptr %at)")
    assert row.params is not None
    assert row.results is not None

    def slot(number: int, t: str) -> str:
        return w.let(f"load {t}, ptr {w.field('%at', SLOT * number)}, align 1")

    operands = [slot(number, LLVM_TYPE[t]) for number, t in enumerate(row.params)]
    family = row.meaning[0]
    if trial.immediate is None:
        value = MEANINGS[family](w, row, operands)
    else:
        immediate = trial.immediate
        if by_value:
            immediate = slot(2, "i32" if row.imm is Imm.LANE else "<16 x i8>")
        value = LANE_MEANINGS[family](w, row, immediate, operands)
    w.do(f"store {LLVM_TYPE[row.results[0]]} {value}, ptr {w.field('%at', 3 * SLOT)}, align 1")
    w.do("ret void")
    return w.finish()


def with_immediate(subject: Subject, operands: Operands) -> Operands:
    """The case with the immediate where the function looks for it."""
    trial, by_value = subject
    if not by_value:
        return operands
    immediate = trial.immediate
    if isinstance(immediate, tuple):
        immediate = int.from_bytes(bytes(immediate), "little")
    assert isinstance(immediate, int)
    return (*operands, *[0] * (2 - len(operands)), immediate)


Batches = list[tuple[int, list[Operands]]]
Run = Callable[[Batches], bytes]


@pytest.fixture(
    scope="module", params=TARGETS, ids=lambda t: f"{t[0]}-{t[1].removeprefix('x86-64-')}-O{t[2]}"
)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs cases of subjects, by number, as code for another CPU."""
    name, cpu, opt_level = request.param
    architecture = ARCHITECTURES[name]
    is_here = architecture is host_architecture()
    if is_here and missing_features(architecture, cpu_features(architecture, cpu)):
        pytest.skip(f"this machine is no {cpu}")
    texts = [written(f"f{number}", subject) for number, subject in enumerate(SUBJECTS)]
    table = ", ".join(f"ptr @f{number}" for number in range(len(texts)))
    texts.append(f"@functions = constant [{len(texts)} x ptr] [{table}]")
    image = to_object("\n".join([METADATA, *texts]), target_for(architecture, cpu), opt_level, True)
    outside = {s.name for s in Object(image).symbols if s.section == 0 and s.name}
    assert outside <= LIBRARY | {"_GLOBAL_OFFSET_TABLE_"}
    return loaded(image) if is_here else emulated(image, name, tmp_path_factory.mktemp("vectors"))


def loaded(image: bytes) -> Run:
    """In this process, as engines do."""
    code = load(pack(link([image], ("functions",))), runtime_imports())
    addresses = (ctypes.c_uint64 * len(SUBJECTS)).from_address(code.addresses["functions"])
    functions = [ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address) for address in addresses]

    def compute(batches: Batches, code: Code = code) -> bytes:
        left = b""
        for number, given in batches:
            buffer = ctypes.create_string_buffer(packed(given), CASE_BYTES * len(given))
            start = ctypes.addressof(buffer)
            for at in range(start, start + CASE_BYTES * len(given), CASE_BYTES):
                functions[number](at)
            left += buffer.raw
        return left

    return compute


def emulated(image: bytes, name: str, place: Path) -> Run:
    """In a process for another CPU."""
    emulator = shutil.which(f"qemu-{name}") or shutil.which(f"qemu-{name}-static")
    if emulator is None:
        pytest.skip("qemu-user is not installed")
    pytest.importorskip("ziglang", reason="ziglang is not installed")
    (place / "functions.o").write_bytes(image)
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", f"{name}-linux-musl", "-static"]
    harness = str(place / "harness")
    words = [*zig, "-O1", "-o", harness, str(HARNESS), str(place / "functions.o")]
    subprocess.run(words, check=True)

    def compute(batches: Batches) -> bytes:
        given = b"".join(struct.pack("<II", n, len(each)) + packed(each) for n, each in batches)
        command = [emulator, harness]
        done = subprocess.run(command, input=given, capture_output=True, timeout=120, check=False)
        assert done.returncode == 0, (done.returncode, done.stderr)
        return done.stdout

    return compute


def test_cases(run: Run) -> None:
    batches = [
        (number, [with_immediate(subject, case) for case in cases(subject[0].row)])
        for number, subject in enumerate(SUBJECTS)
    ]
    left, at, wrong, compared = run(batches), 0, [], 0
    for number, given in batches:
        trial, by_value = SUBJECTS[number]
        assert trial.row.results is not None
        size = len(packed(given))
        found = results(left[at : at + size], len(given), trial.row.results[0])
        at += size
        for case, got, twin in zip(cases(trial.row), found, expected(trial), strict=True):
            compared += 1
            if not agrees(trial.row, case, got, twin):
                wrong.append(f"{trial.text} {by_value} {tuple(map(hex, case))}: {got:#x} {twin:#x}")
    assert not wrong, "\n".join(wrong[:20])
    assert compared > 20_000
