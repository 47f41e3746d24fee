"""WebAssembly types as values. Not their binary codes (binary/) nor their LLVM forms (lower/).

Value types are interned: equal ones are one object in the whole process, so that ``is`` compares
them, whichever modules they come from. Function types compare by structure; those whose identity
is more than that (recursive groups, declared supertypes) carry a definition, see
``type_groups.py``.

Source: WebAssembly core specification 3.0, section 2.3.
"""

from __future__ import annotations

import enum
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wasinn_runtime.spec.type_groups import Definition

__all__ = [
    "PAGE_SIZE",
    "ExternKind",
    "ExternType",
    "FuncType",
    "GlobalType",
    "Heap",
    "Limits",
    "MemoryType",
    "RefType",
    "TableType",
    "TagType",
    "ValType",
    "matches",
    "ref_type",
]

PAGE_SIZE = 65536


class ValType:
    """A value type: one of the constants below, or a :class:`RefType`."""

    __slots__ = ("__weakref__", "_name")

    is_ref: ClassVar[bool] = False

    I32: ClassVar[ValType]
    I64: ClassVar[ValType]
    F32: ClassVar[ValType]
    F64: ClassVar[ValType]
    V128: ClassVar[ValType]
    FUNCREF: ClassVar[RefType]
    EXTERNREF: ClassVar[RefType]
    EXNREF: ClassVar[RefType]
    NAMED: ClassVar[tuple[ValType, ...]]
    """All types that have a name of one word."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def value(self) -> str:
        """Its name in the text format."""
        return self._name

    @property
    def is_num(self) -> bool:
        return not self.is_ref and self is not ValType.V128

    @property
    def is_defaultable(self) -> bool:
        """Whether there is a value that a local starts with: zero, or null."""
        return True

    @property
    def base(self) -> ValType:
        """What says how a value is kept: numbers and vectors themselves, of references
        ``FUNCREF``, ``EXTERNREF`` or ``EXNREF``."""
        return self

    def __reduce__(self) -> tuple[object, ...]:
        return _named, (self.value,)

    def __repr__(self) -> str:
        return self.value

    __str__ = __repr__


class Heap(enum.Enum):
    """What a reference may lead to, unless it is functions of one type."""

    FUNC = "func"
    EXTERN = "extern"
    EXN = "exn"
    # Nothing, so only null is of these types.
    NOFUNC = "nofunc"
    NOEXTERN = "noextern"
    NOEXN = "noexn"
    # Of validation alone: where nothing can be reached, it may be any of the others.
    BOTTOM = "bottom"


@final
class RefType(ValType):
    """References. Made by :func:`ref_type`.

    Attributes:
        nullable: whether null is among them.
        heap: what they lead to.
    """

    __slots__ = ("heap", "nullable")

    is_ref: ClassVar[bool] = True

    def __init__(self, nullable: bool, heap: Heap | FuncType) -> None:
        self.nullable = nullable
        self.heap = heap
        super().__init__("")

    @property
    def value(self) -> str:
        # Not kept: the function type may still be in the making.
        return _ref_name(self.nullable, self.heap)

    @property
    def is_defaultable(self) -> bool:
        return self.nullable

    @property
    def base(self) -> RefType:
        heap = self.heap
        if heap is Heap.EXTERN or heap is Heap.NOEXTERN:
            return ValType.EXTERNREF
        if heap is Heap.EXN or heap is Heap.NOEXN:
            return ValType.EXNREF
        return ValType.FUNCREF

    @property
    def non_null(self) -> RefType:
        """The same without null."""
        return ref_type(False, self.heap)

    def matches(self, other: RefType) -> bool:
        """Whether every value of this type is one of the other, too."""
        if self is other:
            return True
        if self.nullable and not other.nullable:
            return False
        heap, into = self.heap, other.heap
        if heap is Heap.BOTTOM or heap == into:
            return True
        if isinstance(heap, FuncType):
            return into is Heap.FUNC or (isinstance(into, FuncType) and heap.matches(into))
        if isinstance(into, FuncType):
            return heap is Heap.NOFUNC
        return _ABOVE.get(heap) is into

    def __reduce__(self) -> tuple[object, ...]:
        return ref_type, (self.nullable, self.heap)


def matches(type_: ValType, into: ValType) -> bool:
    """Whether a value of the type may go where the other is expected."""
    if type_ is into:
        return True
    return isinstance(type_, RefType) and isinstance(into, RefType) and type_.matches(into)


_ABOVE = {Heap.NOFUNC: Heap.FUNC, Heap.NOEXTERN: Heap.EXTERN, Heap.NOEXN: Heap.EXN}
_SHORT = {
    Heap.FUNC: "funcref",
    Heap.EXTERN: "externref",
    Heap.EXN: "exnref",
    Heap.NOFUNC: "nullfuncref",
    Heap.NOEXTERN: "nullexternref",
    Heap.NOEXN: "nullexnref",
}


def _ref_name(nullable: bool, heap: Heap | FuncType) -> str:
    if isinstance(heap, Heap):
        if nullable and heap in _SHORT:
            return _SHORT[heap]
        inner = heap.value
    else:
        # Types of types of types: what is deeper than one would make endless names.
        inner = f"(func {heap.shallow})"
    return f"(ref {'null ' if nullable else ''}{inner})"


@final
class FuncType:
    """Parameters and results of a function, in order.

    Attributes:
        params, results: as the type says.
        definition: None where the structure is all there is; see ``type_groups.py``.
    """

    __slots__ = ("__weakref__", "_hash", "definition", "params", "results")

    params: tuple[ValType, ...]
    results: tuple[ValType, ...]
    definition: Definition | None

    def __init__(
        self,
        params: Iterable[ValType] = (),
        results: Iterable[ValType] = (),
        definition: Definition | None = None,
    ) -> None:
        self.params = tuple(params)
        self.results = tuple(results)
        self.definition = definition
        # Types hash by identity; of a recursive type the parts are not there yet.
        self._hash = hash((self.params, self.results)) if definition is None else hash(definition)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, FuncType):
            return NotImplemented
        if self.definition is not None or other.definition is not None:
            return self.definition is other.definition
        return self.params == other.params and self.results == other.results

    def __hash__(self) -> int:
        return self._hash

    @property
    def is_final(self) -> bool:
        """Whether no other type can declare it as its supertype."""
        return self.definition is None or self.definition.is_final

    @property
    def supertype(self) -> FuncType | None:
        """The type that it declares to be a subtype of."""
        return None if self.definition is None else self.definition.supertype

    def matches(self, other: FuncType) -> bool:
        """Whether it is the other or declared to be a subtype of it, over any steps."""
        if other.is_final:
            return self == other
        at: FuncType | None = self
        while at is not None:
            if at == other:
                return True
            at = at.supertype
        return False

    @property
    def shallow(self) -> str:
        """Like ``str``, without what functions referred to take and leave."""

        def name(type_: ValType) -> str:
            if isinstance(type_, RefType) and isinstance(type_.heap, FuncType):
                return f"(ref {'null ' if type_.nullable else ''}(func ...))"
            return type_.value

        return f"{_side(map(name, self.params))} -> {_side(map(name, self.results))}"

    def __str__(self) -> str:
        params, results = ((t.value for t in types) for types in (self.params, self.results))
        return f"{_side(params)} -> {_side(results)}"

    def __repr__(self) -> str:
        return f"<FuncType {self}>"

    def __reduce__(self) -> tuple[object, ...]:
        if self.definition is not None:
            raise TypeError(f"{self!r} is known by its place in a module; send the module instead")
        return FuncType, (self.params, self.results)


def _side(names: object) -> str:
    return "[" + " ".join(names) + "]"  # type: ignore[arg-type]


_lock = threading.Lock()
_refs: WeakValueDictionary[tuple[bool, Heap | FuncType], RefType] = WeakValueDictionary()


def ref_type(nullable: bool, heap: Heap | FuncType) -> RefType:
    """The one object that stands for a reference type."""
    if isinstance(heap, FuncType) and heap.definition is not None:
        # Such a type may hold references to itself; a table of ours would keep both forever.
        known = heap.definition.refs
        found = known[nullable]
        if found is None:
            with _lock:
                found = known[nullable] = known[nullable] or RefType(nullable, heap)
        return found
    found = _refs.get((nullable, heap))
    if found is None:
        with _lock:
            found = _refs.get((nullable, heap))
            if found is None:
                found = _refs[(nullable, heap)] = RefType(nullable, heap)
    return found


ValType.I32 = ValType("i32")
ValType.I64 = ValType("i64")
ValType.F32 = ValType("f32")
ValType.F64 = ValType("f64")
ValType.V128 = ValType("v128")
ValType.FUNCREF = ref_type(True, Heap.FUNC)
ValType.EXTERNREF = ref_type(True, Heap.EXTERN)
ValType.EXNREF = ref_type(True, Heap.EXN)
ValType.NAMED = (
    *(ValType.I32, ValType.I64, ValType.F32, ValType.F64, ValType.V128),
    *(ref_type(True, heap) for heap in _SHORT),
)
_BY_NAME = {type_.value: type_ for type_ in ValType.NAMED}


def _named(value: str) -> ValType:
    return _BY_NAME[value]


class ExternKind(enum.Enum):
    """What an import or export is; the value is the word of the text format."""

    FUNC = "func"
    TABLE = "table"
    MEMORY = "memory"
    GLOBAL = "global"
    TAG = "tag"

    def __repr__(self) -> str:
        return self.value

    __str__ = __repr__


@dataclass(frozen=True, slots=True)
class Limits:
    """A size range: in pages of 64 KiB for memories, in elements for tables."""

    min: int
    max: int | None = None

    def __str__(self) -> str:
        return f"{self.min}" if self.max is None else f"{self.min}..{self.max}"


@dataclass(frozen=True, slots=True)
class TableType:
    """``address`` is the type of its indices and sizes: i32 or i64."""

    element: ValType
    limits: Limits
    address: ValType = ValType.I32

    def __str__(self) -> str:
        return f"table {_wide(self.address)}{self.limits} {self.element}"


@dataclass(frozen=True, slots=True)
class MemoryType:
    """``address`` is the type of its addresses and sizes: i32 or i64."""

    limits: Limits
    address: ValType = ValType.I32
    shared: bool = False

    def __str__(self) -> str:
        shared = " shared" if self.shared else ""
        return f"memory {_wide(self.address)}{self.limits} pages{shared}"


def _wide(address: ValType) -> str:
    return "i64 " if address is ValType.I64 else ""


@dataclass(frozen=True, slots=True)
class GlobalType:
    value: ValType
    mutable: bool = False

    def __str__(self) -> str:
        return f"global {'mut ' if self.mutable else ''}{self.value}"


@dataclass(frozen=True, slots=True)
class TagType:
    """An exception's tag; the parameters are what an exception carries."""

    type: FuncType

    def __str__(self) -> str:
        return f"tag {self.type}"


ExternType = FuncType | TableType | MemoryType | GlobalType | TagType
