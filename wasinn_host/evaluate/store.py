"""The directory of a run: what is finished stays, whatever ends the run.

    run.json          what is evaluated; another run is refused
    parts/            one Arrow file for each window of rows, written whole or not at all
    rows.parquet      all rows in the data's order, once every one is there
    results.json      metrics, counts, environment
    report.html       the same, to look at

A part says which of its window's batches it has, so a run that goes on computes the others only.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from wasinn_host.evaluate.extra import need
from wasinn_runtime.errors import UsageError

__all__ = ["BatchRecord", "RunDirectory", "write_whole"]

_SETTINGS: Final = "run.json"
_META: Final = b"wasinn-eval-batches"
_FLUSH_S: Final = 5.0
"""What is finished is on disk after that long at the latest."""
_GROUP_ROWS: Final = 65_536

BatchRecord = tuple[int, int, float, float]
"""Of a batch: its place in its window, its rows, the seconds it took, and when it ended, in seconds
since the run began."""


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file so that it is there as a whole or not at all.

    Raises:
        OSError: the system's, such as a full disk; nothing is left behind.
    """
    with _temporary(path) as temporary:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        yield temporary
    except OSError as error:
        error.filename = str(path)  # a write that fails does not say where
        raise
    finally:
        temporary.unlink(missing_ok=True)


class _Open:
    """A window of which not all is on disk."""

    def __init__(self, batches: int) -> None:
        self.batches = batches
        self.tables: list[Any] = []
        self.records: list[BatchRecord] = []
        self.is_dirty = False


