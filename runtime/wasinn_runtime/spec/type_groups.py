"""Identity of function types that are recursive or have supertypes. Not their binary form.

WebAssembly compares types by the groups in which they are defined: two types are one if their
groups look the same, with references into the group told apart by position. A group that
was seen before, in whatever module, gives the same objects again; types become equal where
they should, also between modules.

A type that stands alone, refers to no part of itself, and neither has nor may have other types
below or above it, needs no definition: it equals what has the same parameters and results.

Source: WebAssembly core specification 3.0, sections 3.1.3 (rolling), 3.3.12 (subtyping).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import NamedTuple
from weakref import WeakValueDictionary

from wasinn_runtime.spec.types import FuncType, RefType, ValType, ref_type

__all__ = ["Definition", "GroupEntry", "Inner", "define_group"]


class Inner(NamedTuple):
    """A reference to a type of the group that is being defined, by position in it."""

    nullable: bool
    position: int


class GroupEntry(NamedTuple):
    """One type of a group; ``supertype`` is a position in the group or a type before it."""

    params: tuple[ValType | Inner, ...]
    results: tuple[ValType | Inner, ...]
    is_final: bool = True
    supertype: FuncType | int | None = None


class Definition:
    """What a type is beside its structure; compared by identity.

    Attributes:
        is_final: whether no type may name it as its supertype.
        supertype: the type that it is declared to be a subtype of.
        depth: how many supertypes are above it.
        refs: the reference types to it, without and with null, once they were asked for.
    """

    __slots__ = ("depth", "group", "is_final", "refs", "supertype")

    def __init__(self, group: _Group, is_final: bool) -> None:
        self.group = group
        self.is_final = is_final
        self.supertype: FuncType | None = None
        self.depth = 0
        self.refs: list[RefType | None] = [None, None]


class _Group:
    """The types of a group; they live and die together."""

    __slots__ = ("__weakref__", "types")

    def __init__(self) -> None:
        self.types: list[FuncType] = []


_lock = threading.Lock()
_groups: WeakValueDictionary[tuple[GroupEntry, ...], _Group] = WeakValueDictionary()


def define_group(entries: Sequence[GroupEntry]) -> list[FuncType]:
    """The types that a recursive group defines.

    Args:
        entries: at least one; supertypes by position stand before the type that names them.
    """
    if len(entries) == 1:
        alone = _structural(entries[0])
        if alone is not None:
            return [alone]
    key = tuple(entries)
    with _lock:
        group = _groups.get(key)
        if group is None:
            group = _make(key)
            _groups[key] = group
    return group.types


def _structural(entry: GroupEntry) -> FuncType | None:
    if not entry.is_final or entry.supertype is not None:
        return None
    if any(isinstance(t, Inner) for types in (entry.params, entry.results) for t in types):
        return None
    return FuncType(entry.params, entry.results)  # type: ignore[arg-type]  # no Inner among them


def _make(entries: tuple[GroupEntry, ...]) -> _Group:
    group = _Group()
    types = group.types
    for entry in entries:
        types.append(FuncType((), (), Definition(group, entry.is_final)))

    def resolved(parts: tuple[ValType | Inner, ...]) -> tuple[ValType, ...]:
        return tuple(
            [ref_type(t.nullable, types[t.position]) if isinstance(t, Inner) else t for t in parts]
        )

    for type_, entry in zip(types, entries, strict=True):
        definition = type_.definition
        assert definition is not None
        above = entry.supertype
        definition.supertype = types[above] if isinstance(above, int) else above
        if definition.supertype is not None:
            upper = definition.supertype.definition
            definition.depth = 1 + (0 if upper is None else upper.depth)
        type_.params = resolved(entry.params)
        type_.results = resolved(entry.results)
    return group
