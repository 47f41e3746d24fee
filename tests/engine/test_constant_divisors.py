"""Division by constants: LLVM's tiers leave out checks and divisions that are needless then."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from wasinn_runtime import Func, Instance, Trap

Build = Callable[..., Instance]


def _divisors(bits: int) -> list[int]:
    lowest = -(1 << bits - 1)
    return [0, 1, 2, 3, 8, 1 << bits - 2, -lowest - 1, -1, -2, -8, lowest]


def _dividends(bits: int) -> list[int]:
    lowest = -(1 << bits - 1)
    near = [n for power in (0, 1, 3, bits - 2) for n in (-1 << power, 1 << power)]
    return [lowest, lowest + 1, *(n + d for n in near for d in (-1, 0, 1)), -lowest - 1]


def _expected(name: str, left: int, right: int, bits: int) -> int | str:
    """The result, or what the trap says."""
    if name.endswith("_u"):
        left, right = left % (1 << bits), right % (1 << bits)
    if right == 0:
        return "integer divide by zero"
    quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
    if name == "div_s" and quotient >> bits - 1 == 1:
        return "integer overflow"
    value = quotient if name.startswith("div") else left - quotient * right
    return (value + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)


@pytest.mark.parametrize("name", ["div_s", "div_u", "rem_s", "rem_u"])
@pytest.mark.parametrize("bits", [32, 64])
def test_constant_divisors(build: Build, bits: int, name: str) -> None:
    functions = " ".join(
        f'(func (export "{right}") (param i{bits}) (result i{bits}) '
        f"(i{bits}.{name} (local.get 0) (i{bits}.const {right})))"
        for right in _divisors(bits)
    )
    exports = build(f"(module {functions})").exports
    for right in _divisors(bits):
        function = exports[str(right)]
        assert isinstance(function, Func)
        for left in _dividends(bits):
            expected = _expected(name, left, right, bits)
            if isinstance(expected, str):
                with pytest.raises(Trap) as trap:
                    function(left)
                assert trap.value.code == expected, (left, right)
            else:
                assert function(left) == expected, (left, right)
