"""What compiled code of a module looks like from outside, known without writing any of it.

A module whose code comes from the cache needs this and nothing else of the lowering.
"""

from __future__ import annotations

from wasinn_runtime.abi.layout import VMLayout
from wasinn_runtime.binary.code import Body
from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.lower.writer import LLVM_TYPE
from wasinn_runtime.spec.opcodes import ROWS, Imm
from wasinn_runtime.spec.types import ExternKind, FuncType

__all__ = [
    "ENTRIES_SYMBOL",
    "callees",
    "escaping_functions",
    "indirect_types",
    "layout_of",
    "trampoline_names",
]

ENTRIES_SYMBOL = "wasinn_entries"

_CALLS = frozenset(row for row in ROWS if row.imm is Imm.FUNC and row.meaning[0] != "ref.func")
_INDIRECT_CALLS = frozenset(
    row for row in ROWS if row.meaning[0] in ("call_indirect", "return_call_indirect")
)


def layout_of(module: ParsedModule) -> VMLayout:
    """The layout of the module's VMContext."""
    return VMLayout(
        types=len(module.types),
        imported_functions=module.imported_functions,
        memories=len(module.memories),
        tables=len(module.tables),
        imported_globals=module.imported_globals,
        defined_globals=len(module.global_defs),
        data_segments=len(module.data_segments),
        element_segments=len(module.elements),
        escaping=len(escaping_functions(module)),
        tags=len(module.tag_indices),
    )


def escaping_functions(module: ParsedModule) -> list[int]:
    """Functions that somebody may reach by reference: exported, in segments or globals, start.

    Everything ``ref.func`` may name in code is declared in one of these places. In index order,
    imports included.
    """
    found = {e.index for e in module.exports if e.kind is ExternKind.FUNC}
    expressions = [d.init for d in module.global_defs]
    expressions.extend(init for init in module.table_inits if init is not None)
    for segment in module.elements:
        expressions.extend(segment.init)
    for expression in expressions:
        for row, immediate, _ in expression:
            if row.meaning[0] == "ref.func":
                assert isinstance(immediate, int)
                found.add(immediate)
    if module.start is not None:
        found.add(module.start)
    return sorted(found)


def trampoline_names(ty: FuncType) -> tuple[str, str, str]:
    """Symbols of a signature's adapters; see ``machine.native.Trampolines``."""
    letters = {"i32": "i", "i64": "l", "float": "f", "double": "d", "ptr": "p"}
    letters["<16 x i8>"] = "v"
    sides = ["".join(letters[LLVM_TYPE[t]] for t in side) for side in (ty.params, ty.results)]
    name = f"{sides[0]}_{sides[1]}"
    return f"wasinn_enter_{name}", f"wasinn_spill_{name}", f"wasinn_jump_{name}"


def callees(body: Body) -> set[int]:
    """The functions that a body calls by number, imported ones among them."""
    return {
        immediate
        for row, immediate, _ in body.instructions
        if row in _CALLS and isinstance(immediate, int)
    }


def indirect_types(module: ParsedModule, body: Body) -> set[FuncType]:
    """The types of the functions that a body calls through tables."""
    return {
        module.types[immediate[0]]
        for row, immediate, _ in body.instructions
        if row in _INDIRECT_CALLS and isinstance(immediate, tuple)
    }
