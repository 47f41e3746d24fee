"""Mode ``aot``: code from a file that ``wasinn compile`` made. Checks it, and compiles nothing.

The file is read into private memory, its digest is taken there, and that same memory is run: what
happens to the file afterwards changes nothing. See docs/aot.md.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wasinn_runtime.abi.layout import ABI_VERSION
from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.engines.aot_format import (
    HEAD_BYTES,
    Facts,
    check_head,
    check_whole,
)
from wasinn_runtime.engines.cache import generator_digest
from wasinn_runtime.engines.compile import llvmlite_version, module_key
from wasinn_runtime.engines.core import runtime_imports
from wasinn_runtime.engines.entries import EntryTable
from wasinn_runtime.engines.place import Code, Mapped, SymbolTable, address_of, seal, this_machine
from wasinn_runtime.engines.symbols import FunctionMap
from wasinn_runtime.engines.targets import architecture_of, missing_features
from wasinn_runtime.errors import UnusableImage

if TYPE_CHECKING:
    from wasinn_runtime.engines.module import Module

__all__ = [
    "AotCode",
    "LoadedImage",
    "cached_image",
    "image_key",
    "load_image",
    "open_image",
    "usable_here",
]


class _FunctionNames:
    """The symbols of functions whose numbers are in a file."""

    def __init__(self, indices: memoryview[int]) -> None:
        self._indices = indices

    def __getitem__(self, number: int, /) -> str:
        return f"f{self._indices[number]}"


class _Functions:
    """The section with the functions' places: their starts, then their sizes, then their numbers.

    A copy is not made before somebody asks, which is when a guest traps.
    """

    def __init__(self, section: memoryview) -> None:
        self._section = section

    def symbols(self) -> SymbolTable:
        cells = memoryview(bytes(self._section)).cast("I")
        count = len(cells) // 3
        names = _FunctionNames(cells[2 * count :])
        return SymbolTable(cells[:count], cells[count : 2 * count], names)


@dataclass(frozen=True)
class LoadedImage:
    """A file whose code is in this process.

    Attributes:
        facts: what its header says.
        parsed: the module without its code.
        code: the linked functions.
        entries: address of the table of functions reachable by reference.
    """

    facts: Facts
    parsed: ParsedModule
    code: Code
    entries: int


class AotCode:
    """The functions of a module, out of an AOT file.

    Args:
        module: what they belong to.
        image: the file, when the module was made of one; else it is compiled now, or comes from
            the cache, and takes the way that a file would take.
        has_bodies: whether the module's own bytes are there beside the image.
    """

    interpreted = False

    def __init__(
        self, module: Module, image: LoadedImage | None = None, has_bodies: bool = False
    ) -> None:
        self.has_bodies = has_bodies or image is None
        self.image = image or _compiled(module)
        self.migratable = self.image.facts.migratable
        self._reachable = [i for i in module.escaping if i >= module.parsed.imported_functions]
        module.engine.add_map(FunctionMap(module, self.image.code))

    def publish(self, entries: EntryTable) -> None:
        """Fill the table with what may be called from outside."""
        entries.compiled_all(self._reachable, self.image.entries)

    def keep(self) -> None:
        """See ``modes.ModuleCode``: all that there is was kept before it was run."""


def image_key(parsed: ParsedModule, opt_level: int) -> str:
    """Under what a module's image is in the cache."""
    return module_key("aot", parsed, opt_level)


def cached_image(module: Module) -> LoadedImage | None:
    """A module's image from the cache, if there is one."""
    cache, parsed = module.engine.cache, module.parsed
    kept = None
    if cache is not None:
        kept = cache.get(image_key(parsed, module.engine.config.opt_level))
    return None if kept is None else load_image(kept, name=parsed.where)


def _compiled(module: Module) -> LoadedImage:
    engine, parsed = module.engine, module.parsed
    config, cache = engine.config, engine.cache
    kept = cached_image(module)
    if kept is not None:
        return kept
    from wasinn_runtime.engines.aot_compile import AotOptions, compile_image

    wanted = AotOptions(
        opt_level=config.opt_level, features=parsed.features, verify_ir=config.verify_ir
    )
    image = bytes(compile_image(parsed.data, parsed.where, wanted).image)
    if cache is not None:
        cache.put(image_key(parsed, config.opt_level), image)
    return load_image(image, name=parsed.where)


