"""Types from bytes: value types, heap types, limits, groups of function types.

A type index is resolved here, since a type that names it *is* the type that it stands for. One
that does not exist makes the module invalid, not malformed.

Source: WebAssembly core specification 3.0, section 5.3.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, cast

from wasinn_runtime.binary.reader import Reader, signed, unsigned
from wasinn_runtime.errors import Invalid, Malformed
from wasinn_runtime.spec import limits
from wasinn_runtime.spec.type_groups import GroupEntry, Inner, define_group
from wasinn_runtime.spec.types import (
    FuncType,
    GlobalType,
    Heap,
    Limits,
    MemoryType,
    RefType,
    TableType,
    ValType,
    matches,
    ref_type,
)

if TYPE_CHECKING:
    from wasinn_runtime.binary.module import ParsedModule

__all__ = ["TypeReader", "needs"]

_GC = "garbage collection"

# Source: section 5.3.1 to 5.3.4. The feature that a type needs beside it.
_NUMBERS = {
    0x7F: (ValType.I32, "mvp"),
    0x7E: (ValType.I64, "mvp"),
    0x7D: (ValType.F32, "mvp"),
    0x7C: (ValType.F64, "mvp"),
    0x7B: (ValType.V128, "simd"),
}
_HEAPS = {
    # Tables of funcref are as old as WebAssembly.
    0x70: (Heap.FUNC, "mvp"),
    0x6F: (Heap.EXTERN, "reference-types"),
    0x69: (Heap.EXN, "exceptions"),
    0x73: (Heap.NOFUNC, "function-references"),
    0x72: (Heap.NOEXTERN, "function-references"),
    0x74: (Heap.NOEXN, "exceptions"),
}
_NAMES_OF_GC = {
    0x71: "none",
    0x6E: "any",
    0x6D: "eq",
    0x6C: "i31",
    0x6B: "struct",
    0x6A: "array",
    0x78: "i8",
    0x77: "i16",
    0x5F: "a structure type",
    0x5E: "an array type",
}
_REF_NULL, _REF = 0x63, 0x64
_FUNC_TYPE, _SUB, _SUB_FINAL, _GROUP = 0x60, 0x50, 0x4F, 0x4E
_HAS_MAX, _SHARED, _WIDE = 1, 2, 4


def needs(feature: str) -> str:
    """How a refusal names what would be needed."""
    if feature == _GC:
        return f"needs {feature}, which is not supported; compile without it"
    return f"needs the feature {feature}, which is not enabled; compile without it, or enable it"


@cache
def _known(features: frozenset[str]) -> dict[int, ValType]:
    """The value types that are written in one byte."""
    found = {code: type_ for code, (type_, feature) in _NUMBERS.items() if feature in features}
    for code, (heap, feature) in _HEAPS.items():
        if feature in features:
            found[code] = ref_type(True, heap)
    return found


class TypeReader(Reader):
    """A position in a module's bytes where types may come.

    Args:
        module: gives the bytes, the features, and the types that an index means.
    """

    __slots__ = ("_inner", "_is_recursive", "_one_byte", "module")

    def __init__(self, module: ParsedModule, pos: int = 0) -> None:
        super().__init__(module.data, module.where, pos)
        self.module = module
        self._one_byte = _known(module.features)
        # Where the group that is being read starts and ends, among all types.
        self._inner = range(0)
        self._is_recursive = False

    def has(self, feature: str) -> bool:
        return feature in self.module.features

    def invalid(self, message: str, offset: int) -> Invalid:
        return Invalid(message, offset, self.where)

    # --- value types -----------------------------------------------------------------------------

    def value_type(self) -> ValType:
        at = self.pos
        code = self.data[at]
        self.pos = at + 1
        type_ = self._one_byte.get(code)
        if type_ is not None:
            return type_
        if code in (_REF_NULL, _REF) and self.has("function-references"):
            return self._reference(code == _REF_NULL)
        raise self._no_type(code, at, "value")

    def ref_type(self) -> RefType:
        """A reference type; of a table, a segment or a ``select``."""
        at = self.pos
        code = self.data[at]
        if code in _NUMBERS:
            raise self._no_type(code, at, "reference")
        type_ = self.value_type()
        # While a group is open, a type may stand for itself; no table can be defined there.
        assert isinstance(type_, RefType)
        return type_

    def null_type(self) -> RefType:
        """A heap type, as the reference type with null."""
        at = self.pos
        if self.data[at] in _HEAPS or not self.has("function-references"):
            code = self.byte()
            found = self._one_byte.get(code)
            if not isinstance(found, RefType):
                raise self._no_type(code, at, "reference")
            return found
        return cast(RefType, self._reference(True))

    def _reference(self, nullable: bool) -> ValType:
        """What follows is a heap type."""
        at = self.pos
        code = self.data[at]
        heap, feature = _HEAPS.get(code, (None, ""))
        if heap is not None:
            if not self.has(feature):
                raise self._no_type(code, at, "heap")
            self.pos += 1
            return ref_type(nullable, heap)
        index, self.pos = signed(self.data, at, 33, self.where)
        if index < 0:
            raise self._no_type(code, at, "heap")
        if index in self._inner:
            # Taken out again by the group that is being read; nobody else sees it.
            self._is_recursive = True
            return cast(ValType, Inner(nullable, index - self._inner.start))
        return ref_type(nullable, self.type_at(index, at))

    def type_at(self, index: int, at: int) -> FuncType:
        """The function type of an index.

        Raises:
            Invalid: there is no such type.
        """
        types = self.module.types
        if index >= len(types):
            there = f"there are {len(types)}" if types else "there is none"
            raise self.invalid(f"unknown type {index}: {there} before it", at)
        return types[index]

    def _no_type(self, code: int, at: int, what: str) -> Malformed:
        message = f"malformed {what} type {code:#04x}"
        if code in _NAMES_OF_GC:
            message += f": {_NAMES_OF_GC[code]} {needs(_GC)}"
        elif code in _NUMBERS:
            type_, feature = _NUMBERS[code]
            message += f": {type_} {'is no reference' if what != 'value' else needs(feature)}"
        elif code in _HEAPS:
            heap, feature = _HEAPS[code]
            message += f": {heap.value} {needs(feature)}"
        elif code in (_REF_NULL, _REF):
            message += f": a typed reference {needs('function-references')}"
        return self.malformed(message, at)

    # --- sizes, tables, memories, globals --------------------------------------------------------

    def _limits(self) -> tuple[Limits, int]:
        """The limits, and the flags before them."""
        at = self.pos
        if self.has("memory64") or self.has("threads"):
            flags = self.byte()
            if flags > _HAS_MAX | _SHARED | _WIDE:
                raise self.malformed(f"malformed limits flags {flags:#04x}", at)
            for flag, feature in ((_SHARED, "threads"), (_WIDE, "memory64")):
                if flags & flag and not self.has(feature):
                    raise self.malformed(
                        f"malformed limits flags {flags:#04x}: {needs(feature)}", at
                    )
        else:
            flags = self._old_flags()
        bits = 64 if self.has("memory64") else 32
        least, self.pos = unsigned(self.data, self.pos, bits, self.where)
        most: int | None = None
        if flags & _HAS_MAX:
            most, self.pos = unsigned(self.data, self.pos, bits, self.where)
        return Limits(least, most), flags

    def _old_flags(self) -> int:
        at = self.pos
        try:
            return self.flag()
        except Malformed as error:
            flags = self.data[at]
            hint = {_SHARED: "threads", _SHARED | _HAS_MAX: "threads"}.get(flags)
            if _WIDE <= flags <= _WIDE | _HAS_MAX:
                hint = "memory64"
            if hint is None:
                raise
            raise self.malformed(f"{error.message}; {needs(hint)}", at) from None

    def table_type(self) -> TableType:
        element = self.ref_type()
        at = self.pos
        size, flags = self._limits()
        if flags & _SHARED:
            raise self.malformed(f"malformed limits flags {flags:#04x}: a shared table", at)
        return TableType(element, size, ValType.I64 if flags & _WIDE else ValType.I32)

    def memory_type(self) -> MemoryType:
        size, flags = self._limits()
        address = ValType.I64 if flags & _WIDE else ValType.I32
        return MemoryType(size, address, bool(flags & _SHARED))

    def global_type(self) -> GlobalType:
        type_ = self.value_type()
        at = self.pos
        mutable = self.byte()
        if mutable > 1:
            raise self.malformed(f"malformed mutability {mutable:#04x}", at)
        return GlobalType(type_, bool(mutable))

    # --- function types --------------------------------------------------------------------------

    def type_group(self) -> None:
        """A recursive group of types, or a type that stands alone; into ``module.types``."""
        types = self.module.types
        first = len(types)
        if first >= limits.MAX_TYPES:
            raise self.malformed(f"too many types: at most {limits.MAX_TYPES} are supported")
        count = 1
        if self.data[self.pos] == _GROUP and self.has("function-references"):
            self.pos += 1
            count = self.count(limits.MAX_TYPES, "types")
            if first + count > limits.MAX_TYPES:
                raise self.malformed(
                    f"too many types: {first + count}, at most {limits.MAX_TYPES} are supported"
                )
        self._inner = range(first, first + count)
        self._is_recursive = False
        places = []
        entries = []
        for position in range(count):
            places.append(self.pos)
            entries.append(self._entry(first, position))
        self._inner = range(0)
        if count == 0:
            return
        if count == 1 and not self._is_recursive and entries[0].is_final:
            params, results, _, above = entries[0]
            if above is None:
                types.append(FuncType(params, results))  # type: ignore[arg-type]
                return
        types.extend(define_group(entries))
        for position, entry in enumerate(entries):
            if entry.supertype is not None:
                self._check_subtype(first + position, places[position])

    def _entry(self, first: int, position: int) -> GroupEntry:
        code = self.data[self.pos]
        above: FuncType | int | None = None
        is_final = True
        if code in (_SUB, _SUB_FINAL) and self.has("function-references"):
            self.pos += 1
            is_final = code == _SUB_FINAL
            at = self.pos
            count = self.count(limits.MAX_TYPES, "supertypes")
            if count > 1:
                raise self.invalid(f"sub type with {count} supertypes, at most 1 is allowed", at)
            if count:
                index = self.u32()
                if index >= first + position:
                    raise self.invalid(f"unknown type {index}: a supertype must come before", at)
                above = index - first if index >= first else self.module.types[index]
        at = self.pos
        code = self.byte()
        if code != _FUNC_TYPE:
            # A type's form is a 7-bit integer, and the suite wants to hear of it.
            if code >= 0x80:
                raise self.malformed("integer representation too long", at)
            message = f"malformed function type {code:#04x}"
            if code in _NAMES_OF_GC:
                message += f": {_NAMES_OF_GC[code]} {needs(_GC)}"
            elif code in (_GROUP, _SUB, _SUB_FINAL) and not self.has("function-references"):
                message += f": {needs('function-references')}"
            raise self.malformed(message, at)
        params = self._types(limits.MAX_PARAMS, "parameters")
        return GroupEntry(params, self._types(limits.MAX_RESULTS, "results"), is_final, above)

    def _types(self, most: int, what: str) -> tuple[ValType, ...]:
        return tuple([self.value_type() for _ in range(self.count(most, what))])

    def _check_subtype(self, index: int, at: int) -> None:
        type_ = self.module.types[index]
        above = type_.supertype
        assert above is not None
        if above.is_final:
            raise self.invalid(f"sub type {index} does not match super type: that is final", at)
        depth = 0 if type_.definition is None else type_.definition.depth
        if depth > limits.MAX_SUBTYPE_DEPTH:
            most = limits.MAX_SUBTYPE_DEPTH
            raise self.invalid(f"sub type {index} is {depth} deep, at most {most} is allowed", at)
        fits = (
            len(type_.params) == len(above.params)
            and len(type_.results) == len(above.results)
            and all(map(matches, above.params, type_.params))
            and all(map(matches, type_.results, above.results))
        )
        if not fits:
            raise self.invalid(
                f"sub type {index} does not match super type: {type_} is not below {above}", at
            )
