"""The comparison itself: what it must find, and what it must not call a difference."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import pytest
import wasmtime

from tests.differential.cases import SOURCES, Case, module_of
from tests.differential.check import VerdictKind, check_module
from tests.differential.nans import canonical_nans
from tests.differential.players import Call, WasinnPlayer, WasmtimePlayer, plan
from tests.differential.pool import run_cases
from tests.differential.records import EXHAUSTED, Record, Step, difference
from tests.differential.values import shown
from tests.differential.variants import VARIANTS
from wasinn_runtime import Config, Engine
from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.spec.features import ALL_FEATURES, FEATURES_2_0

EVERYTHING = """
(module
  (import "host" "number" (func $number (param i32) (result i32)))
  (memory (export "memory") 1 2)
  (global (export "global") (mut i64) (i64.const 0))
  (table (export "table") 2 5 funcref)
  (elem (i32.const 0) $f)
  (func $f (export "f") (param i32) (result i32 f64)
    (i32.store (i32.const 8) (local.get 0))
    (global.set 0 (i64.extend_i32_s (local.get 0)))
    (drop (table.grow (ref.null func) (i32.const 1)))
    (call $number (local.get 0))
    (f64.const 0.5))
  (func (export "divide") (param i32 i32) (result i32)
    (i32.div_s (local.get 0) (local.get 1)))
  (func $deep (export "deep") (call $deep)))
"""


def record(*steps: Step) -> Record:
    return Record("one", steps)


def test_both_players_see_everything() -> None:
    data = bytes(wasmtime.wat2wasm(EVERYTHING))
    calls = [
        Call("f", ("i32",), ("i32", "f64"), (7,)),
        Call("divide", ("i32", "i32"), ("i32",), (1, 0)),
        Call("deep", (), (), ()),
    ]
    reference = WasmtimePlayer(WasmtimePlayer.engine()).play(data, calls)
    ours = WasinnPlayer(Engine(Config(cache=False))).play(data, calls)
    assert ours.steps == reference.steps
    made, called, divided, deep = ours.steps
    assert made.outcome == "returned"
    assert made.state["table"] == "2: a function None"
    assert called.outcome.startswith("returned ")
    assert called.outcome.endswith(" 0.5")
    assert called.state["calls of the host"] == "number(7)"
    assert called.state["global"] == "7"
    assert called.state["table"] == "3: a function None None"
    assert called.state["memory"].endswith(", at 8: 07" + "00" * 15)
    assert divided.outcome == "trap: integer divide by zero"
    assert deep.outcome == EXHAUSTED


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (Step("f()", "returned 1"), Step("f()", "returned 2"), "returned 1 in one"),
        (Step("f()", "trap: unreachable"), Step("f()", "returned "), "trap: unreachable"),
        (Step("f()", "returned ", {"m": "a"}), Step("f()", "returned ", {"m": "b"}), "left m = a"),
        (Step("f()", "returned ", {"m": "a"}), Step("f()", "returned "), "missing"),
        (Step("f()", "returned "), Step("g()", "returned "), "g()"),
    ],
)
def test_differences_are_found(ours: Step, theirs: Step, words: str) -> None:
    found = difference(record(theirs), record(ours))
    assert found is not None
    assert words in found


def test_missing_steps_are_found() -> None:
    step = Step("f()", "returned ")
    assert difference(record(step, step), record(step)) is not None
    assert difference(record(step), record(step)) is None


def test_how_deep_a_stack_is_may_differ() -> None:
    deep, less = Step("f()", EXHAUSTED, {"m": "a"}), Step("f()", "returned 9", {"m": "b"})
    assert difference(record(deep), record(less)) is None
    assert difference(record(less), record(deep)) is None


def test_trap_names_differ_only_from_other_engines() -> None:
    element = record(Step("f()", "trap: undefined element"))
    table = record(Step("f()", "trap: out of bounds table access"))
    assert difference(table, element) is None
    assert difference(table, element, exactly=True) is not None


def test_null_references_have_one_name_in_the_reference() -> None:
    """It names whatever may not be null as a function that is called."""
    text = '(module (tag) (func (export "f") (throw_ref (ref.null exn))))'
    data = bytes(wasmtime.wat2wasm(text))
    calls = [Call("f", (), (), ())]
    reference = WasmtimePlayer(WasmtimePlayer.engine()).play(data, calls)
    ours = WasinnPlayer(Engine(Config(cache=False))).play(data, calls)
    assert ours.steps[1].outcome == "trap: null exception reference"
    assert difference(reference, ours) is None
    assert difference(reference, ours, exactly=True) is not None


def test_an_exception_of_a_start_function_has_one_name() -> None:
    data = bytes(wasmtime.wat2wasm("(module (tag $t) (func $f (throw $t)) (start $f))"))
    reference = WasmtimePlayer(WasmtimePlayer.engine()).play(data, [])
    ours = WasinnPlayer(Engine(Config(cache=False))).play(data, [])
    assert [step.outcome for step in ours.steps] == [step.outcome for step in reference.steps]
    assert "exception" in ours.steps[0].outcome


def test_auto_begins_in_the_interpreter_whatever_ran_before(tmp_path: Path) -> None:
    """It would else be served from the image that ``aot`` leaves in the cache."""
    data = bytes(wasmtime.wat2wasm(EVERYTHING))
    made = []
    for name in ("fast-interp", "aot", "auto"):
        variant = VARIANTS[name]
        made.append(variant.module(variant.engine(tmp_path), data))
    assert [module.interpreted for module in made] == [True, False, True]


def test_a_migratable_variant_has_safepoints() -> None:
    data = bytes(wasmtime.wat2wasm(EVERYTHING))
    for name, variant in VARIANTS.items():
        module = variant.module(variant.engine(None), data)
        assert module.migratable == (name == "aot-migratable")


def test_smith_gives_code() -> None:
    """A module that does nothing is compared with nothing."""
    modules = [module_of(Case("smith", seed, FEATURES_2_0)) for seed in range(20)]
    assert sum(bool(decode(data, "smith", FEATURES_2_0).code) for data in modules) >= 18


def test_compiled_code_stays_where_it_is_asked_to(tmp_path: Path) -> None:
    case = Case("table", 1, FEATURES_2_0)
    run_cases([case], ["llvm-jit"], 1, lambda case, verdict: None, tmp_path)
    assert any(tmp_path.iterdir())


def test_values_are_compared_by_their_bits() -> None:
    assert shown(("f64",), (0.0,)) != shown(("f64",), (-0.0,))
    (payload,) = struct.unpack("<d", struct.pack("<Q", 0x7FF8 << 48 | 1))
    assert shown(("f64",), (payload,)) != shown(("f64",), (math.nan,))
    assert shown(("f32",), (math.nan,)) != shown(("f32",), (-math.nan,))


def test_a_wrong_engine_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks our side of a call, and expects the verdict to say so."""
    data = bytes(wasmtime.wat2wasm(EVERYTHING))
    assert check_module(data, 0, ["llvm-jit"]).kind is VerdictKind.SAME
    real = WasinnPlayer.call

    def wrong(player: WasinnPlayer, call: Call) -> str:
        return real(player, call) + ("1" if call.name == "f" else "")

    monkeypatch.setattr(WasinnPlayer, "call", wrong)
    assert check_module(data, 0, ["llvm-jit"]).kind is VerdictKind.DIFFERENT


