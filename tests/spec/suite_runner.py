"""Runs the commands of one test script on an engine, as the specification's interpreter does.

A script's modules live in one store, beside the ``spectest`` module that scripts import from.
Numbers are compared by their bits; calls whose values are all plain go through ``Func.__call__``,
those with NaNs through the slots below it, since a Python float may change a NaN's payload.
"""

from __future__ import annotations

import math
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeVar

from tests.spec.suite_scripts import Command, assemble
from wasinn_runtime import (
    Config,
    Engine,
    Exhaustion,
    ExnRef,
    Func,
    FuncType,
    Global,
    Instance,
    Invalid,
    Linker,
    LinkError,
    Malformed,
    Module,
    Store,
    Trap,
    ValType,
    WasmException,
)
from wasinn_runtime.abi.layout import Activation

# A script that takes longer than this has a command that does not end.
SCRIPT_TIMEOUT_S = 600.0

# Source: the "spectest" host module of the specification's reference interpreter.
SPECTEST = """
(module
  (global (export "global_i32") i32 (i32.const 666))
  (global (export "global_i64") i64 (i64.const 666))
  (global (export "global_f32") f32 (f32.const 666.6))
  (global (export "global_f64") f64 (f64.const 666.6))
  (table (export "table") 10 20 funcref)
  (table (export "table64") i64 10 20 funcref)
  (memory (export "memory") 1 2)
  (memory (export "shared_memory") 1 2 shared))
"""
I32, I64, F32, F64 = ValType.I32, ValType.I64, ValType.F32, ValType.F64
PRINTS = {
    "print": (),
    "print_i32": (I32,),
    "print_i64": (I64,),
    "print_f32": (F32,),
    "print_f64": (F64,),
    "print_i32_f32": (I32, F32),
    "print_f64_f64": (F64, F64),
}
WIDTHS = {"i8": 8, "i16": 16, "i32": 32, "i64": 64, "f32": 32, "f64": 64, "v128": 128}
FLOATS = {"f32": ("<I", "<f"), "f64": ("<Q", "<d")}
CELL = (1 << 64) - 1


@dataclass(frozen=True)
class HostObject:
    """What ``(ref.extern N)`` stands for: an object of ours, the same for the same number."""

    number: int


host_object = cache(HostObject)
# What scripts call null, and what they expect where they name no value.
NULLS = {"refnull", "nullref", "nullfuncref", "nullexternref", "nullexnref"}
REFERENCES = {"funcref": Func, "externref": HostObject, "exnref": ExnRef}
E = TypeVar("E", bound=Exception)
# A value as the scripts' converter writes it.
Value = dict[str, Any]


class Failure(AssertionError):
    """A command whose outcome is not the expected one."""


# What this project does not have; its decoder says so of every module that needs it.
ABSENT = "needs garbage collection"


class Absent(Exception):
    """A command about a module that needs what this project does not have."""


@cache
def spectest_bytes() -> bytes:
    return assemble(SPECTEST)


def printer(params: tuple[ValType, ...]) -> Callable[..., None]:
    """A host function that has nothing to do but to get the right kinds of values."""
    kinds = [float if type_ in (F32, F64) else int for type_ in params]

    def check(*values: object) -> None:
        if [type(value) for value in values] != kinds:
            raise Failure(f"a print function of {params} was called with {values}")

    return check


