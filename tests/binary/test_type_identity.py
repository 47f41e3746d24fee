"""When types are one, and when one goes for another: across modules, and as wasmtime says."""

from __future__ import annotations

import pickle
from itertools import product

import pytest
import wasmtime

from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.errors import Invalid
from wasinn_runtime.spec.features import ALL_FEATURES
from wasinn_runtime.spec.types import FuncType, Heap, RefType, ValType, matches, ref_type
from wasinn_runtime.valid.validate import validate

TYPES = """
  (type $plain (func (param i32)))
  (type $open (sub (func)))
  (type $below (sub $open (func)))
  (type $last (sub final $below (func)))
  (rec (type $a (func (param (ref null $b)))) (type $b (func (result (ref null $a)))))
  (type $self (func (param (ref null $self))))
"""
HEAPS = [
    *("func", "extern", "exn", "nofunc", "noextern", "noexn"),
    *("$plain", "$open", "$below", "$last", "$a", "$b", "$self"),
]
REFERENCES = [f"(ref {null}{heap})" for heap in HEAPS for null in ("", "null ")]


def types_of(text: str) -> list[FuncType]:
    return decode(bytes(wasmtime.wat2wasm(f"(module {text})")), features=ALL_FEATURES).types


def test_which_references_go_for_which() -> None:
    config = wasmtime.Config()
    config.wasm_gc = config.wasm_function_references = config.wasm_exceptions = True
    engine = wasmtime.Engine(config)
    accepted = 0
    for source, target in product(REFERENCES, REFERENCES):
        text = f"(module {TYPES} (func (param {source}) (result {target}) local.get 0))"
        data = bytes(wasmtime.wat2wasm(text))
        module = decode(data, features=ALL_FEATURES)
        try:
            validate(module)
            ours = True
        except Invalid:
            ours = False
        try:
            wasmtime.Module.validate(engine, data)
            theirs = True
        except wasmtime.WasmtimeError:
            theirs = False
        assert ours == theirs, (source, target)
        function = module.func_type(0)
        assert matches(function.params[0], function.results[0]) == ours
        accepted += ours
    assert len(REFERENCES) < accepted < len(REFERENCES) ** 2 / 2


def test_equal_structures_are_equal_types() -> None:
    (one,) = types_of("(type (func (param i32) (result f64)))")
    (other,) = types_of("(type (func (param i32) (result f64)))")
    mine = FuncType((ValType.I32,), (ValType.F64,))
    assert one == other == mine
    assert len({one, other, mine}) == 1
    assert ref_type(True, one) is ref_type(True, mine)
    assert one != FuncType((ValType.I32,), (ValType.F32,))


def test_types_that_are_defined_differently_differ() -> None:
    found = [
        types_of("(type (func))")[0],
        types_of("(type (sub (func)))")[0],
        types_of("(type (sub (func))) (type (sub 0 (func)))")[1],
        types_of("(type (sub (func))) (type (sub final 0 (func)))")[1],
        *types_of("(rec (type (func)) (type (func)))"),
        *types_of("(rec (type (sub (func))) (type (func)))"),
    ]
    assert len(set(found)) == len(found)
    assert [str(type_) for type_ in set(found)] == ["[] -> []"] * len(found)


@pytest.mark.parametrize(
    "text",
    [
        "(rec (type $a (func (param (ref $b)))) (type $b (func (result (ref null $a)))))",
        "(type $s (func (param (ref null $s))))",
        "(type $a (sub (func))) (rec (type (func (param (ref $a)))) (type (sub $a (func))))",
    ],
)
def test_groups_that_look_the_same_are_the_same(text: str) -> None:
    """Wherever they are in a module, and whichever module that is."""
    first = types_of(text)
    moved = types_of(f"(type (func (param i32 i32))) {text}")[1:]
    assert first == moved
    assert [id(t) for t in first if t.definition] == [id(t) for t in moved if t.definition]


def test_supertypes() -> None:
    plain, open_, below, last, *_ = types_of(TYPES)
    assert last.matches(open_)
    assert not open_.matches(last)
    assert below.supertype is open_
    assert (plain.is_final, open_.is_final, below.is_final, last.is_final) == (
        *(True, False, False),
        True,
    )
    assert ref_type(False, last).matches(ref_type(True, open_))
    assert not ref_type(True, last).matches(ref_type(False, open_))


def test_how_references_are_kept() -> None:
    (plain,) = types_of("(type (func))")
    assert ref_type(False, plain).base is ValType.FUNCREF
    assert ref_type(True, Heap.NOFUNC).base is ValType.FUNCREF
    assert ref_type(False, Heap.EXTERN).base is ValType.EXTERNREF
    assert ref_type(False, Heap.NOEXN).base is ValType.EXNREF
    assert ValType.V128.base is ValType.V128
    assert not ref_type(False, plain).is_defaultable
    assert ref_type(True, plain).is_defaultable


def test_types_travel_between_processes() -> None:
    type_ = FuncType((ValType.I32, ValType.FUNCREF), (ref_type(False, FuncType()),))
    copy = pickle.loads(pickle.dumps(type_))
    assert copy == type_
    assert copy.params[1] is ValType.FUNCREF
    assert isinstance(copy.results[0], RefType)
    assert copy.results[0] is type_.results[0]
    with pytest.raises(TypeError, match="send the module instead"):
        pickle.dumps(types_of("(type (sub (func)))")[0])
