"""Tags: what tells one kind of a guest's exceptions from others."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from wasinn_runtime.abi.layout import TagDef, slot_cells
from wasinn_runtime.errors import UsageError
from wasinn_runtime.machine import native
from wasinn_runtime.spec.types import FuncType, TagType

if TYPE_CHECKING:
    from wasinn_runtime.machine.store import Store

__all__ = ["Tag"]


class Tag:
    """A tag.

    Args:
        store: the store it belongs to.
        type: the parameters are what its exceptions carry; there are no results.
        name: for messages.

    Attributes:
        definition: address of the TagDef that stands for it in generated code.
    """

    def __init__(self, store: Store, type: FuncType | TagType, name: str = "") -> None:
        func = type.type if isinstance(type, TagType) else type
        if func.results:
            raise UsageError(f"a tag has no results, got {func}")
        cells = native.buffer(TagDef.BYTES)
        cells[TagDef.CELLS // 8] = slot_cells(func.params)
        cells[TagDef.SIGNATURE // 8] = store.engine.signature(func)
        self.store = store
        self.type = TagType(func)
        self.name = name
        self.definition = ctypes.addressof(cells)
        store.keep(cells)
        store.exceptions.tags[self.definition] = self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tag) and other.definition == self.definition

    def __hash__(self) -> int:
        return hash(self.definition)

    def __repr__(self) -> str:
        return f"<Tag {self.name or hex(self.definition)} {self.type.type}>"
