"""Writes C programs of any size, always the same for the same numbers.

The functions are made at random but in the shapes of ordinary code: arithmetic on three types,
nested conditions, loops, switches, strings, records, direct calls and calls through tables. They
compute nothing of use. Every function starts by taking from ``fuel``, so that any call ends soon.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

__all__ = ["KINDS", "Program"]

# Return and first parameter of a function; the second parameter is always uint32_t.
KINDS = ("uint32_t", "uint64_t", "double")

_PRELUDE = """\
#include <stdint.h>
struct record { uint32_t id, flags; uint64_t stamp; double weight; const char *name; };
typedef uint32_t call_u(uint32_t, uint32_t);
typedef uint64_t call_w(uint64_t, uint32_t);
typedef double call_d(double, uint32_t);
extern int32_t fuel;
"""

# fmt: off
_WORDS = [
    "alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india",
    "juliet", "kilo", "lima", "mike", "november", "oscar", "papa", "quebec", "romeo",
    "sierra", "tango", "uniform", "victor", "whiskey", "xray", "yankee", "zulu", "error",
    "warning", "expected", "token", "stream", "buffer", "index", "table", "module", "import",
    "export", "memory", "global",
]
# fmt: on


@dataclass
class _Writer:
    """One function's body; knows what its locals are called."""

    random: random.Random
    index: int
    unit: int
    kind_of: list[int]
    lines: list[str] = field(default_factory=list)
    called: set[int] = field(default_factory=set)
    loops: int = 0

    def say(self, depth: int, text: str) -> None:
        self.lines.append("    " * depth + text)

    # -- expressions -----------------------------------------------------------------------------

    def u32(self, depth: int = 2) -> str:
        r = self.random
        if depth == 0:
            return r.choice(
                ("a", "b", "c", "e", "n", f"{r.randrange(1, 1 << r.randrange(4, 31))}u")
            )
        x, y = self.u32(depth - 1), self.u32(depth - 1)
        return r.choice(
            (
                f"({x} + {y})",
                f"({x} - {y})",
                f"({x} * {y})",
                f"({x} ^ {y})",
                f"({x} & {y})",
                f"({x} >> {r.randrange(1, 24)})",
                f"({x} << {r.randrange(1, 12)})",
                f"state[({x}) & 255]",
                f"bytes[({x}) & 1023]",
                f"({x} < {y} ? {x} : {y})",
                f"({x} / ({y} | 1))",
                f"(uint32_t)(w >> {r.randrange(8, 32)})",
                f"records[({x}) & 31].{r.choice(('id', 'flags'))}",
            )
        )

    def u64(self) -> str:
        x = self.u32(1)
        return self.random.choice(
            (
                f"w * {self.random.getrandbits(60) | 1}u + {x}",
                f"(w << 7 | w >> 57) ^ {x}",
                f"w + ((uint64_t){x} << 32)",
                f"records[({x}) & 31].stamp - w",
                f"w % ({x} | 1) + {self.u32(1)}",
            )
        )

    def f64(self) -> str:
        x = self.u32(1)
        number = f"{self.random.uniform(0.1, 9.9):.4f}"
        return self.random.choice(
            (
                f"d * {number} + (double){x}",
                f"d / ({number} + (double)({x} & 1023))",
                f"(d > {number} ? d - {number} : d + (double)({x} & 255))",
                f"records[({x}) & 31].weight - d * {number}",
                f"__builtin_sqrt(d * d + {number})",
            )
        )

    def condition(self) -> str:
        r = self.random
        x, y = self.u32(1), self.u32(1)
        return r.choice(
            (
                f"{x} < {y}",
                f"({x} & {1 << r.randrange(12)})",
                f"{x} == {y}",
                "d < 100.0",
                f"w > {x}",
            )
        )

    # -- statements ------------------------------------------------------------------------------

    def block(self, depth: int, count: int) -> None:
        for _ in range(count):
            self.statement(depth)

    def statement(self, depth: int) -> None:
        simple = (self.assign, self.assign, self.store, self.call)
        nested = (self.branch, self.branch, self.loop, self.switch, self.scan)
        choices = simple if depth > 3 else (*simple, *nested)
        self.random.choice(choices)(depth)

    def assign(self, depth: int) -> None:
        which = self.random.randrange(8)
        if which < 5:
            self.say(depth, f"{self.random.choice('cebn')} = {self.u32(3)};")
        elif which == 5:
            self.say(depth, f"w = {self.u64()};")
        else:
            self.say(depth, f"d = {self.f64()};")

    def store(self, depth: int) -> None:
        x = self.u32(1)
        self.say(
            depth,
            self.random.choice(
                (
                    f"state[({x}) & 255] += {self.u32(2)};",
                    f"bytes[({x}) & 1023] = (uint8_t){self.u32(2)};",
                    f"records[({x}) & 31].stamp ^= w;",
                    f"records[({x}) & 31].weight = d;",
                    f"records[({x}) & 31].flags |= {self.u32(1)};",
                )
            ),
        )

    def call(self, depth: int) -> None:
        r = self.random
        if self.index == 0 or r.random() < 0.25:
            self.say(depth, f"c ^= table[({self.u32(1)}) & 15]({self.u32(1)}, {self.u32(1)});")
            return
        other = r.randrange(max(0, self.index - 500), self.index)
        self.called.add(other)
        target = "cwd"[self.kind_of[other]]
        argument = (self.u32(1), "w", "d")[self.kind_of[other]]
        self.say(depth, f"{target} = f{other}({argument}, {self.u32(1)});")

    def branch(self, depth: int) -> None:
        self.say(depth, f"if ({self.condition()}) {{")
        self.block(depth + 1, self.random.randrange(1, 4))
        if self.random.random() < 0.5:
            self.say(depth, "} else {")
            self.block(depth + 1, self.random.randrange(1, 3))
        self.say(depth, "}")

    def loop(self, depth: int) -> None:
        if self.loops > 1:
            self.branch(depth)
            return
        self.loops += 1
        i = f"i{self.loops}"
        self.say(depth, f"for (uint32_t {i} = 0; {i} < ({self.u32(1)} & 15); {i}++) {{")
        self.say(depth + 1, f"e += {i} * c;")
        self.block(depth + 1, self.random.randrange(1, 4))
        if self.random.random() < 0.3:
            self.say(depth + 1, f"if ({self.condition()}) break;")
        self.say(depth, "}")
        self.loops -= 1

    def switch(self, depth: int) -> None:
        self.say(depth, f"switch ({self.u32(1)} & 15) {{")
        for case in sorted(self.random.sample(range(16), self.random.randrange(3, 9))):
            self.say(depth, f"case {case}:")
            self.block(depth + 1, 1)
            self.say(depth + 1, "break;")
        self.say(depth, f"default: n = {self.u32(1)};")
        self.say(depth, "}")

    def scan(self, depth: int) -> None:
        text = " ".join(self.random.choices(_WORDS, k=self.random.randrange(1, 6)))
        self.say(depth, f'for (const char *s = "{text} {self.index}"; *s; s++) {{')
        self.say(depth + 1, "c = (c ^ (uint8_t)*s) * 16777619u;")
        self.say(depth, "}")