class ScriptRunner:
    """The state of a script: its store, its modules by name, the latest one.

    Args:
        mode: running mode of the engine.
        features: what modules may use; None for all that the mode knows.
    """

    def __init__(self, mode: str, features: frozenset[str] | None = None) -> None:
        # Without the cache on disk: its key does not name the version of our own code.
        config = Config(mode=mode, validate="eager", cache=False, verify_ir=True)
        host = Engine(config)
        self.engine = Engine(replace(config, features=features))
        self.store = Store(self.engine)
        self.definitions: dict[str, Module] = {}
        # Names of modules that are not there since they need what we do not have.
        self.absent: set[str] = set()
        self.current_is_absent = False
        self.linker = Linker(self.engine)
        self.linker.allow_shadowing = True
        self.instances: dict[str, Instance] = {}
        self.current: Instance | None = None
        for name, params in PRINTS.items():
            self.linker.define_func("spectest", name, FuncType(params), printer(params))
        spectest = Instance(self.store, Module(host, spectest_bytes(), "spectest"))
        self.linker.define_instance("spectest", spectest)

    def run(self, commands: Iterable[Command], tally: Counter[str]) -> dict[int, str]:
        """Runs all commands.

        Args:
            commands: in the script's order.
            tally: counts what ran, by kind.

        Returns:
            The line of every failing command, and why.
        """
        failures: dict[int, str] = {}
        with self.store.deadline(SCRIPT_TIMEOUT_S):
            for command in commands:
                if command.is_text:
                    tally[command.counted_as] += 1
                    continue
                try:
                    COMMANDS[command.kind](self, command)
                    tally[command.counted_as] += 1
                except Absent:
                    tally[f"{command.counted_as} ({ABSENT})"] += 1
                except Exception as error:
                    tally[command.counted_as] += 1
                    failures[command.line] = f"{command.kind}: {type(error).__name__}: {error}"
        return failures

    # --- modules ---------------------------------------------------------------------------------

    def compile(self, command: Command) -> Module:
        try:
            return Module(self.engine, command.module_bytes(), f"line {command.line}")
        except Malformed as error:
            if ABSENT not in error.message:
                raise
            raise Absent from error

    def instantiate(self, command: Command) -> Instance:
        try:
            return self.linker.instantiate(self.store, self.compile(command))
        except LinkError as error:
            if any(f"{name!r}" in str(error) for name in self.absent):
                raise Absent from error
            raise

    def module(self, command: Command) -> None:
        self.current = None
        try:
            self.current = self.instantiate(command)
        except Absent:
            self.absent.add(command.fields.get("name", ""))
            self.current_is_absent = True
            raise
        self.current_is_absent = False
        if "name" in command.fields:
            self.instances[command.fields["name"]] = self.current

    def module_definition(self, command: Command) -> None:
        module = self.compile(command)
        self.definitions[command.fields.get("name", "")] = module

    def module_instance(self, command: Command) -> None:
        module = self.definitions[command.fields.get("module", "")]
        self.current = self.linker.instantiate(self.store, module)
        if "instance" in command.fields:
            self.instances[command.fields["instance"]] = self.current

    def register(self, command: Command) -> None:
        try:
            self.linker.define_instance(command.fields["as"], self._instance(command.fields))
        except Absent:
            self.absent.add(command.fields["as"])
            raise

    def _instance(self, fields: dict[str, Any], key: str = "name") -> Instance:
        found = self.instances.get(fields[key]) if key in fields else self.current
        if found is None:
            if fields[key] in self.absent if key in fields else self.current_is_absent:
                raise Absent
            raise Failure(f"no module {fields.get(key, 'before this command')}")
        return found

    # --- assertions about modules --------------------------------------------------------------

    def assert_malformed(self, command: Command) -> None:
        words = command.fields["text"]
        raised = expect(Malformed, words, lambda: self.compile(command))
        check_words(words, raised.message)

    def assert_invalid(self, command: Command) -> None:
        words = command.fields["text"]
        raised = expect(Invalid, words, lambda: self.compile(command))
        check_words(words, raised.message)

    def assert_unlinkable(self, command: Command) -> None:
        words = command.fields["text"]
        check_words(words, str(expect(LinkError, words, lambda: self.instantiate(command))))

    def assert_uninstantiable(self, command: Command) -> None:
        words = command.fields["text"]
        check_trap(words, expect(Trap, words, lambda: self.instantiate(command)))

    # --- actions ---------------------------------------------------------------------------------

    def action(self, command: Command) -> None:
        self._act(command)

    def assert_return(self, command: Command) -> None:
        expected = command.fields["expected"]
        got = self._act(command)
        if len(got) != len(expected):
            raise Failure(f"expected {len(expected)} results, got {len(got)}")
        for number, (wanted, value) in enumerate(zip(expected, got, strict=True)):
            if not matches(wanted, value):
                raise Failure(f"result {number}: expected {wanted}, got {value}")

    def assert_trap(self, command: Command) -> None:
        words = command.fields["text"]
        check_trap(words, expect(Trap, words, lambda: self._act(command)))

    def assert_exception(self, command: Command) -> None:
        expect(WasmException, "an exception of the guest", lambda: self._act(command))

    def assert_exhaustion(self, command: Command) -> None:
        words = command.fields["text"]
        check_trap(words, expect(Exhaustion, words, lambda: self._act(command)))

    def _act(self, command: Command) -> list[object]:
        """Runs an action; numbers come back as unsigned bits, references as objects."""
        action = command.fields["action"]
        item = self._instance(action, "module").exports[action["field"]]
        if action["type"] == "get":
            assert isinstance(item, Global)
            return [self._bits(item.type.value.value, item.value)]
        assert isinstance(item, Func)
        plain = all(map(is_plain, [*action["args"], *command.fields.get("expected", [])]))
        return self._call(item, action["args"]) if plain else self._call_slots(item, action["args"])

    def _call(self, function: Func, arguments: list[Value]) -> list[object]:
        result = function(*map(python_value, arguments))
        types = function.type.results
        results = [] if not types else [result] if len(types) == 1 else result
        assert isinstance(results, list | tuple)
        return [self._bits(t.value, v) for t, v in zip(types, results, strict=True)]

    def _call_slots(self, function: Func, arguments: list[Value]) -> list[object]:
        """As ``Func.__call__``, but numbers stay bits all the way."""
        results = function.type.results
        first = Activation.SLOTS // 8
        cells: list[int] = []
        for argument in arguments:
            bits = bits_of(argument)
            cells += [bits & CELL, bits >> 64] if argument["type"] == "v128" else [bits]
        # A vector takes two.
        sizes = [2 if type_.value == "v128" else 1 for type_ in results]
        activation = self.store.enter(max(len(cells), sum(sizes), 1))
        try:
            for number, cell in enumerate(cells):
                activation[first + number] = cell
            self.store.invoke(activation, function.reference)
            slots = iter(activation[first : first + sum(sizes)])
        finally:
            self.store.leave(activation)
        found = []
        for type_, size in zip(results, sizes, strict=True):
            bits = next(slots) | (next(slots) << 64 if size == 2 else 0)
            found.append(bits & (1 << WIDTHS[type_.value]) - 1)
        return list(found)

    def _bits(self, type_: str, value: object) -> object:
        if type_ in FLOATS:
            integer, floating = FLOATS[type_]
            return struct.unpack(integer, struct.pack(floating, value))[0]
        if type_ == "v128":
            assert isinstance(value, int)
            assert 0 <= value < 1 << 128
        elif type_ in WIDTHS:
            assert isinstance(value, int)
            assert -(1 << (WIDTHS[type_] - 1)) <= value < 1 << (WIDTHS[type_] - 1), "not signed"
            return value % (1 << WIDTHS[type_])
        return value