def load_image(
    image: str | os.PathLike[str] | bytes | bytearray | memoryview,
    *,
    name: str | None = None,
    source: bytes | None = None,
) -> LoadedImage:
    """Bring an AOT file into this process, after all checks.

    Args:
        image: its path, or its bytes.
        name: what to call it in messages; the path by default.
        source: the module that it must have been compiled from; not checked when None.

    Raises:
        OSError: it can not be read.
        UnusableImage: it is damaged, or made for something else than this.
        LimitExceeded: there is no memory for it.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        where = name or "<image>"
        mapped = _copied(memoryview(image).cast("B"), where)
    else:
        where = name or os.fspath(image)
        mapped = _read(image, where)
    kept = False
    try:
        facts, sections = check_whole(mapped.view, where)
        usable_here(facts, where)
        _check_source(facts, source, where)
        views = {key: mapped.view[at : at + size] for key, (at, size) in sections.items()}
        parsed = decode(bytes(views["module"]), where, frozenset(facts.features))
        imports = runtime_imports()
        code = seal(
            mapped,
            sections["code"][0],
            views["words"].cast("I"),
            [(at, address_of(symbol, imports) + addend) for at, symbol, addend in facts.imports],
            [(at, size, protection) for at, size, protection in facts.parts],
            {},
            (facts.unwind[0], facts.unwind[1]),
            _Functions(views["functions"]),
        )
        kept = True
        return LoadedImage(facts, parsed, code, code.base + facts.entries)
    finally:
        if not kept:
            views = {}
            mapped.release()


def open_image(data: bytes, where: str) -> tuple[Facts, bytes, dict[str, tuple[int, int]]]:
    """Look into an AOT file, for this machine or another.

    Args:
        data: its bytes.
        where: its name in messages.

    Returns:
        What its header says, the module without its code, offset and length of each section.

    Raises:
        UnusableImage: it is damaged, or of another format.
    """
    check_head(data[:HEAD_BYTES], len(data), where)
    facts, sections = check_whole(memoryview(data), where)
    at, size = sections["module"]
    return facts, data[at : at + size], sections


def usable_here(facts: Facts, where: str) -> None:
    """Check that code can run in this process.

    Raises:
        UnusableImage: why not.
    """
    again = "compile the module again"
    if facts.abi != ABI_VERSION:
        raise UnusableImage(
            f"compiled for version {facts.abi} of the runtime's ABI; this one has version "
            f"{ABI_VERSION}: {again}",
            where,
        )
    if facts.build != generator_digest():
        raise UnusableImage(
            f"compiled by another wasinn (version {facts.wasinn}, build {facts.build[:12]}); "
            f"this is build {generator_digest()[:12]}: {again}",
            where,
        )
    architecture = architecture_of(facts.triple)
    if architecture.machine != this_machine():
        raise UnusableImage(
            f"compiled for {facts.triple}; this machine is {os.uname().machine}: {again} "
            f"with --target {os.uname().machine}",
            where,
        )
    if facts.llvmlite != llvmlite_version():
        _check_llvm(facts, where)
    missing = missing_features(architecture, facts.cpu_features)
    if missing:
        raise UnusableImage(
            f"compiled for the CPU {facts.cpu}; this one lacks {', '.join(missing)}: {again}, "
            "with --cpu native or an older CPU",
            where,
        )


def _check_llvm(facts: Facts, where: str) -> None:
    """Only one LLVM's own calling conventions are sure to agree: ours to call the code with."""
    from wasinn_runtime.engines.llvm import llvm_version

    if facts.llvm != llvm_version():
        raise UnusableImage(
            f"compiled by LLVM {facts.llvm}; this process has LLVM {llvm_version()} "
            f"(llvmlite {llvmlite_version()}): compile the module again",
            where,
        )


def _check_source(facts: Facts, source: bytes | None, where: str) -> None:
    if source is None:
        return
    digest = hashlib.sha256(source).hexdigest()
    if digest != facts.source_sha256:
        raise UnusableImage(
            f"compiled from another module: from {facts.name}, {facts.source_bytes} bytes with "
            f"SHA-256 {facts.source_sha256[:16]}..., not from the {len(source)} bytes with "
            f"{digest[:16]}...",
            where,
        )


def _copied(image: memoryview, where: str) -> Mapped:
    check_head(bytes(image[:HEAD_BYTES]), len(image), where)
    mapped = Mapped(len(image))
    mapped.view[:] = image
    return mapped


def _read(path: str | os.PathLike[str], where: str) -> Mapped:
    with open(path, "rb", buffering=0) as file:
        info = os.fstat(file.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise UnusableImage("not a regular file", where)
        head = file.read(HEAD_BYTES)
        check_head(head, info.st_size, where)
        mapped = Mapped(info.st_size)
        at = len(head)
        mapped.view[:at] = head
        try:
            while at < mapped.size:
                count = file.readinto(mapped.view[at:])
                if not count:
                    raise UnusableImage(f"truncated while it was read, after {at} bytes", where)
                at += count
        except BaseException:
            mapped.release()
            raise
        return mapped
