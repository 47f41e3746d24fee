"""Running ``wasinn`` as people do: a process of its own. The fixtures give these out."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import wasmtime

from wasinn_host.cli.main import execute

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [str(ROOT / folder) for folder in (".", "runtime", "backends", "models")]
COMMAND = [sys.executable, "-m", "wasinn_host.cli"]

HELLO = "examples/hello/hello.wasm"
RUST = "examples/rust-files/rust-files.wasm"
FIB = "benchmarks/kernels/fib.wasm"


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    status: int
    out: str
    err: str


class Wasinn:
    """Runs the command.

    Args:
        environment: of every run.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)

    def __call__(
        self,
        *words: str | os.PathLike[str],
        input: bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
    ) -> Ran:
        """One run to its end; a traceback in it fails the test."""
        return self._ran([*COMMAND, *_texts(words)], input, env, cwd)

    def shell(self, line: str, *, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> Ran:
        """A line for the shell, in which ``wasinn`` is the command."""
        function = 'wasinn() { "$WASINN_TEST_PYTHON" -m wasinn_host.cli "$@"; }'
        given = {"WASINN_TEST_PYTHON": sys.executable, **(env or {})}
        return self._ran(["bash", "-c", f"{function}\n{line}"], b"", given, cwd)

    def start(self, *words: str | os.PathLike[str]) -> subprocess.Popen[bytes]:
        """Starts it without waiting; Ctrl-C ends it even if these tests run in the background."""
        return subprocess.Popen(
            ["env", "--default-signal=INT", *COMMAND, *_texts(words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
            cwd=ROOT,
        )

    def _ran(
        self, command: list[str], input: bytes, env: Mapping[str, str] | None, cwd: Path
    ) -> Ran:
        done = subprocess.run(
            command,
            input=input,
            capture_output=True,
            env={**self.environment, **(env or {})},
            cwd=cwd,
            timeout=300,
            check=False,
        )
        err = done.stderr.decode("utf-8", "replace")
        assert "Traceback" not in err, err
        return Ran(done.returncode, done.stdout.decode("utf-8", "replace"), err)


class Inside:
    """Runs the command in this process: for what ends before a guest starts.

    Args:
        capture: takes the output.
    """

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *words: str) -> Ran:
        """One run; nothing is left of what was printed before."""
        self._capture.readouterr()
        status = execute(words)
        out, err = self._capture.readouterr()
        return Ran(status, out, err)


def _texts(words: Iterable[str | os.PathLike[str]]) -> list[str]:
    return [os.fspath(word) for word in words]


class Wat:
    """Writes modules from their text form.

    Args:
        directory: where to.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, text: str, name: str = "app.wasm") -> str:
        """Writes a module; its path."""
        path = self.directory / name
        path.write_bytes(wasmtime.wat2wasm(text))
        return str(path)
