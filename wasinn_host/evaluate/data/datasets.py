"""Data sets of Hugging Face: directories that ``save_to_disk`` wrote, and names on the hub.

    DIRECTORY                    as ``datasets.load_from_disk`` takes it
    hf:OWNER/NAME[@REVISION]     as ``datasets.load_dataset`` takes it, streamed

Numbers of labels stay numbers: models that were trained on the data have them in the same order.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from wasinn_host.evaluate.data.errors import DataError
from wasinn_host.evaluate.hashes import sha256_of_all
from wasinn_runtime.errors import UsageError

__all__ = ["HUB", "is_saved", "read_hub", "read_saved", "sha256_of_hub", "sha256_of_saved"]

HUB: Final = "hf:"
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_ROWS_AT_ONCE: Final = 1000


def is_saved(path: Path) -> bool:
    """Whether a directory is one that ``save_to_disk`` wrote."""
    return any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json"))


def read_saved(source: str, split: str | None) -> Iterator[Mapping[str, Any]]:
    """The rows of a directory, some thousand in memory at a time.

    Args:
        source: the directory.
        split: of those that it has; None where it has none.

    Raises:
        DataError: it is damaged, or has no such split.
        UsageError: the package datasets is not installed.
    """
    datasets = _datasets()
    try:
        found = _split(datasets.load_from_disk(source), split, source)
        for table in found.with_format("arrow").iter(batch_size=_ROWS_AT_ONCE):
            yield from table.to_pylist()
    except DataError:
        raise
    except Exception as error:  # of whatever the package is built on
        raise DataError(f"{source}: can not be read as a data set: {error}") from error


def read_hub(source: str, split: str | None) -> Iterator[Mapping[str, Any]]:
    """The rows of a data set on the hub, or of a directory of data files, as they come.

    Args:
        source: ``hf:NAME[@REVISION]``.
        split: of those that it has; None where it has one only.

    Raises:
        DataError: it can not be had, or has no such split.
        UsageError: the package datasets is not installed.
    """
    name, _, revision = source.removeprefix(HUB).partition("@")
    datasets = _datasets()
    try:
        loaded = datasets.load_dataset(name, revision=revision or None, streaming=True)
        yield from _split(loaded, split, source)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{source}: can not be had: {type(error).__name__}: {error}") from error


def sha256_of_saved(source: str) -> str:
    """Of a directory's files."""
    return sha256_of_all(sorted(path for path in Path(source).rglob("*") if path.is_file()))


def sha256_of_hub(source: str) -> str | None:
    """What a name with a commit stays the same by; None without one."""
    is_fixed = _COMMIT.fullmatch(source.partition("@")[2])
    return hashlib.sha256(source.encode()).hexdigest() if is_fixed else None


def _split(loaded: Any, split: str | None, source: str) -> Any:
    if not isinstance(loaded, dict):
        if split is not None:
            raise DataError(f"{source}: it has no splits; leave out --split {split}")
        return loaded
    if split is None and len(loaded) == 1:
        return next(iter(loaded.values()))
    if split not in loaded:
        asked = "say which with --split" if split is None else f"no split {split!r}"
        raise DataError(f"{source}: {asked}; there is: {', '.join(map(str, loaded))}")
    return loaded[split]


def _datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise UsageError(
            f"data sets of Hugging Face need the package datasets ({error}); install it with: "
            "pip install 'wasinn-host[datasets]'"
        ) from error
    datasets.disable_progress_bars()
    return datasets
