"""The name custom section, and how to show a foreign name. Damage here is never an error.

Source: WebAssembly core specification 2.0, appendix A.4.1 (name section).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from wasinn_runtime.binary.module import Names, ParsedModule
from wasinn_runtime.binary.reader import Reader
from wasinn_runtime.errors import Malformed
from wasinn_runtime.spec.limits import MAX_LOCALS, MAX_NAME_BYTES, MAX_PARAMS

__all__ = ["printable", "read_names"]

_MODULE, _FUNCTIONS, _LOCALS = 0, 1, 2


def printable(text: str, limit: int = 120) -> str:
    """A name that came with a module, safe to print: no control character, no endless line.

    Escapes everything that Python does not call printable (so also terminal escapes, line
    breaks and bidirectional overrides), and cuts what is longer than ``limit`` characters.
    """
    shown = text[:limit]
    if not shown.isprintable():
        shown = "".join(
            c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown
        )
    if len(text) > limit:
        shown += f"... ({len(text)} characters)"
    return shown


def read_names(module: ParsedModule) -> Names:
    """Reads the first custom section called ``name``.

    A subsection that is damaged, repeated or out of order is dropped, with what follows a
    damaged length; so are names of functions and locals that do not exist. What was read
    before stays.
    """
    names = Names()
    for section in module.custom:
        if section.name == "name":
            _read(module, names, section.start, section.end)
            break
    return names


def _read(module: ParsedModule, names: Names, start: int, end: int) -> None:
    reader = Reader(module.data[:end], module.where, start)
    last = -1
    while reader.pos < end:
        try:
            number = reader.byte()
            size = reader.length()
            after = reader.pos + size
            if after > end:
                return
        except (Malformed, IndexError):
            return
        read = _SUBSECTIONS.get(number)
        if read is not None and number > last:
            last = number
            # What the subsection held before its damage is kept.
            with suppress(Malformed, IndexError):
                read(Reader(module.data[:after], module.where, reader.pos), module, names)
        reader.pos = after


def _read_module(reader: Reader, module: ParsedModule, names: Names) -> None:
    names.module = reader.name(MAX_NAME_BYTES)


def _read_functions(reader: Reader, module: ParsedModule, names: Names) -> None:
    _name_map(reader, names.functions, len(module.type_indices))


def _read_locals(reader: Reader, module: ParsedModule, names: Names) -> None:
    for _ in range(reader.length()):
        index = reader.u32()
        found: dict[int, str] = {}
        try:
            _name_map(reader, found, MAX_LOCALS + MAX_PARAMS)
        finally:
            if index < len(module.type_indices) and found:
                names.locals.setdefault(index, found)


def _name_map(reader: Reader, into: dict[int, str], bound: int) -> None:
    """Fills ``into``; a number that comes twice keeps its first name."""
    for _ in range(reader.length()):
        index = reader.u32()
        name = reader.name(len(reader.data))
        if index < bound and len(name) <= MAX_NAME_BYTES:
            into.setdefault(index, name)


_SUBSECTIONS: dict[int, Callable[[Reader, ParsedModule, Names], None]] = {
    _MODULE: _read_module,
    _FUNCTIONS: _read_functions,
    _LOCALS: _read_locals,
}
