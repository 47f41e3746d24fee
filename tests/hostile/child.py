"""A hostile case in a process of its own, with bounds: what it does there takes no test down.

The case is a function without arguments of a test's module. It runs in a folder of canaries, files
that nothing may touch or tell about, with little memory and processor time. It is not a sandbox.
"""

from __future__ import annotations

import importlib
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cli.command_line import SOURCES

__all__ = ["SECRET", "Canaries", "Ended", "limited", "run_case"]

SECRET = "the canary sings at dawn"
SURVIVED = "survived\n"
# Several times what cases take. Of address space the engine reserves much and uses little, so what
# is limited is what a process can write to.
CPU_S, DATA_BYTES, WALL_S = 60, 4 << 30, 180


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    status: int
    out: str
    err: str


class Canaries:
    """A folder of files with a secret in them, which stays as it is.

    Args:
        folder: a new one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "below").mkdir(parents=True)
        for name in ("secret", "weights.bin", "model.onnx", "vocab.txt", "below/secret"):
            (folder / name).write_text(SECRET)
        (folder / "link").symlink_to("below/secret")
        os.link(folder / "weights.bin", folder / "hardlink.bin")
        self._before = self._state()

    def check(self, *told: str) -> None:
        """Fails if a file is new, gone or changed, or if its secret is in what was told."""
        assert self._state() == self._before
        assert not any(SECRET in text for text in told)

    def _state(self) -> Mapping[str, tuple[int, int, str]]:
        return {
            str(path.relative_to(self.folder)): (
                path.lstat().st_mode,
                path.lstat().st_mtime_ns,
                path.read_text() if path.is_file() else "",
            )
            for path in sorted(self.folder.rglob("*"))
        }


def limited(
    command: Sequence[str], folder: Path, input: bytes = b"", env: Mapping[str, str] | None = None
) -> Ended:
    """Runs a command in a folder, within the bounds."""
    done = subprocess.run(
        command,
        cwd=folder,
        input=input,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(SOURCES), "NO_COLOR": "1", **(env or {})},
        preexec_fn=_limit,
        timeout=WALL_S,
        check=False,
    )
    out, err = (text.decode("utf-8", "replace") for text in (done.stdout, done.stderr))
    return Ended(done.returncode, out, err)


def run_case(case: Callable[[], None], canaries: Canaries) -> Ended:
    """Runs a case; it must return, and have nothing said but what its host says."""
    where = f"{case.__module__}:{case.__qualname__}"
    ended = limited([sys.executable, "-X", "faulthandler", "-m", __name__, where], canaries.folder)
    assert (ended.status, ended.out) == (0, SURVIVED), f"{ended.status}\n{ended.err}"
    canaries.check(ended.err)
    return ended


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_DATA, (DATA_BYTES, DATA_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(where: str) -> None:
    """Runs the case in this process."""
    module, _, name = where.partition(":")
    getattr(importlib.import_module(module), name)()
    print(SURVIVED, end="")


if __name__ == "__main__":
    main(sys.argv[1])