class Program:
    """Functions in units, one C file each.

    Args:
        units: how many files.
        functions: how many functions in each.
        seed: another program for another number.
    """

    def __init__(self, units: int, functions: int, seed: int = 2026) -> None:
        self.units = units
        self.functions = functions
        self._seed = seed
        kinds = random.Random(seed)
        count = units * functions
        self.kind_of = [kinds.choices((0, 1, 2), (6, 3, 1))[0] for _ in range(count)]
        # A unit's tables need sixteen functions of the first kind.
        for unit in range(units):
            self.kind_of[unit * functions : unit * functions + 16] = [0] * 16

    def _declaration(self, index: int) -> str:
        kind = KINDS[self.kind_of[index]]
        return f"{kind} f{index}({kind} x, uint32_t b)"

    def unit(self, number: int) -> str:
        """The C source of one unit."""
        first = number * self.functions
        r = random.Random(self._seed * 1_000_003 + number)
        called: set[int] = set()
        bodies = []
        for index in range(first, first + self.functions):
            writer = _Writer(r, index, number, self.kind_of)
            # Most functions are short and a few are long, as in real programs.
            writer.block(1, min(40, 1 + int(r.expovariate(1 / 5))))
            called |= writer.called
            bodies.append(self._function(index, writer.lines))
        numbers = ", ".join(str(r.getrandbits(32)) + "u" for _ in range(256))
        names = ", ".join(
            f"{{{i}u, {r.getrandbits(16)}u, {r.getrandbits(50)}u, {r.uniform(0, 9):.3f}, "
            f'"{r.choice(_WORDS)} {number}.{i}"}}'
            for i in range(32)
        )
        table = ", ".join(f"f{first + i}" for i in range(16))
        declared = sorted(called | set(range(first, first + 16)))
        return "\n".join(
            (
                _PRELUDE,
                *(f"{self._declaration(i)};" for i in declared),
                f"static uint32_t state[256] = {{{numbers}}};",
                "static uint8_t bytes[1024];",
                f"static struct record records[32] = {{{names}}};",
                f"static call_u *table[16] = {{{table}}};",
                *bodies,
            )
        )

    def _function(self, index: int, lines: list[str]) -> str:
        kind = self.kind_of[index]
        starts = (
            "uint32_t a = x; uint64_t w = x * 0x9E3779B97F4A7C15u; double d = (double)b;",
            "uint32_t a = (uint32_t)x; uint64_t w = x; double d = (double)(uint32_t)(x >> 32);",
            "uint32_t a = b * 2654435761u; uint64_t w = a; double d = x;",
        )
        ends = (
            "c ^ e ^ n ^ b ^ (uint32_t)w ^ (d > 1.0)",
            "w + c + e + n + (d > 1.0)",
            "d + (double)(c ^ e ^ n)",
        )
        return "\n".join(
            (
                f"{self._declaration(index)} {{",
                "    if (--fuel < 0) return x;",
                f"    {starts[kind]}",
                "    uint32_t c = a ^ b, e = 1, n = a + b;",
                *lines,
                f"    return {ends[kind]} + (w & 1);",
                "}",
            )
        )

    def caller(self, every: int, fuel: int) -> str:
        """A unit with ``uint64_t call_some(int32_t n)``, which calls some of the functions.

        Args:
            every: it calls one function in this many, directly.
            fuel: what each of the calls may use up, times ``n``.
        """
        chosen = range(0, len(self.kind_of), every)
        calls = []
        for index in chosen:
            argument = (f"{index}u + (uint32_t)n", f"{index}u", f"{index}.5")[self.kind_of[index]]
            call = f"f{index}({argument}, {index % 97}u)"
            value = f"bits({call})" if self.kind_of[index] == 2 else call
            calls.append(f"    fuel = {fuel} * n;\n    sum = sum * 31 + {value};")
        return "\n".join(
            (
                _PRELUDE,
                "int32_t fuel;",
                *(f"{self._declaration(index)};" for index in chosen),
                "static uint64_t bits(double d) {",
                "    union { double number; uint64_t bits; } view = {d};",
                "    return view.bits;",
                "}",
                "uint64_t call_some(int32_t n) {",
                "    uint64_t sum = 0;",
                *calls,
                "    return sum;",
                "}",
            )
        )