# Gives its NaN's bits, in the second step's result: the machine's, or the canonical one's.
_BITS = """
(module
  (func (export "before") (result i32) (i32.const 5))
  (func (export "bits") (result i64)
    (i64.reinterpret_f64 (f64.promote_f32 (f32.const nan:0x7ffeff)))))
"""


def test_a_module_that_depends_on_nans_is_passed_over() -> None:
    data = bytes(wasmtime.wat2wasm(_BITS))
    verdict = check_module(data, 0, ["llvm-jit"])
    assert verdict.kind is VerdictKind.UNUSABLE
    assert "NaN" in verdict.why
    made_canonical = check_module(canonical_nans(data, ALL_FEATURES), 0, ["llvm-jit"])
    assert made_canonical.kind is VerdictKind.SAME


@pytest.mark.parametrize(
    ("name", "kind"), [("before", VerdictKind.DIFFERENT), ("bits", VerdictKind.UNUSABLE)]
)
def test_what_comes_before_such_a_nan_is_compared(
    name: str, kind: VerdictKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = WasinnPlayer.call

    def wrong(player: WasinnPlayer, call: Call) -> str:
        return real(player, call) + ("1" if call.name == name else "")

    monkeypatch.setattr(WasinnPlayer, "call", wrong)
    data = bytes(wasmtime.wat2wasm(_BITS))
    assert check_module(data, 0, ["llvm-jit"]).kind is kind


def test_a_shared_fault_about_resized_floats_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """All modes have it, and only the reference does not."""
    real = WasinnPlayer.call
    monkeypatch.setattr(WasinnPlayer, "call", lambda *given: real(*given) + "1")
    data = canonical_nans(bytes(wasmtime.wat2wasm(_BITS)), ALL_FEATURES)
    assert check_module(data, 0, ["llvm-jit", "fast-jit"]).kind is VerdictKind.DIFFERENT


def test_a_crash_is_a_finding_and_not_the_end() -> None:
    verdicts = []
    cases = [
        Case("/dev/null/no such file", 0, FEATURES_2_0),  # ends the worker with an exception
        Case("smith", 1, FEATURES_2_0),
    ]
    run_cases(cases, ["llvm-jit"], 1, lambda case, verdict: verdicts.append(verdict.kind))
    assert verdicts == [VerdictKind.CRASHED, VerdictKind.SAME]


@pytest.mark.parametrize("source", SOURCES)
def test_a_seed_is_a_module(source: str) -> None:
    assert module_of(Case(source, 3, FEATURES_2_0)) == module_of(Case(source, 3, FEATURES_2_0))


def test_plans_do_not_depend_on_other_exports() -> None:
    both = bytes(wasmtime.wat2wasm(EVERYTHING))
    one = bytes(wasmtime.wat2wasm('(module (func (export "divide") (param i32 i32)))'))
    wanted = [c.arguments for c in plan(both, 5) if c.name == "divide"]
    assert [c.arguments for c in plan(one, 5)] == wanted