COMMANDS: dict[str, Callable[[ScriptRunner, Command], None]] = {
    "module": ScriptRunner.module,
    "module_definition": ScriptRunner.module_definition,
    "module_instance": ScriptRunner.module_instance,
    "register": ScriptRunner.register,
    "action": ScriptRunner.action,
    "assert_return": ScriptRunner.assert_return,
    "assert_trap": ScriptRunner.assert_trap,
    "assert_exception": ScriptRunner.assert_exception,
    "assert_exhaustion": ScriptRunner.assert_exhaustion,
    "assert_malformed": ScriptRunner.assert_malformed,
    "assert_invalid": ScriptRunner.assert_invalid,
    "assert_unlinkable": ScriptRunner.assert_unlinkable,
    "assert_uninstantiable": ScriptRunner.assert_uninstantiable,
}


def python_value(argument: Value) -> object:
    """The Python value that an argument of a script is."""
    type_, text = argument["type"], argument.get("value")
    if text == "null" or type_ in NULLS:
        return None
    assert text is not None
    if type_ == "externref":
        return host_object(int(text))
    if type_ in FLOATS:
        integer, floating = FLOATS[type_]
        return struct.unpack(floating, struct.pack(integer, bits_of(argument)))[0]
    return bits_of(argument) if type_ == "v128" else int(text)


