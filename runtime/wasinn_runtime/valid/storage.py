"""Validation's rules for instructions on tables, memories and lanes of vectors.

Source: WebAssembly core specification 3.0, section 3.3; threads proposal, section 3.3.
"""

from __future__ import annotations

from wasinn_runtime.spec.opcodes import Imm
from wasinn_runtime.spec.types import TableType, ValType, matches
from wasinn_runtime.valid.operands import Operands

__all__ = ["StorageRules"]

_I32 = ValType.I32
_I64 = ValType.I64


class StorageRules(Operands):
    """One method for each family, called with the instruction's immediate."""

    def _table(self, index: object) -> TableType:
        return self.module.tables[self._index("table", index, len(self.module.tables))]

    def _table_get(self, imm: object) -> None:
        table = self._table(imm)
        self._pop(table.address)
        self.stack.append(table.element)

    def _table_set(self, imm: object) -> None:
        table = self._table(imm)
        self._pop_all((table.address, table.element))

    def _table_size(self, imm: object) -> None:
        self.stack.append(self._table(imm).address)

    def _table_grow(self, imm: object) -> None:
        table = self._table(imm)
        self._pop_all((table.element, table.address))
        self.stack.append(table.address)

    def _table_fill(self, imm: object) -> None:
        table = self._table(imm)
        self._pop_all((table.address, table.element, table.address))

    def _table_copy(self, imm: object) -> None:
        assert isinstance(imm, tuple)
        into, source = map(self._table, imm)
        self._may_hold(into, source.element)
        self._pop_all((into.address, source.address, _smaller(into.address, source.address)))

    def _table_init(self, imm: object) -> None:
        assert isinstance(imm, tuple)
        into = self._table(imm[1])
        self._may_hold(into, self._elements(imm[0]))
        self._pop_all((into.address, _I32, _I32))

    def _may_hold(self, table: TableType, element: ValType) -> None:
        if not matches(element, table.element):
            raise self._mismatch(table.element, element)

    def _elem_drop(self, imm: object) -> None:
        self._elements(imm)

    def _elements(self, index: object) -> ValType:
        segments = self.module.elements
        return segments[self._index("elem segment", index, len(segments))].type

    def _data(self, index: object) -> None:
        self._index("data segment", index, self.module.data_count or 0)

    def _memory_size(self, imm: object) -> None:
        self.stack.append(self._memory(imm).address)

    def _memory_grow(self, imm: object) -> None:
        address = self._memory(imm).address
        self._pop(address)
        self.stack.append(address)

    def _memory_fill(self, imm: object) -> None:
        address = self._memory(imm).address
        self._pop_all((address, _I32, address))

    def _memory_copy(self, imm: object) -> None:
        assert isinstance(imm, tuple)
        into, source = (self._memory(index).address for index in imm)
        self._pop_all((into, source, _smaller(into, source)))

    def _memory_init(self, imm: object) -> None:
        assert isinstance(imm, tuple)
        address = self._memory(imm[1]).address
        self._data(imm[0])
        self._pop_all((address, _I32, _I32))

    def _atomic(self, imm: object) -> None:
        """An access of the threads proposal: its alignment is its size."""
        assert isinstance(imm, tuple)
        row = self.row
        self._memory(imm[2])
        if 1 << imm[0] != row.access_bytes:
            raise self._invalid(
                f"alignment must be natural: {row.name} of {row.access_bytes} bytes, "
                f"alignment 2**{imm[0]}"
            )
        self._access(row, imm, self.at)

    def _vector(self, imm: object) -> None:
        """Rows of vectors whose lanes must exist."""
        what = self.row.imm
        if what is Imm.LANE:
            self._lane(imm)
        elif what is Imm.LANES:
            assert isinstance(imm, tuple)
            self._lane(max(imm))
        elif what is Imm.MEMARG_LANE:
            assert isinstance(imm, tuple)
            if imm[0] > self.row.access_bytes.bit_length() - 1:
                self._memory_access(self.row, imm, self.at)
            self._lane(imm[3])
            self._access(self.row, imm, self.at)
            return
        self._typed(self.row, self.at)

    def _by_signature(self, imm: object) -> None:
        self._typed(self.row, self.at)

    def _lane(self, lane: object) -> None:
        assert isinstance(lane, int)
        if lane >= self.row.lanes:
            count = self.row.lanes
            raise self._invalid(f"invalid lane index {lane}: {self.row.name} has {count} lanes")


def _smaller(one: ValType, other: ValType) -> ValType:
    """The type of a size that fits both kinds of addresses."""
    return _I64 if one is _I64 and other is _I64 else _I32
