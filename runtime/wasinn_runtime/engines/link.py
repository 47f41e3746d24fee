"""Links object files into one image, and images into this process: relocated, then sealed.

An image is position independent but for a few words, so that a file with one (``aot_format.py``)
is ready after those are filled in, however large it is.

Why not LLVM's own JIT linker: it maps the parts of an object separately, and in a process that
reserves terabytes for guests they can end up too far apart for 32-bit references, which aborts the
process. One mapping can not. It also lets a cached module start without loading LLVM at all.

No page is ever writable and executable at once.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from wasinn_runtime.engines.elf import EM_AARCH64, Object, Section
from wasinn_runtime.engines.frame_checks import FRAME_CHECK_SECTION, write_frame_checks
from wasinn_runtime.engines.relocate import CPUS
from wasinn_runtime.errors import Internal

__all__ = ["Image", "link"]

READ, WRITE, EXECUTE = 1, 2, 4
_UNWIND_SECTION = ".eh_frame"
_EXHAUSTED = "__morestack"  # what a function calls whose frame does not fit
# Where a section comes in the image; those of one rank share pages.
_CODE, _CONSTANT, _VARIABLE = range(3)
_PROTECTION = {_CODE: READ | EXECUTE, _CONSTANT: READ, _VARIABLE: READ | WRITE}


@dataclass(slots=True)
class Image:
    """Linked code. All places are offsets from its first byte.

    Attributes:
        machine: the ELF number of the CPU it is for.
        memory: its bytes; the length is a multiple of the page size.
        parts: (offset, bytes, protection) of what lies on pages of its own.
        exports: places of the symbols that were asked for.
        words: places that hold an offset in the image and want an address.
        imports: (place, name, addend) of words that want the address of a symbol elsewhere.
        functions: (offset, size, symbol) of every function, in order.
        unwind: (offset, bytes) of the tables for unwinding; no bytes if there are none.
    """

    machine: int
    memory: bytearray = field(default_factory=bytearray)
    parts: list[tuple[int, int, int]] = field(default_factory=list)
    exports: dict[str, int] = field(default_factory=dict)
    words: list[int] = field(default_factory=list)
    imports: list[tuple[int, str, int]] = field(default_factory=list)
    functions: list[tuple[int, int, str]] = field(default_factory=list)
    unwind: tuple[int, int] = (0, 0)


def link(objects: Sequence[bytes], exports: Collection[str]) -> Image:
    """Link object files for one CPU, which may refer to each other's symbols.

    Args:
        objects: what LLVM wrote.
        exports: symbols whose places are wanted.

    Raises:
        Internal: the objects hold what our compiler never writes.
        LimitExceeded: the code is too large.
    """
    return _Linker([Object(data) for data in objects]).link(exports)


class _Linker:
    def __init__(self, objects: list[Object]) -> None:
        machines = {o.machine for o in objects}
        machine = objects[0].machine
        if len(machines) != 1 or machine not in CPUS:
            raise Internal(f"compiled code is for ELF machines {sorted(machines)}")
        self.objects = objects
        self.cpu = CPUS[machine]
        self.image = Image(machine)
        self.offsets: list[dict[int, int]] = [{} for _ in objects]
        self.globals: dict[str, int] = {}
        # Symbols elsewhere that code refers to, and all symbols whose address is kept in a word.
        self.stubs: dict[str, int] = {}
        self.slots: dict[str | int, int] = {}

    def link(self, exports: Collection[str]) -> Image:
        image = self.image
        self._find_outside()
        self._lay_out()
        self._define()
        for name, at in self.stubs.items():
            stub = self.cpu.stub(at, self._slot(name))
            image.memory[at : at + len(stub)] = stub
        for number, parsed in enumerate(self.objects):
            for section in parsed.sections.values():
                if section.name != FRAME_CHECK_SECTION:
                    self._fill(number, section)
        self._fill_slots()
        if image.machine == EM_AARCH64:
            self._check_frames()
        missing = [name for name in exports if name not in self.globals]
        if missing:
            raise Internal(f"compiled code lacks {', '.join(missing)}")
        image.exports = {name: self.globals[name] for name in exports}
        image.functions.sort()
        return image

    def _find_outside(self) -> None:
        """Which symbols need a stub, and how many words for addresses there can be."""
        defined = {
            s.name for o in self.objects for s in o.symbols if s.section > 0 and not s.is_local
        }
        branches, through = self.cpu.branches, self.cpu.through_got
        slots: set[tuple[int, int]] = set()
        for number, parsed in enumerate(self.objects):
            outside = [
                s.section == 0 and bool(s.name) and s.name not in defined for s in parsed.symbols
            ]
            for section in parsed.sections.values():
                for _, kind, symbol, _ in section.relocations:
                    if kind in branches and outside[symbol]:
                        self.stubs.setdefault(parsed.symbols[symbol].name, 0)
                    elif kind in through:
                        slots.add((number, symbol))
                if section.name == FRAME_CHECK_SECTION and _EXHAUSTED not in defined:
                    self.stubs.setdefault(_EXHAUSTED, 0)
        self._most_slots = len(slots) + len(self.stubs)

    def _lay_out(self) -> None:
        image, page = self.image, self.cpu.page_bytes
        at = 0
        for rank, protection in _PROTECTION.items():
            start = at
            unwind = []
            for number, parsed in enumerate(self.objects):
                for section in parsed.sections.values():
                    if section.name == FRAME_CHECK_SECTION or _rank(section) != rank:
                        continue
                    if section.name == _UNWIND_SECTION:
                        unwind.append((number, section))
                        continue
                    at = _up(at, section.alignment)
                    self.offsets[number][section.index] = at
                    at += section.size
            if rank == _CODE:
                for name in self.stubs:
                    at = _up(at, self.cpu.stub_bytes)
                    self.stubs[name] = at
                    at += self.cpu.stub_bytes
            elif rank == _CONSTANT:
                at = self._place_unwind(_up(at, 8), unwind)
                self._slots_at = at = _up(at, 8)
                at += 8 * self._most_slots
            at = _up(at, page)
            if at > start:
                image.parts.append((start, at - start, protection))
        image.memory = bytearray(max(at, page))

    def _place_unwind(self, at: int, sections: list[tuple[int, Section]]) -> int:
        """One table of all: nothing between the sections, four zeros after the last."""
        if not sections:
            return at
        start = at
        for number, section in sections:
            if at % section.alignment:
                raise Internal("a table for unwinding would leave a gap in front of the next one")
            self.offsets[number][section.index] = at
            at += section.size
        self.image.unwind = (start, at - start)
        return at + 4

    def _define(self) -> None:
        weak: dict[str, int] = {}
        for number, parsed in enumerate(self.objects):
            offsets = self.offsets[number]
            for symbol in parsed.symbols:
                if symbol.section not in offsets or not symbol.name:
                    continue
                at = offsets[symbol.section] + symbol.offset
                if symbol.is_function:
                    self.image.functions.append((at, symbol.size, symbol.name))
                if symbol.is_local:
                    continue
                if symbol.is_weak:
                    weak.setdefault(symbol.name, at)
                elif symbol.name in self.globals:
                    raise Internal(f"compiled code defines {symbol.name} twice")
                else:
                    self.globals[symbol.name] = at
        self.globals = weak | self.globals

    def _target(self, number: int, symbol: int) -> int | str:
        """Where a symbol is, or the name of one that is elsewhere."""
        found = self.objects[number].symbols[symbol]
        if found.section > 0 and (found.is_local or not found.is_weak):
            base = self.offsets[number].get(found.section)
            if base is None:
                raise Internal(f"compiled code refers to {found.name!r}, which takes no memory")
            return base + found.offset
        return self.globals.get(found.name, found.name)

    def _slot(self, target: int | str) -> int:
        """The word that will hold the address of a place, or of a symbol elsewhere."""
        slot = self.slots.get(target)
        if slot is None:
            slot = self.slots[target] = self._slots_at + 8 * len(self.slots)
        return slot

    def _fill(self, number: int, section: Section) -> None:
        cpu, image = self.cpu, self.image
        base = self.offsets[number][section.index]
        if section.data is not None:
            image.memory[base : base + section.size] = section.data
        for offset, kind, symbol, addend in section.relocations:
            at = base + offset
            target = self._target(number, symbol)
            if kind in cpu.through_got:
                cpu.apply(image.memory, kind, at, self._slot(target) + addend)
            elif kind == cpu.word:
                if isinstance(target, str):
                    image.imports.append((at, target, addend))
                else:
                    struct.pack_into("<Q", image.memory, at, target + addend)
                    image.words.append(at)
            elif isinstance(target, int):
                cpu.apply(image.memory, kind, at, target + addend)
            elif target in self.stubs:
                cpu.apply(image.memory, kind, at, self.stubs[target] + addend)
            else:
                raise Internal(f"compiled code refers to {target!r} in a way that can not be far")

    def _fill_slots(self) -> None:
        for target, slot in self.slots.items():
            if isinstance(target, str):
                self.image.imports.append((slot, target, 0))
            else:
                struct.pack_into("<Q", self.image.memory, slot, target)
                self.image.words.append(slot)

    def _check_frames(self) -> None:
        """The functions with room for a check at their beginning; see ``frame_checks``."""
        entries = []
        for number, parsed in enumerate(self.objects):
            for section in parsed.sections.values():
                if section.name == FRAME_CHECK_SECTION:
                    for _, _, symbol, addend in section.relocations:
                        target = self._target(number, symbol)
                        assert isinstance(target, int)
                        entries.append(target + addend)
        if entries:
            image, exhausted = self.image, self.stubs.get(_EXHAUSTED)
            if exhausted is None:
                exhausted = self.globals[_EXHAUSTED]
            write_frame_checks(image.memory, entries, image.unwind, exhausted)


def _rank(section: Section) -> int:
    if section.is_code:
        return _CODE
    # Written to by nobody but the linker, although the file says otherwise.
    if not section.is_writable or section.name.startswith(".data.rel.ro"):
        return _CONSTANT
    return _VARIABLE


def _up(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment
