"""Ahead of time compilation: a module's bytes to the bytes of an AOT file. Runs nothing."""

from __future__ import annotations

import hashlib
import struct
import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING

from wasinn_runtime.abi.layout import ABI_VERSION
from wasinn_runtime.binary.code import Body, decode_body
from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.engines.aot_format import Facts, pack
from wasinn_runtime.engines.cache import generator_digest
from wasinn_runtime.engines.compile import llvmlite_version
from wasinn_runtime.engines.link import Image, link
from wasinn_runtime.engines.place import LIBRARY, UNWIND_LIBRARY
from wasinn_runtime.engines.relocate import CPUS
from wasinn_runtime.engines.strip import without_code
from wasinn_runtime.engines.symbols import function_number
from wasinn_runtime.engines.targets import (
    ARCHITECTURES,
    Architecture,
    architecture_of,
    host_architecture,
    used_features,
)
from wasinn_runtime.errors import Internal, Invalid, UsageError
from wasinn_runtime.lower.core import RUNTIME_SYMBOLS
from wasinn_runtime.lower.outline import ENTRIES_SYMBOL
from wasinn_runtime.lower.units import Part, module_unit
from wasinn_runtime.spec.features import ALL_FEATURES
from wasinn_runtime.valid.function import OperandTypes
from wasinn_runtime.valid.validate import validate, validate_function, validate_sections

if TYPE_CHECKING:
    from wasinn_runtime.engines.llvm import Target

__all__ = ["STAGES", "AotOptions", "Compiled", "Progress", "compile_image", "object_of_part"]

#: What compiling consists of, in order; of these LLVM's own work is "optimise" and "generate".
STAGES = ("decode", "validate", "lower", "parse", "optimise", "generate", "link", "write")
#: Told what is being done, how many bytes of code that is done for, and of how many.
Progress = Callable[[str, int, int], None]
_MOST_JOBS = 256
# How long a part takes shows afterwards: who is done early takes another one.
_PARTS_PER_JOB = 2


@dataclass(frozen=True, slots=True)
class AotOptions:
    """What to compile for.

    Attributes:
        target: a triple; None for this machine.
        cpu: ``native``, or one that the target knows; None for ``native`` on this machine and the
            least capable CPU of another architecture.
        opt_level: LLVM's optimisation level, 0 to 3.
        jobs: how many processes compile.
        features: the WebAssembly proposals that the module may use.
        verify_ir: run LLVM's verifier on what we generate (slow; for tests).
        migratable: make code that can stop at a safepoint with its frames in canonical form.
    """

    target: str | None = None
    cpu: str | None = None
    opt_level: int = 2
    jobs: int = 1
    features: frozenset[str] = ALL_FEATURES
    verify_ir: bool = False
    migratable: bool = False

    def __post_init__(self) -> None:
        if self.opt_level not in range(4):
            raise UsageError(f"opt_level is {self.opt_level}; expected 0, 1, 2 or 3")
        if self.jobs not in range(1, _MOST_JOBS + 1):
            raise UsageError(f"jobs is {self.jobs}; expected 1 to {_MOST_JOBS}")

    @property
    def architecture(self) -> Architecture:
        """What the target names.

        Raises:
            UsageError: nothing can be compiled for it.
        """
        if self.target is not None:
            return architecture_of(self.target)
        host = host_architecture()
        if host is None:
            names = " or ".join(a.triple for a in ARCHITECTURES.values())
            raise UsageError(f"nothing is compiled for this machine; name another target: {names}")
        return host


@dataclass(frozen=True, slots=True)
class Compiled:
    """An AOT file's bytes, and how they came about.

    Attributes:
        image: the bytes.
        facts: what the header says.
        seconds: how long each stage took, in all processes together.
        parts: how many parts were compiled apart from each other.
    """

    image: bytearray
    facts: Facts
    seconds: Mapping[str, float]
    parts: int


