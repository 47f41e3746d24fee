"""Mode ``interp``: the module's bytes run, nearly as they are, with a side table for branches.

The handlers are made by LLVM once per machine and kept in the cache of compiled code. A function
that is called for the first time is validated and gets its side table and a copy of its bytes with
some opcodes replaced; nothing else is made of it.
"""

from __future__ import annotations

import threading
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wasinn_runtime.abi.layout import VMContext, VMLayout, slot_cells
from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.engines.handlers import load_handlers
from wasinn_runtime.engines.lazy import Lazy
from wasinn_runtime.engines.place import Code
from wasinn_runtime.lower.classic_body import CLASSIC, ModuleFacts
from wasinn_runtime.lower.classic_body import Code as ClassicCode
from wasinn_runtime.lower.classic_code import write_code
from wasinn_runtime.lower.classic_control import ENTRY_BYTES
from wasinn_runtime.lower.classic_exceptions import CLAUSE_BYTES, RANGE_BYTES
from wasinn_runtime.lower.classic_handlers import (
    PLAIN_SYMBOL,
    SPARE_BYTES,
    WIDE_SYMBOL,
    classic_unit,
)
from wasinn_runtime.lower.threaded import Header
from wasinn_runtime.spec.types import FuncType, ValType
from wasinn_runtime.valid import side_table, tries
from wasinn_runtime.valid.function import local_types
from wasinn_runtime.valid.side_table import make_side_table

if TYPE_CHECKING:
    from wasinn_runtime.engines.engine import Engine
    from wasinn_runtime.engines.module import Module

__all__ = ["ClassicInterpreter", "Interp", "classic_interpreter"]

# lower and valid do not know each other
assert ENTRY_BYTES == side_table.ENTRY_BYTES
assert (RANGE_BYTES, CLAUSE_BYTES) == (4 * tries.RANGE_WORDS, 4 * tries.CLAUSE_WORDS)

_ADDRESSES = (PLAIN_SYMBOL, WIDE_SYMBOL, CLASSIC.run_symbol)


@dataclass(frozen=True, slots=True)
class ClassicInterpreter:
    """The handlers in this process.

    Attributes:
        code: keeps them there.
        plain, wide: the tables of the two sets of handlers.
        run: the array entry of everything interpreted.
    """

    code: Code
    plain: int
    wide: int
    run: int


_lock = threading.Lock()
_made: list[ClassicInterpreter] = []


def classic_interpreter(engine: Engine) -> ClassicInterpreter:
    """The process's interpreter: from the engine's cache, or made now, which takes some seconds."""
    with _lock:
        if not _made:
            _made.append(_make(engine))
        return _made[0]


def _make(engine: Engine) -> ClassicInterpreter:
    code = load_handlers(engine, "interp", classic_unit, _ADDRESSES)
    plain, wide, run = (code.addresses[symbol] for symbol in _ADDRESSES)
    return ClassicInterpreter(code, plain, wide, run)


