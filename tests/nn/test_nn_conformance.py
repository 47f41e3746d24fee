"""The conformance kit tells plugins that keep the contract from those that do not, and why."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.cli.command_line import SOURCES
from wasinn_host.nn.conformance import Model, Outcome, check_backend, checks_by_name
from wasinn_host.nn.errors import WasiNnError

WRONG = {
    "KeepsView": ("copies", "something still refers to tensor.data"),
    "OtherType": ("results", "shape [2, 3] of f32 takes 24 bytes, its data have 6"),
    "OtherShape": ("results", "expected u8 [2, 3], got u8 [6]"),
    "WrongNumbers": ("results", "output 0: element 1: expected 2, got 0"),
    "NoView": ("results", "expected a contiguous memoryview of format B, got bytes"),
    "OneInputForAll": ("own-contexts", "first context: output 0: element 0"),
    "OutputIsInput": ("steady-outputs", "something else after an input was set"),
    "ComputesNothing": ("order", "compute before set_input: expected a WasiNnError"),
    "TakesAnyIndex": ("wrong-index", "set_input(1): expected a WasiNnError"),
    "TakesAnyTensor": ("wrong-tensors", "set_input(0) with f32 elements: expected a WasiNnError"),
    "RaisesItsOwn": ("wrong-index", "got IndexError: list index out of range"),
    "Hangs": ("results", "it took longer than 3 s, and was ended"),
    "BlocksInCancel": ("cancelling", "cancel() blocked for 1.5 s"),
    "SharesScratch": ("threads", "thread "),
    "Prints": ("results", "written to standard output, which is the guest's: b'computing"),
    "Leaks": ("leaks", "200 rounds, after as many, took"),
    "TakesNoise": ("no-model", "load() of no bytes: expected a WasiNnError of INVALID_ENCODING"),
    "RaisesKeyError": ("no-model", "got KeyError: b''"),
    "EndsTheProcess": ("damaged-models", "the process ended: SIGABRT"),
    "ChangingDevices": ("devices", "devices(): first"),
    "TakesAnyParts": ("wrong-parts", "load() of 16 parts: expected a WasiNnError"),
    "NoSamples": ("results", "define samples(), or name a model with --model"),
    "EndsAtOnce": ("door", "SystemExit: no accelerator"),
    "OldVersion": ("door", "this host speaks plugin API version 1, the plugin says 0"),
}


def where(name: str) -> str:
    return f"tests.nn.wrong_backends:{name}"


@pytest.mark.parametrize(
    "location",
    [
        where("Good"),
        "wasinn_backends.null:NullBackend",
        "wasinn_backends.onnx:OnnxBackend",
    ],
)
def test_good_backends_pass(location: str) -> None:
    results = list(check_backend(location))
    assert [(r.name, r.why) for r in results if r.outcome is Outcome.FAILED] == []
    assert [r.name for r in results] == list(checks_by_name())
    passed = sum(r.outcome is Outcome.PASSED for r in results)
    assert passed >= (14 if "null" in location else 18)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_backends_fail_and_are_told_why(name: str) -> None:
    check, why = WRONG[name]
    results = {r.name: r for r in check_backend(where(name), timeout_s=3)}
    assert results[check].outcome is Outcome.FAILED, results
    assert why in results[check].why
    assert list(results) == list(checks_by_name())
    if check == "door":
        assert {r.outcome for r in results.values()} == {Outcome.FAILED, Outcome.SKIPPED}


def test_a_model_of_the_users(tmp_path: Path) -> None:
    file = tmp_path / "model"
    file.write_bytes(b"DOUBLE" + bytes(10))
    results = check_backend(where("NoSamples"), models=[Model("double", (file,))])
    assert {r.outcome for r in results} == {Outcome.PASSED}
    with pytest.raises(WasiNnError, match=r"model file .*there can not be read: No such file"):
        list(check_backend(where("Good"), models=[Model("double", (tmp_path / "there",))]))


def test_as_tests(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["wasinn_host.pytest_plugin"]\n')
    (tmp_path / "test_backends.py").write_text(
        textwrap.dedent("""
            import pytest

            @pytest.mark.wasinn_backend("tests.nn.wrong_backends:Good")
            def test_good(wasinn_check):
                wasinn_check()

            @pytest.mark.wasinn_backend("tests.nn.wrong_backends:TakesNoise")
            def test_wrong(wasinn_check):
                wasinn_check()

            @pytest.mark.wasinn_backend("null", options={"fault": "compute"})
            def test_by_name(wasinn_check):
                wasinn_check()
        """)
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rf", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(SOURCES)},
        timeout=100,
    )
    names = list(checks_by_name())
    told = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert "FAILED test_backends.py::test_wrong[no-model] - " in done.stdout, done.stdout
    assert "FAILED test_backends.py::test_by_name[results] - " in done.stdout
    assert "ZeroDivisionError: null backend: fault on demand" in done.stdout
    assert not any("test_good" in line for line in told)
    assert "warning" not in done.stdout
    assert sum("::test_wrong" in line for line in told) == 1
    passed = int(done.stdout.splitlines()[-1].partition(" passed")[0].rpartition(" ")[2])
    assert passed >= 2 * len(names) - 1, done.stdout
