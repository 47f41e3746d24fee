"""What the threads proposal's instructions mean, as LLVM IR. See ``state.py``.

All accesses are sequentially consistent and trap unless their address is a multiple of their size.
Waiting and notifying are the host's affair (``machine/services.py``).
"""

from __future__ import annotations

from wasinn_runtime.abi.layout import VMContext
from wasinn_runtime.lower.state import Frame, memory_address, state
from wasinn_runtime.lower.writer import INVARIANT, LLVM_TYPE
from wasinn_runtime.spec.opcodes import Opcode
from wasinn_runtime.spec.traps import TrapCode

__all__: list[str] = []


def _aligned(f: Frame, row: Opcode, immediate: object, index: str) -> str:
    """Host address of an access, checked to be a multiple of its size; memories begin at one."""
    w, address = f.w, memory_address(f, row, immediate, index)
    if row.access_bytes > 1:
        number = w.let(f"ptrtoint ptr {address} to i64")
        low = w.let(f"and i64 {number}, {row.access_bytes - 1}")
        w.trap_if(w.let(f"icmp ne i64 {low}, 0"), TrapCode.UNALIGNED_ATOMIC)
    return address


def _to_memory(f: Frame, row: Opcode, value: str) -> str:
    """An operand as wide as the access."""
    assert row.params is not None
    source, target = LLVM_TYPE[row.params[1]], f"i{8 * row.access_bytes}"
    return value if source == target else f.w.let(f"trunc {source} {value} to {target}")


def _from_memory(f: Frame, row: Opcode, value: str) -> str:
    assert row.results is not None
    source, target = f"i{8 * row.access_bytes}", LLVM_TYPE[row.results[0]]
    return value if source == target else f.w.let(f"zext {source} {value} to {target}")


@state("atomic.fence")
def _fence(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    f.w.do("fence seq_cst")
    return []


@state("atomic.load")
def _load(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    address = _aligned(f, row, immediate, a[0])
    size = row.access_bytes
    value = f.w.let(f"load atomic i{8 * size}, ptr {address} seq_cst, align {size}")
    return [_from_memory(f, row, value)]


@state("atomic.store")
def _store(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    address = _aligned(f, row, immediate, a[0])
    size, value = row.access_bytes, _to_memory(f, row, a[1])
    f.w.do(f"store atomic i{8 * size} {value}, ptr {address} seq_cst, align {size}")
    return []


@state("atomic.rmw")
def _rmw(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    address = _aligned(f, row, immediate, a[0])
    value = _to_memory(f, row, a[1])
    t = f"i{8 * row.access_bytes}"
    before = f.w.let(f"atomicrmw {row.meaning[1]} ptr {address}, {t} {value} seq_cst")
    return [_from_memory(f, row, before)]


@state("atomic.cmpxchg")
def _cmpxchg(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    assert row.params is not None
    w, address = f.w, _aligned(f, row, immediate, a[0])
    bits, operand = 8 * row.access_bytes, LLVM_TYPE[row.params[1]]
    expected, wanted = _to_memory(f, row, a[1]), _to_memory(f, row, a[2])
    narrow = operand != f"i{bits}"
    start, done, exchange = w.block, w.new_label("seen"), w.new_label("exchange")
    if narrow:  # what does not fit the access is never found there
        high = w.let(f"lshr {operand} {a[1]}, {bits}")
        before = w.let(f"load atomic i{bits}, ptr {address} seq_cst, align {row.access_bytes}")
        fits = w.let(f"icmp eq {operand} {high}, 0")
        w.do(f"br i1 {fits}, label %{exchange}, label %{done}")
        w.label(exchange)
    pair = w.let(f"cmpxchg ptr {address}, i{bits} {expected}, i{bits} {wanted} seq_cst seq_cst")
    found = w.let(f"extractvalue {{ i{bits}, i1 }} {pair}, 0")
    if narrow:
        w.do(f"br label %{done}")
        w.label(done)
        found = w.let(f"phi i{bits} [ {before}, %{start} ], [ {found}, %{exchange} ]")
    return [_from_memory(f, row, found)]


def _store_context(f: Frame) -> str:
    return f.w.load_field(f.vm, VMContext.STORE, "ptr", INVARIANT)


def _touch(f: Frame, row: Opcode, address: str) -> None:
    """Trap if the address is not inside: waiting and notifying are accesses, too."""
    bits = 8 * row.access_bytes
    f.w.let(f"load atomic volatile i{bits}, ptr {address} seq_cst, align {row.access_bytes}")


@state("atomic.wait")
def _wait(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    assert isinstance(immediate, tuple)
    w, bits = f.w, 8 * row.access_bytes
    if not f.module.memories[immediate[2]].shared:
        w.trap_if("true", TrapCode.EXPECTED_SHARED_MEMORY)
        return ["0"]
    address = _aligned(f, row, immediate, a[0])
    _touch(f, row, address)
    expected = a[1] if bits == 64 else w.let(f"zext i32 {a[1]} to i64")
    operands = f"ptr {address}, i64 {expected}, i64 {a[2]}, i64 {bits}"
    return [w.let(f"call i32 @wasinn_wait(ptr {_store_context(f)}, {operands})")]


@state("atomic.notify")
def _notify(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    assert isinstance(immediate, tuple)
    w, address = f.w, _aligned(f, row, immediate, a[0])
    _touch(f, row, address)
    if not f.module.memories[immediate[2]].shared:
        return ["0"]
    count = f"i32 {a[1]}"
    return [w.let(f"call i32 @wasinn_notify(ptr {_store_context(f)}, ptr {address}, {count})")]