class RunDirectory:
    """One run's. For one thread at a time; a second process is refused.

    Args:
        path: the directory; made if it is not there.
        settings: what decides the results.
        schema: of the rows, an Arrow schema.
        resume: whether to go on with what is there.

    Raises:
        UsageError: it holds another run, or one and ``resume`` was not asked for, or is in use.
        OSError: it can not be written.
    """

    def __init__(
        self, path: str | Path, settings: Mapping[str, Any], schema: Any, resume: bool
    ) -> None:
        self._arrow = need("pyarrow", "to keep results")
        need("pyarrow.ipc", "to keep results")
        self.path = Path(path)
        self._parts = self.path / "parts"
        self._schema = schema
        self._open: dict[int, _Open] = {}
        self._done: dict[int, list[BatchRecord]] = {}
        self._flushed_at = time.monotonic()
        self._lock = self._begin(settings, resume)

    def _begin(self, settings: Mapping[str, Any], resume: bool) -> int:
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path}: expected a directory for the results, got a file")
        before = self.path / _SETTINGS
        if not before.exists() and self.path.exists() and any(self.path.iterdir()):
            raise UsageError(
                f"{self.path}: holds files that no evaluation wrote; give an empty directory or "
                "one that is not there"
            )
        self._parts.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._parts / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"{self.path}: another evaluation is writing to it") from None
            if before.exists() and (resume or self.is_finished or self._has_parts()):
                self._continue(before, settings, resume)
            else:
                write_whole(before, (json.dumps(settings, indent=2) + "\n").encode())
        except BaseException:
            os.close(lock)
            raise
        return lock

    def _continue(self, before: Path, settings: Mapping[str, Any], resume: bool) -> None:
        try:
            found = json.loads(before.read_bytes())
        except ValueError as error:
            raise UsageError(f"{before}: damaged: {error}; give another directory") from error
        if not resume:
            raise UsageError(
                f"{self.path}: holds an evaluation already; go on with it by --resume, or give "
                "another directory"
            )
        if found != settings:
            differing = _difference(found, dict(settings))
            raise UsageError(
                f"{self.path}: --resume does not fit, it holds another evaluation: {differing}"
            )
        for part in sorted(self._parts.glob("*.arrow")):
            self._take(part)

    def _take(self, part: Path) -> None:
        """A part of an earlier run; one that can not be read is computed again."""
        try:
            table, records, batches = self._read(part)
        except (self._arrow.ArrowException, OSError, ValueError, KeyError):
            part.unlink()
            return
        number = int(part.stem)
        self._done[number] = records
        if len(records) < batches:
            window = self._open[number] = _Open(batches)
            window.tables.append(table)
            window.records += records

    def _has_parts(self) -> bool:
        return any(self._parts.glob("*.arrow"))

    @property
    def is_finished(self) -> bool:
        """Whether the results are there."""
        return (self.path / "results.json").exists()

    @property
    def elapsed_s(self) -> float:
        """How long earlier runs computed."""
        return max((r[3] for records in self._done.values() for r in records), default=0.0)

    @property
    def all_done(self) -> dict[int, frozenset[int]]:
        """For each window of which something is finished, what `done` says."""
        return {window: self.done(window) for window in self._done}

    def done(self, window: int) -> frozenset[int]:
        """Which batches of a window are finished."""
        return frozenset(record[0] for record in self._done.get(window, ()))

    def add(self, window: int, batches: int, table: Any, record: BatchRecord) -> None:
        """Keeps a batch.

        Args:
            window: its number.
            batches: that the window has.
            table: the batch's rows.
            record: of the batch.

        Raises:
            OSError: the disk is full, or else can not be written; what was kept before stays.
        """
        entry = self._open.setdefault(window, _Open(batches))
        entry.tables.append(table)
        entry.records.append(record)
        entry.is_dirty = True
        self._done.setdefault(window, []).append(record)
        if len(entry.records) == batches:
            self._write(window)
        elif time.monotonic() - self._flushed_at > _FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Puts all that is finished on disk."""
        for number in [number for number, entry in self._open.items() if entry.is_dirty]:
            self._write(number)
        self._flushed_at = time.monotonic()

    def _write(self, number: int) -> None:
        entry = self._open[number]
        table = self._arrow.concat_tables(entry.tables).sort_by("row")
        meta = {"batches": entry.batches, "records": sorted(entry.records)}
        table = table.replace_schema_metadata({_META: json.dumps(meta)})
        path = self._parts / f"{number:09d}.arrow"
        with _temporary(path) as temporary:
            with (
                self._arrow.OSFile(str(temporary), "wb") as sink,
                self._arrow.ipc.new_file(sink, table.schema) as writer,
            ):
                writer.write_table(table)
            os.replace(temporary, path)
        entry.is_dirty = False
        entry.tables = [table.replace_schema_metadata(None)]
        if len(entry.records) == entry.batches:
            del self._open[number]

    def _read(self, part: Path) -> tuple[Any, list[BatchRecord], int]:
        with self._arrow.memory_map(str(part)) as source:
            table = self._arrow.ipc.open_file(source).read_all()
        meta = json.loads((table.schema.metadata or {})[_META])
        table = table.replace_schema_metadata(None)
        if table.schema != self._schema:
            raise ValueError("another schema")
        return table, [tuple(record) for record in meta["records"]], meta["batches"]

    def tables(self) -> Iterator[Any]:
        """Each window's rows, in the data's order."""
        for number in sorted(self._done):
            yield self._read(self._parts / f"{number:09d}.arrow")[0]

    @property
    def records(self) -> Sequence[BatchRecord]:
        """Of all batches, window by window."""
        return [r for number in sorted(self._done) for r in sorted(self._done[number])]

    def write_rows(self) -> Path:
        """``rows.parquet`` of all parts: the same bytes for the same rows."""
        parquet = need("pyarrow.parquet", "to write results")
        path = self.path / "rows.parquet"
        with _temporary(path) as temporary:
            with parquet.ParquetWriter(temporary, self._schema, compression="zstd") as writer:
                gathered: list[Any] = []
                for table in self.tables():
                    gathered.append(table)
                    if sum(len(t) for t in gathered) >= _GROUP_ROWS:
                        writer.write_table(self._arrow.concat_tables(gathered), _GROUP_ROWS)
                        gathered.clear()
                if gathered:
                    writer.write_table(self._arrow.concat_tables(gathered), _GROUP_ROWS)
            os.replace(temporary, path)
        return path

    def finish(self, results: Mapping[str, Any]) -> None:
        """Writes ``results.json``, and lets go of the parts: ``rows.parquet`` has them all."""
        text = json.dumps(results, indent=2, allow_nan=False) + "\n"
        write_whole(self.path / "results.json", text.encode())
        shutil.rmtree(self._parts, ignore_errors=True)

    def close(self) -> None:
        """Lets another process write here."""
        os.close(self._lock)


def _difference(before: Mapping[str, Any], now: Mapping[str, Any], name: str = "") -> str:
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if old != new:
            if isinstance(old, dict) and isinstance(new, dict):
                return _difference(old, new, f"{name}{key}.")
            return f"{name}{key} was {old!r:.80}, and is {new!r:.80} now"
    return "nothing that can be named"