def bits_of(value: Value) -> int:
    """A number of a script as unsigned bits; scripts write integers signed, vectors by lanes."""
    if value["type"] == "v128":
        return sum(bits_of(lane) << at for lane, at in lanes_of(value))
    return int(value["value"]) % (1 << WIDTHS[value["type"]])


def lanes_of(vector: Value) -> list[tuple[Value, int]]:
    """The lanes of a script's vector as numbers of their own, and where in it their bits begin."""
    type_ = vector["lane_type"]
    return [
        ({"type": type_, "value": text}, WIDTHS[type_] * number)
        for number, text in enumerate(vector["value"])
    ]


def is_plain(value: Value) -> bool:
    """Whether no NaN is involved; those in vectors survive."""
    if value["type"] == "either":
        return all(map(is_plain, value["values"]))
    if value["type"] not in FLOATS:
        return True
    if value["value"].startswith("nan"):
        return False
    number = python_value(value)
    return isinstance(number, float) and not math.isnan(number)


def matches(wanted: Value, got: object) -> bool:
    """Whether a result is the expected one, or one of the NaNs that are expected."""
    type_, text = wanted["type"], wanted.get("value")
    if type_ == "either":
        return any(matches(value, got) for value in wanted["values"])
    if type_ in NULLS:
        return got is None
    if text is None:  # any reference of the kind but null
        return isinstance(got, REFERENCES[type_])
    if type_ == "v128":
        assert isinstance(got, int)
        return all(
            matches(lane, got >> at & (1 << WIDTHS[lane["type"]]) - 1)
            for lane, at in lanes_of(wanted)
        )
    if text in ("nan:canonical", "nan:arithmetic"):
        assert isinstance(got, int)
        magnitude = got & (1 << (WIDTHS[type_] - 1)) - 1
        quiet = {"f32": 0x7FC0_0000, "f64": 0x7FF8 << 48}[type_]
        return magnitude == quiet if text == "nan:canonical" else magnitude & quiet == quiet
    if type_ in WIDTHS:
        return got == bits_of(wanted)
    return got is python_value(wanted)


def expect(kind: type[E], words: str, action: Callable[[], object]) -> E:
    """The error that the action must raise."""
    try:
        action()
    except kind as error:
        return error
    raise Failure(f"expected {kind.__name__} {words!r}, but nothing was raised")


def check_words(expected: str, got: str) -> None:
    # After this, some of the words are those of the specification's interpreter alone.
    expected = re.split(": (?:instruction|block) requires", expected)[0]
    if expected not in got:
        raise Failure(f"expected {expected!r}, got {got!r}")


def check_trap(expected: str, trap: Trap) -> None:
    # Some expectations go on with the element's index, "uninitialized element 2"; bulk64.wast has
    # half of "out of bounds memory access".
    wanted = re.sub(r" \d+$", "", expected)
    if wanted != trap.code and (wanted != "out of bounds" or not trap.code.startswith(wanted)):
        raise Failure(f"expected trap {expected!r}, got {trap.code!r}")