class Interp(Lazy):
    """A module's functions, run from its own bytes."""

    interpreted = True

    def __init__(self, module: Module) -> None:
        super().__init__(module)
        self.interpreter = classic_interpreter(self.engine)
        self._facts = _ModuleFacts(self.parsed, self.layout, self.places)
        # By function: what its CodeEntry points to, and what that points to.
        self.codes: dict[int, tuple[array[int], ...]] = {}

    def make_ready(self, index: int) -> None:
        """Make what a function's handlers need and publish it."""
        body, parsed, layout = self.body(index), self.parsed, self.layout
        table = make_side_table(parsed, index, body, self._facts.is_wide)
        code = write_code(parsed.data, body.instructions, table.is_wide)
        ty = parsed.func_type(index)
        handlers, local_map = self.interpreter.plain, array("I")
        if table.is_wide:
            handlers, at = self.interpreter.wide, 0
            for t in local_types(ty.params, body.locals):
                two = t is ValType.V128
                local_map.append(at << 1 | two)
                at += 16 if two else 8
        below = 8 * (table.local_cells + table.kept_cells)
        header = dict.fromkeys(range(-8 * Header.WORDS, 8 * ClassicCode.WORDS, 8), 0)
        header |= {
            Header.FRAME_BYTES: below + 8 * table.operand_cells + SPARE_BYTES,
            Header.PARAM_CELLS: slot_cells(ty.params),
            Header.RESULT_CELLS: slot_cells(ty.results),
            Header.MEMORY_AT: layout.memory(0) + VMContext.RESOURCE_BASE if parsed.memories else 0,
            ClassicCode.FIRST: _address(code),
            ClassicCode.LAST: _address(code) + table.last - table.first,
            ClassicCode.SIDE_TABLE: _address(table.words),
            ClassicCode.HANDLERS: handlers,
            ClassicCode.LOCAL_BYTES: below,
            ClassicCode.IMPORTED_GLOBALS: parsed.imported_globals,
            ClassicCode.GLOBALS: layout.defined_global(-parsed.imported_globals),
            ClassicCode.IMPORTED_FUNCTIONS: parsed.imported_functions,
            ClassicCode.MODULE: self._facts.address,
            ClassicCode.LOCALS: _address(local_map),
            ClassicCode.TRIES: _address(table.tries) if table.tries else 0,
        }
        words = array("q", [header[at] for at in sorted(header)])
        self.codes[index] = (words, code, table.words, local_map, table.tries)
        self.entries.interpret(index, _address(words) + 8 * Header.WORDS, self.interpreter.run)


def _address(words: array[int]) -> int:
    return words.buffer_info()[0]


class _ModuleFacts:
    """``classic_body.ModuleFacts`` of one module.

    Attributes:
        address: where they are.
        is_wide: whether all functions need the wide handlers.
    """

    def __init__(self, parsed: ParsedModule, layout: VMLayout, places: dict[int, int]) -> None:
        of_type = [_cells(ty) for ty in parsed.types]
        references = array("I", bytes(4 * len(parsed.type_indices)))
        for index, place in places.items():
            references[index] = layout.funcref(place)
        memories = [(m.address is ValType.I64) | (2 if m.shared else 0) for m in parsed.memories]
        tables = [int(t.address is ValType.I64) for t in parsed.tables]
        self.is_wide = any(memories) or any(tables)
        self._arrays = {
            ModuleFacts.FUNCTION_CELLS: array("I", [of_type[i] for i in parsed.type_indices]),
            ModuleFacts.TYPE_CELLS: array("I", of_type),
            ModuleFacts.REFERENCES: references,
            ModuleFacts.ADDRESSES: array("B", memories),
            ModuleFacts.TABLE_ADDRESSES: array("B", tables),
            ModuleFacts.GLOBAL_CELLS: array("B", [slot_cells((g.value,)) for g in parsed.globals_]),
            ModuleFacts.FINAL: array("B", [ty.is_final for ty in parsed.types]),
        }
        begins = {
            "signature": layout.signatures_at,
            "imported_function": layout.imports_at,
            "memory": layout.memories_at,
            "table": layout.tables_at,
            "imported_global": layout.imported_globals_at,
            "data_segment": layout.data_at,
            "element_segment": layout.elements_at,
            "tag": layout.tags_at,
        }
        self._words = array("q", bytes(8 * ModuleFacts.WORDS))
        for at, values in self._arrays.items():
            self._words[at // 8] = _address(values)
        for number, region in enumerate(ModuleFacts.REGIONS):
            self._words[ModuleFacts.PLACES // 8 + number] = begins[region]
        self.address = _address(self._words)


def _cells(ty: FuncType) -> int:
    """Parameters and results as handlers read them."""
    return slot_cells(ty.params) | slot_cells(ty.results) << 16
