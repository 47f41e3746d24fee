"""Running one module in an engine, step by step, the same way in all of them.

A player instantiates, calls exports with arguments that follow from the seed, and notes outcome
and state after each step. It judges nothing.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import wasmtime

import wasinn_runtime as wasinn
from tests.differential.cases import Unusable
from tests.differential.records import EXHAUSTED, UNFINISHED, Record, Step
from tests.differential.values import Argument, arguments, digest, host_results, shown
from tests.differential.variants import VARIANTS, Variant
from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.spec import types as wasinn_types
from wasinn_runtime.spec.features import ALL_FEATURES

__all__ = ["WASMTIME", "Call", "Player", "WasinnPlayer", "WasmtimePlayer", "plan"]

WASMTIME = "wasmtime"
_MOST_CALLS = 16
_THROWN = "an exception that nobody caught"
_FUEL = 20_000_000
_DEADLINE_S = 10.0
_ELEMENTS = 40

# Types whose values both Python packages bring. Wasmtime's ends the process at others.
_COMPARED = frozenset({"i32", "i64", "f32", "f64", "funcref", "externref"})

_TRAPS = {
    wasmtime.TrapCode.STACK_OVERFLOW: EXHAUSTED,
    wasmtime.TrapCode.MEMORY_OUT_OF_BOUNDS: "trap: out of bounds memory access",
    wasmtime.TrapCode.HEAP_MISALIGNED: "trap: unaligned atomic",
    wasmtime.TrapCode.TABLE_OUT_OF_BOUNDS: "trap: out of bounds table access",
    wasmtime.TrapCode.INDIRECT_CALL_TO_NULL: "trap: uninitialized element",
    wasmtime.TrapCode.BAD_SIGNATURE: "trap: indirect call type mismatch",
    wasmtime.TrapCode.INTEGER_OVERFLOW: "trap: integer overflow",
    wasmtime.TrapCode.INTEGER_DIVISION_BY_ZERO: "trap: integer divide by zero",
    wasmtime.TrapCode.BAD_CONVERSION_TO_INTEGER: "trap: invalid conversion to integer",
    wasmtime.TrapCode.UNREACHABLE: "trap: unreachable",
    wasmtime.TrapCode.NULL_REFERENCE: "trap: null function reference",
    wasmtime.TrapCode.ATOMIC_WAIT_NON_SHARED_MEMORY: "trap: expected shared memory",
    wasmtime.TrapCode.OUT_OF_FUEL: UNFINISHED,
}


@dataclass(frozen=True, slots=True)
class Call:
    """A call of an export, with the names of its types."""

    name: str
    params: tuple[str, ...]
    results: tuple[str, ...]
    arguments: tuple[Argument, ...]

    def __str__(self) -> str:
        return f"{self.name}({shown(self.params, self.arguments)})"


class Player(ABC):
    """An engine about to run one module. Use once."""

    name: str

    def __init__(self) -> None:
        self._host_calls: list[str] = []

    def play(self, data: bytes, calls: list[Call]) -> Record:
        """Instantiate and make the calls.

        Raises:
            Unusable: what the module imports can not be given to it.
        """
        steps = [Step("instantiate", self._outcome(lambda: self.instantiate(data)))]
        if steps[0].outcome == "returned":
            steps[0] = Step("instantiate", "returned", dict(self._state()))
            for call in calls:
                outcome = self._outcome(lambda call=call: self.call(call))  # type: ignore[misc]
                steps.append(Step(str(call), outcome, dict(self._state())))
                if outcome in (EXHAUSTED, UNFINISHED):
                    break
        return Record(self.name, steps)

    def _outcome(self, action: Callable[[], str]) -> str:
        """What came of it, traps included."""
        try:
            return action()
        except self.traps as error:
            return self.trap(error)

    def _state(self) -> Iterator[tuple[str, str]]:
        if self._host_calls:
            yield "calls of the host", " ".join(self._host_calls)
        yield from self.state()

    def _host(
        self, name: str, params: tuple[str, ...], results: tuple[str, ...]
    ) -> Callable[..., object]:
        """A host function of that type, whose results follow from how often any was called."""

        def function(*values: object) -> object:
            self._host_calls.append(f"{name}({shown(params, values)})")
            given = host_results(len(self._host_calls), results)
            return given[0] if len(given) == 1 else tuple(given) or None

        return function

    traps: type[Exception] | tuple[type[Exception], ...]

    @abstractmethod
    def trap(self, error: Exception) -> str:
        """A trap's name, with the specification's words."""

    @abstractmethod
    def instantiate(self, data: bytes) -> str:
        """Bring the module to life; ``returned``, or why it is refused."""

    @abstractmethod
    def call(self, call: Call) -> str:
        """Call an export; its results as text."""

    @abstractmethod
    def state(self) -> Iterator[tuple[str, str]]:
        """Every exported memory, global and table, as text."""


# --- ours ---------------------------------------------------------------------------------------


class WasinnPlayer(Player):
    """One of our modes, or a variant of one."""

    traps = (wasinn.Trap, wasinn.WasmException, wasinn.LinkError, wasinn.LimitExceeded)

    def __init__(self, engine: wasinn.Engine, variant: Variant | None = None) -> None:
        super().__init__()
        self._variant = variant or VARIANTS[engine.config.mode]
        self.name = self._variant.name
        self._engine = engine
        self._store = wasinn.Store(engine)
        self._instance: wasinn.Instance | None = None

    def trap(self, error: Exception) -> str:
        if isinstance(error, wasinn.Interrupted):
            return UNFINISHED
        if isinstance(error, wasinn.WasmException):
            return _THROWN
        return f"trap: {error.code}" if isinstance(error, wasinn.Trap) else f"refused: {error}"

    def instantiate(self, data: bytes) -> str:
        module = self._variant.module(self._engine, data)
        linker = wasinn.Linker(self._engine)
        for where, name, ty in module.imports:
            if not isinstance(ty, wasinn.FuncType):
                raise Unusable(f"imports {where}.{name}, which is no function")
            params, results = _names(ty.params), _names(ty.results)
            linker.define_func(where, name, ty, self._host(name, params, results))
        with self._store.deadline(_DEADLINE_S):
            self._instance = linker.instantiate(self._store, module)
        return "returned"

    def call(self, call: Call) -> str:
        assert self._instance is not None
        function = self._instance.exports[call.name]
        assert isinstance(function, wasinn.Func)
        with self._store.deadline(_DEADLINE_S):
            got = function(*call.arguments)
        return f"returned {shown(call.results, _tuple(got, len(call.results)))}"

    def state(self) -> Iterator[tuple[str, str]]:
        assert self._instance is not None
        for name, item in self._instance.exports.items():
            if isinstance(item, wasinn.Memory):
                yield name, digest(item.read(0, item.byte_length))
            elif isinstance(item, wasinn.Global) and item.type.value.value in _COMPARED:
                yield name, shown((item.type.value.value,), (item.value,))
            elif isinstance(item, wasinn.Table):
                kind = item.type.element.value
                count = min(item.size, _ELEMENTS) if kind in _COMPARED else 0
                seen = [_shown_element(kind, item[i]) for i in range(count)]
                yield name, f"{item.size}: {' '.join(seen)}"


def _names(types: tuple[wasinn.ValType, ...]) -> tuple[str, ...]:
    return tuple(ty.value for ty in types)


# --- wasmtime -----------------------------------------------------------------------------------


class WasmtimePlayer(Player):
    """The reference."""

    name = WASMTIME
    traps = (wasmtime.Trap, wasmtime.WasmtimeError)

    def __init__(self, engine: wasmtime.Engine) -> None:
        super().__init__()
        self._engine = engine
        self._store = wasmtime.Store(engine)
        self._store.set_fuel(_FUEL)
        self._exports: dict[str, object] = {}
        self._kinds: dict[str, str] = {}

    @staticmethod
    def engine(*, canonical: bool = True) -> wasmtime.Engine:
        """One with every proposal, deterministic where a proposal leaves a choice.

        Args:
            canonical: whether the NaNs of arithmetic are canonical, or the machine's.
        """
        config = wasmtime.Config()
        config.consume_fuel = True
        config.cranelift_nan_canonicalization = canonical
        for feature in (
            *("exceptions", "function_references", "gc", "memory64", "multi_memory"),
            *("relaxed_simd", "relaxed_simd_deterministic", "simd", "tail_call", "threads"),
        ):
            setattr(config, f"wasm_{feature}", True)
        return wasmtime.Engine(config)

    def trap(self, error: Exception) -> str:
        if "thrown Wasm exception" in str(error):  # of a start function it is no Trap
            return _THROWN
        if isinstance(error, wasmtime.Trap):
            code = error.trap_code
            return _TRAPS.get(code, f"trap: {code}") if code else f"trap: {error.message}"
        return f"refused: {error}"

    def instantiate(self, data: bytes) -> str:
        module = wasmtime.Module(self._engine, data)
        self._kinds = _kinds(data)
        linker = wasmtime.Linker(self._engine)
        for item in module.imports:
            ty, name = item.type, item.name or ""
            if not isinstance(ty, wasmtime.FuncType):
                raise Unusable(f"imports {item.module}.{name}, which is no function")
            host = self._host(name, _texts(ty.params), _texts(ty.results))
            linker.allow_shadowing = True
            linker.define_func(item.module, name, ty, host)
        instance = linker.instantiate(self._store, module)
        self._exports = dict(instance.exports(self._store).items())
        return "returned"

    def call(self, call: Call) -> str:
        function = self._exports[call.name]
        assert isinstance(function, wasmtime.Func)
        self._store.set_fuel(_FUEL)
        got = function(self._store, *call.arguments)
        return f"returned {shown(call.results, _tuple(got, len(call.results)))}"

    def state(self) -> Iterator[tuple[str, str]]:
        for name, item in self._exports.items():
            if isinstance(item, wasmtime.Memory):
                yield name, digest(bytes(item.read(self._store)))
            elif isinstance(item, wasmtime.Global):
                kind = self._kinds[name]
                if kind in _COMPARED:
                    yield name, _shown_element(kind, item.value(self._store))
            elif isinstance(item, wasmtime.Table):
                kind = self._kinds[name]
                size = item.size(self._store)
                count = min(size, _ELEMENTS) if kind in _COMPARED else 0
                seen = [_shown_element(kind, item.get(self._store, i)) for i in range(count)]
                yield name, f"{size}: {' '.join(seen)}"


def _texts(types: list[wasmtime.ValType]) -> tuple[str, ...]:
    return tuple(map(str, types))


def plan(data: bytes, seed: int) -> list[Call]:
    """Which exports to call with what; each twice. The seed and an export's name decide.

    Raises:
        Unusable: nothing can be called.
        Malformed: our decoder refuses it.
    """
    # Our decoder says what there is: to ask wasmtime's package about a v128 ends the process.
    parsed = decode(data, "module", ALL_FEATURES)
    calls = []
    for turn in range(2):
        for item in parsed.exports:
            if item.kind is not wasinn_types.ExternKind.FUNC:
                continue
            ty = parsed.func_type(item.index)
            params, results = _names(ty.params), _names(ty.results)
            if not set(results) <= _COMPARED:
                continue
            try:
                given = arguments(random.Random(f"{seed} {turn} {item.name}"), params)
            except KeyError:
                continue
            calls.append(Call(item.name, params, results, tuple(given)))
    if not calls:
        raise Unusable("it exports no function that can be called")
    return calls[:_MOST_CALLS]


def _kinds(data: bytes) -> dict[str, str]:
    """The type of each exported global's value and of each exported table's elements."""
    parsed = decode(data, "module", ALL_FEATURES)
    kinds = {}
    for item in parsed.exports:
        if item.kind is wasinn_types.ExternKind.GLOBAL:
            kinds[item.name] = parsed.globals_[item.index].value.value
        elif item.kind is wasinn_types.ExternKind.TABLE:
            kinds[item.name] = parsed.tables[item.index].element.value
    return kinds


# --- both ---------------------------------------------------------------------------------------


def _tuple(got: object, count: int) -> tuple[object, ...]:
    """The results of a call as a tuple."""
    if count == 1:
        return (got,)
    return tuple(got) if isinstance(got, list | tuple) else ()


def _shown_element(kind: str, value: object) -> str:
    return shown((kind,), (value.value if isinstance(value, wasmtime.Val) else value,))
