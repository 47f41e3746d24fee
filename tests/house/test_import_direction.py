"""The house's plan: which chapter may read which. Imports are read from the sources, not run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    "wasinn_host": ROOT / "wasinn_host",
    "wasinn_runtime": ROOT / "runtime" / "wasinn_runtime",
    "wasinn_backends": ROOT / "backends" / "wasinn_backends",
    "wasinn_models": ROOT / "models" / "wasinn_models",
}

_SPEC = {"wasinn_runtime.errors", "wasinn_runtime.spec"}
_RUNTIME = {"wasinn_runtime"}
# Each chapter and what it may import beside itself. Every edge of the plan, and no other.
ALLOWED: dict[str, set[str]] = {
    "wasinn_runtime.errors": set(),
    "wasinn_runtime.pipes": {"wasinn_runtime.errors"},
    "wasinn_runtime.spec": {"wasinn_runtime.errors"},
    "wasinn_runtime.abi": _SPEC,
    "wasinn_runtime.binary": _SPEC,
    "wasinn_runtime.valid": {*_SPEC, "wasinn_runtime.binary"},
    "wasinn_runtime.lower": {*_SPEC, "wasinn_runtime.abi", "wasinn_runtime.binary"},
    "wasinn_runtime.machine": {*_SPEC, "wasinn_runtime.abi", "wasinn_runtime.binary"},
    "wasinn_runtime.engines": {
        *_SPEC,
        "wasinn_runtime.pipes",
        "wasinn_runtime.abi",
        "wasinn_runtime.binary",
        "wasinn_runtime.valid",
        "wasinn_runtime.lower",
        "wasinn_runtime.machine",
    },
    "wasinn_runtime": _RUNTIME,
    "wasinn_host.wasi": _SPEC,
    "wasinn_host.nn": {*_SPEC, "wasinn_runtime.pipes"},
    "wasinn_host.imports": set(),
    "wasinn_host.host": {*_RUNTIME, "wasinn_host.wasi", "wasinn_host.nn", "wasinn_host.imports"},
    "wasinn_host": {*_RUNTIME, "wasinn_host.host", "wasinn_host.wasi", "wasinn_host.nn"},
    "wasinn_host.evaluate": {*_RUNTIME, "wasinn_host", "wasinn_models"},
    "wasinn_host.cli": {*_RUNTIME, "wasinn_host", "wasinn_models"},
    "wasinn_models": _SPEC,
    "wasinn_backends": {*_SPEC, "wasinn_host.nn"},
}


def modules() -> Iterator[tuple[str, Path]]:
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            if parts[-1] == "__init__":
                parts = parts[:-1]
            yield ".".join([package, *parts]), path


def chapter(module: str) -> str:
    """The longest chapter name that the module lies in."""
    return max((c for c in ALLOWED if f"{module}.".startswith(f"{c}.")), key=len)


def imported(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; name the package"
            assert node.module is not None
            yield node.lineno, node.module


@pytest.mark.parametrize("package", FOLDERS)
def test_imports_follow_the_plan(package: str) -> None:
    wrong = []
    count = 0
    for module, path in modules():
        if not f"{module}.".startswith(f"{package}."):
            continue
        here = chapter(module)
        for line, name in imported(path):
            if name.partition(".")[0] not in FOLDERS:
                continue
            count += 1
            target = chapter(name)
            may = {here, *ALLOWED[here]}
            if not any(f"{target}.".startswith(f"{c}.") for c in may):
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {here} may not import {name}")
    assert not wrong, "\n".join(wrong)
    assert count > 0


def test_only_one_file_talks_to_llvm() -> None:
    users = [
        str(path.relative_to(ROOT))
        for _, path in modules()
        if any(name.partition(".")[0] == "llvmlite" for _, name in imported(path))
    ]
    assert users == ["runtime/wasinn_runtime/engines/llvm.py"]


def test_only_the_table_holds_opcode_numbers() -> None:
    """No other file of the engine compares with an opcode byte."""
    table = FOLDERS["wasinn_runtime"] / "spec" / "rows_scalar.py"
    assert "0x6A" in table.read_text()
    for folder in ("valid", "lower", "engines", "machine"):
        for path in (FOLDERS["wasinn_runtime"] / folder).glob("*.py"):
            text = path.read_text()
            assert ".code ==" not in text, path
            assert "BY_CODE" not in text, path