@dataclass(slots=True)
class _Clock:
    """Sums the seconds of each stage."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    def add(self, stage: str, seconds: float) -> None:
        self.seconds[stage] += seconds


def compile_image(
    data: bytes,
    name: str,
    options: AotOptions | None = None,
    progress: Progress | None = None,
) -> Compiled:
    """Compile a module for later.

    Args:
        data: the binary format.
        name: what to call it in messages; its last part goes into the file.
        options: what for; this machine by default.
        progress: told how far it is.

    Raises:
        Malformed, Invalid: why it is not a module.
        UsageError: the options make no sense.
        LimitExceeded: the code is too large.
    """
    from wasinn_runtime.engines.llvm import target_for

    options = options or AotOptions()
    tell = progress or _tell_nobody
    architecture = options.architecture
    native = architecture is host_architecture()
    cpu = options.cpu or ("native" if native else next(iter(architecture.cpus)))
    target = target_for(architecture, cpu)
    clock = _Clock()
    tell("decode", 0, 1)
    began = time.perf_counter()
    parsed = decode(data, name, options.features)
    clock.add("decode", time.perf_counter() - began)
    total = parsed.code_bytes
    parts = _parts(parsed, options.jobs, clock)
    if len(parts) == 1:
        objects = [object_of_part(parsed, None, target, options, clock.add, tell)]
    else:
        from wasinn_runtime.engines.parallel import compile_parts

        objects = compile_parts(parsed, parts, target, options, clock.add, tell)
    tell("link", total, total)
    began = time.perf_counter()
    image = link(objects, [ENTRIES_SYMBOL])
    _check_imports(image)
    clock.add("link", time.perf_counter() - began)
    tell("write", total, total)
    began = time.perf_counter()
    facts = Facts(
        wasinn=_own_version(),
        build=generator_digest(),
        abi=ABI_VERSION,
        llvm=target.llvm_version,
        llvmlite=llvmlite_version(),
        triple=architecture.triple,
        cpu=target.cpu,
        cpu_features=used_features(architecture, target.features),
        opt_level=options.opt_level,
        migratable=options.migratable,
        name=PurePath(name).name,
        source_sha256=hashlib.sha256(data).hexdigest(),
        source_bytes=len(data),
        features=sorted(parsed.features),
        parts=image.parts,
        entries=image.exports[ENTRIES_SYMBOL],
        imports=image.imports,
        unwind=image.unwind,
    )
    packed = pack(
        facts,
        {
            "module": (without_code(parsed), 1),
            "words": (_u32(image.words), 4),
            "functions": (_functions(image), 4),
            "code": (image.memory, CPUS[image.machine].page_bytes),
        },
    )
    clock.add("write", time.perf_counter() - began)
    return Compiled(packed, facts, clock.seconds, len(parts))


def _tell_nobody(stage: str, done: int, total: int) -> None:
    """Nobody wants to know how far it is."""


def _parts(parsed: ParsedModule, jobs: int, clock: _Clock) -> list[Part]:
    whole = [Part(frozenset())]
    if jobs == 1:
        return whole
    from wasinn_runtime.engines.partition import call_graph, divide

    began = time.perf_counter()
    try:
        validate_sections(parsed)
        graph = call_graph(parsed)
        if any(c not in graph for called in graph.values() for c in called):
            raise Invalid("unknown function", None, parsed.where)
        parts = divide(parsed, graph, _PARTS_PER_JOB * jobs)
    except Invalid:
        validate(parsed)  # says where and what
        raise
    clock.add("decode", time.perf_counter() - began)
    return parts if len(parts) > 1 else whole


def object_of_part(
    parsed: ParsedModule,
    part: Part | None,
    target: Target,
    options: AotOptions,
    stage: Callable[[str, float], None],
    tell: Progress = _tell_nobody,
) -> bytes:
    """Validate and compile a part of a module.

    Args:
        part: which; None for the whole module.
        target: what LLVM compiles for.
        options: how; which target they name and how many processes there are does not matter.
        stage: told of each stage that ends, with its seconds.
        tell: told how far it is.

    Raises:
        Malformed, Invalid: why it is not a module.
    """
    from wasinn_runtime.engines.llvm import to_object

    machine = target.triple.partition("-")[0]
    clock = _Clock()
    total = parsed.code_bytes
    began = time.perf_counter()
    try:
        validate_sections(parsed)
        clock.add("validate", time.perf_counter() - began)
        bodies = _valid_bodies(parsed, part, clock, tell, total)
        operands = partial(OperandTypes, parsed) if options.migratable else None
        text = module_unit(parsed, bodies, part, machine, operands)
    except Invalid:
        if part is None:
            validate(parsed)  # bytes that are malformed further on win over what is invalid
        raise
    spent = clock.seconds["decode"] + clock.seconds["validate"]
    clock.add("lower", time.perf_counter() - began - spent)
    for name in ("decode", "validate", "lower"):
        stage(name, clock.seconds[name])
    tell("optimise", total, total)

    def llvm_stage(name: str, seconds: float) -> None:
        if name == "optimise":
            tell("generate", total, total)
        stage(name, seconds)

    return to_object(text, target, options.opt_level, options.verify_ir, llvm_stage)


def _valid_bodies(
    parsed: ParsedModule, part: Part | None, clock: _Clock, tell: Progress, total: int
) -> Iterator[tuple[int, Body]]:
    first = parsed.imported_functions
    wanted = range(len(parsed.code))
    numbers = wanted if part is None else sorted(i - first for i in part.own | part.copies)
    done = last = 0
    now = time.perf_counter
    for i in numbers:
        began = now()
        body = decode_body(parsed, i)
        decoded = now()
        validate_function(parsed, i, body)
        ended = now()
        clock.seconds["decode"] += decoded - began
        clock.seconds["validate"] += ended - decoded
        yield first + i, body
        done += body.end - body.start
        if done - last > 1 << 16:
            last = done
            tell("lower", done, total)


def _check_imports(image: Image) -> None:
    """What could not be found when the file is run, to be told now."""
    known = {*RUNTIME_SYMBOLS, *LIBRARY, *UNWIND_LIBRARY}
    unknown = sorted({name for _, name, _ in image.imports} - known)
    if unknown:
        raise Internal(f"compiled code refers to {', '.join(unknown)}, which nobody defines")


def _functions(image: Image) -> bytes:
    """Starts, sizes and numbers of the functions, some of which have a second symbol."""
    found = {at: (at, size, function_number(name)) for at, size, name in image.functions}
    rows = sorted(found.values())
    return b"".join(_u32([row[column] for row in rows]) for column in range(3))


def _u32(values: list[int]) -> bytes:
    cells = array("I", values)
    if cells.itemsize != 4:  # pragma: no cover  (no Linux that we know)
        return struct.pack(f"<{len(values)}I", *values)
    return cells.tobytes()


def _own_version() -> str:
    from importlib import metadata

    try:
        return metadata.version("wasinn-host")
    except metadata.PackageNotFoundError:
        return "unknown"
