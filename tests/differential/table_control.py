"""Statements of newer control flow for random functions: tail calls, exceptions, values in blocks.

What a function needs its module to have for them is ``MODULE_PARTS`` and ``LOCALS_OF_CONTROL``.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.differential.table_function import (
    F32,
    F64,
    I32,
    I64,
    LOCALS,
    NUMBERS,
    Function,
    Kinds,
)
from wasinn_runtime.spec.types import ValType

__all__ = ["ControlFunction", "locals_of_control", "parts_of_control"]

# A tag's name and the types of its values.
_TAGS = {"$none": (), "$one": (I32,), "$two": (I64, F64)}
# So many tail calls in one life of an instance: they need no stack, so a cycle would not end.
_TAIL_CALLS = 40


def parts_of_control(features: frozenset[str]) -> list[str]:
    """What a module must have."""
    parts = [
        "(func $pair (param i64 f32) (result f64 i64)"
        " (f64.convert_i64_s (local.get 0)) (i64.trunc_sat_f32_s (local.get 1)))"
    ]
    if "tail-call" in features:
        parts.append(f'(global $tails (export "tails") (mut i32) (i32.const {_TAIL_CALLS}))')
    if features & {"exceptions", "legacy-exceptions"}:
        parts += [f"(tag {name} (param {_types(types)}))" for name, types in _TAGS.items()]
    return parts


def locals_of_control(features: frozenset[str]) -> str:
    """Declarations of locals, after all others."""
    return "(local $exception exnref)" if "exceptions" in features else ""


def _types(types: tuple[ValType, ...]) -> str:
    return " ".join(ty.value for ty in types)


class ControlFunction(Function):
    """A function with these statements beside the others."""

    def _kinds(self) -> Kinds:
        kinds: list[tuple[int, Callable[[int], str]]] = [
            (2, self._waiting),
            (1, self._if_values),
            (1, self._br_table_values),
            (1, self._pair),
        ]
        if "tail-call" in self._features:
            kinds.append((2, self._tail_call))
        if "exceptions" in self._features:
            kinds += [(3, self._try), (1, self._throw), (1, self._throw_again)]
        if "legacy-exceptions" in self._features:
            kinds += [(4, self._legacy_try), (2, self._delegate), (1, self._throw)]
        return [*super()._kinds(), *kinds]

    def _set_all(self, types: tuple[ValType, ...]) -> str:
        """Put what is on the stack into locals."""
        return " ".join(f"(local.set {self._rng.choice(LOCALS[ty])})" for ty in reversed(types))

    def _some_types(self, most: int) -> tuple[ValType, ...]:
        return tuple(self._type() for _ in range(self._rng.randrange(most + 1)))

    def _all(self, types: tuple[ValType, ...], depth: int) -> str:
        return " ".join(self._value(ty, depth) for ty in types)

    def _value(self, ty: ValType, depth: int) -> str:
        """Often what costs an engine nothing: a constant or a local."""
        return self.expression(ty, 0 if self._rng.random() < 0.6 else depth)

    # -- values in blocks ------------------------------------------------------------------------

    def _waiting(self, depth: int) -> str:
        """Values wait below a block; branches drop some in it and carry others."""
        waiting, results = self._some_types(3), self._some_types(3)
        dropped = self._some_types(2)
        condition = self.expression(I32, depth - 1)
        branch = self._rng.choice(
            (
                f"(if {condition} (then {self._all(results, 0)} (br 1)))",
                f"{self._all(results, 0)} (br_if 0 {condition}) {'(drop) ' * len(results)}",
                f"{self._all(results, 0)} (br 0)",
                f"(if {condition} (then {self.statements(1, depth - 1)}))",
            )
        )
        body = f"{self._all(dropped, depth)} {branch} {'(drop) ' * len(dropped)}"
        if branch.endswith("(br 0)"):
            body = f"{self._all(dropped, depth)} {branch}"
            return self._around(waiting, results, body, depth)
        body += f"{self.statements(1, depth - 1)} {self._all(results, depth)}"
        return self._around(waiting, results, body, depth)

    def _around(
        self,
        waiting: tuple[ValType, ...],
        results: tuple[ValType, ...],
        body: str,
        depth: int,
    ) -> str:
        return f"""
          {self._all(waiting, depth)}
          (block (result {_types(results)}) {body})
          {self._set_all((*waiting, *results))}"""

    def _if_values(self, depth: int) -> str:
        """An if that takes values and gives others."""
        params, results, waiting = self._some_types(3), self._some_types(2), self._some_types(2)
        arms = [
            f"{self._set_all(params)} {self.statements(1, depth - 1)} {self._all(results, depth)}"
            for _ in range(2)
        ]
        return f"""
          {self._all((*waiting, *params), depth)}
          (if (param {_types(params)}) (result {_types(results)}) {self.expression(I32, depth)}
            (then {arms[0]}) (else {arms[1]}))
          {self._set_all((*waiting, *results))}"""

    def _br_table_values(self, depth: int) -> str:
        """Carries values to one of several ends, past others."""
        carried, waiting = self._some_types(2), self._some_types(2)
        labels = " ".join(str(self._rng.randrange(3)) for _ in range(self._rng.randrange(1, 5)))
        result = f"(result {_types(carried)})"
        inner = (
            f"{self._all((*waiting, *carried), depth)}"
            f" (br_table {labels} {self.expression(I32, depth)})"
        )
        again = f"{self._set_all(carried)} {self._all(carried, depth)}"
        return f"""
          {self._all(waiting, 0)}
          (block {result} (block {result} (block {result} {inner}) {again}) {again})
          {self._set_all((*waiting, *carried))}"""

    def _pair(self, depth: int) -> str:
        given = self._all((I64, F32), depth)
        return f"(call $pair {given}) {self._set_all((F64, I64))}"

    # -- tail calls ------------------------------------------------------------------------------

    def _tail_call(self, depth: int) -> str:
        """Now and then, as nothing comes after it."""
        rng = self._rng
        given = self._all(NUMBERS, depth - 1)
        number = rng.randrange(self._types)
        fewer = self._all(NUMBERS[: number + 1], depth - 1)
        element = f"(i32.const {rng.randrange(9)})"
        ways = [f"(return_call_indirect $table (type $t{number}) {fewer} {element})"]
        if self._callees:
            ways.append(f"(return_call $g{rng.randrange(self._callees)} {given})")
        if "function-references" in self._features:
            # Of the type of $short, whatever the table's function is.
            ways.append(f"(return_call_ref $t0 {self._all((I32,), depth)} (ref.func $short))")
        one_less = "(i32.sub (global.get $tails) (i32.const 1))"
        return f"""
          (if (i32.and (i32.gt_s (global.get $tails) (i32.const 0))
                       (i32.eqz (i32.and {self.expression(I32, depth)} (i32.const 3))))
            (then (global.set $tails {one_less}) {rng.choice(ways)}))"""

    # -- exceptions ------------------------------------------------------------------------------

    def _throw(self, depth: int) -> str:
        tag, types = self._rng.choice(list(_TAGS.items()))
        rarely = f"(i32.eqz (i32.and {self.expression(I32, depth)} (i32.const 3)))"
        waiting = self._some_types(1)
        thrown = f"{self._all(waiting, 0)} {self._all(types, depth)} (throw {tag})"
        return f"(if {rarely} (then {thrown}))"

    def _throw_again(self, depth: int) -> str:
        rarely = f"(i32.eqz (i32.and {self.expression(I32, depth)} (i32.const 7)))"
        return f"(if {rarely} (then (throw_ref (local.get $exception))))"

    def _try(self, depth: int) -> str:
        """Catches some of what its statements throw, with values waiting below it."""
        rng = self._rng
        tag, types = rng.choice(list(_TAGS.items()))
        with_reference = rng.random() < 0.5
        if rng.random() < 0.4:
            clause, types = "catch_all", ()
        else:
            clause = "catch"
        named = f" {tag}" if clause == "catch" else ""
        caught, take = _types(types), self._set_all(types)
        given = self._all(types, 0)
        if with_reference:
            clause, caught = f"{clause}_ref", f"{caught} exnref"
            take, given = f"(local.set $exception) {take}", f"{given} (local.get $exception)"
        waiting = self._some_types(2)
        statements = " ".join(
            rng.choice((self._throw, self._call, self._statement))(depth - 1) for _ in range(3)
        )
        return f"""
          {self._all(waiting, depth)}
          (block (result {caught})
            (try_table ({clause}{named} 0) {statements})
            {given})
          {take} {self._set_all(waiting)}"""

    # -- exceptions as they were before ----------------------------------------------------------

    def _throwing(self, depth: int) -> str:
        kinds = (self._throw, self._throw, self._call, self._statement)
        return " ".join(self._rng.choice(kinds)(depth - 1) for _ in range(2))

    def _rethrow(self, depth: int) -> str:
        """In a handler: throws on now and then, also from within another try."""
        rarely = f"(i32.eqz (i32.and {self.expression(I32, depth)} (i32.const 3)))"
        again = f"(if {rarely} (then rethrow 1))"
        within = f"try (if {rarely} (then rethrow 2)) {self._throwing(depth)} catch_all end"
        return self._rng.choice(("", "", again, within))

    def _legacy_try(self, depth: int) -> str:
        """Gives a value or the like of one caught, with values waiting below it."""
        rng = self._rng
        results, waiting = self._some_types(2), self._some_types(2)
        handlers = [
            f"catch {tag} {self._set_all(types)} {self._rethrow(depth - 1)} {self._all(results, 1)}"
            for tag, types in rng.sample(list(_TAGS.items()), rng.randrange(4))
        ]
        if rng.random() < 0.5:
            handlers.append(f"catch_all {self._rethrow(depth - 1)} {self._all(results, 1)}")
        return f"""
          {self._all(waiting, depth)}
          try (result {_types(results)})
            {self._throwing(depth)} {self._all(results, depth)}
          {" ".join(handlers)} end
          {self._set_all((*waiting, *results))}"""

    def _delegate(self, depth: int) -> str:
        """To the try around it, or past that one."""
        waiting = self._some_types(2)
        inner = f"try {self._throwing(depth)} delegate {self._rng.randrange(2)}"
        return f"""
          {self._all(waiting, depth)}
          (block try {inner} catch_all {self._rethrow(depth - 1)} end)
          {self._set_all(waiting)}"""
