"""The store of data sets: that of models, with entries and a folder of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wasinn_models.progress import Progress, silent
from wasinn_models.store import ModelStore, default_directory

__all__ = ["dataset_store", "resolve_dataset"]


def dataset_store(
    directory: Path | str | None = None,
    *,
    progress: Progress = silent,
    notice: Callable[[str], None] = lambda text: None,
) -> ModelStore:
    """The store of data sets.

    Args:
        directory: its folder; by default ``datasets`` beside that of models.
        progress, notice: see `ModelStore`.
    """
    folder = default_directory().parent / "datasets" if directory is None else directory
    return ModelStore(folder, progress=progress, notice=notice, shipped="data/entries")


def resolve_dataset(name: str, directory: Path | str | None = None) -> Path:
    """The file of a data set's rows; what is missing of it is fetched and built.

    Args:
        name: such as ``movie-reviews``, whose JSON lines have ``id``, ``text``, ``label``
            (``negative`` or ``positive``), ``rating`` (-4 to 4) and ``split`` (``train`` or
            ``test``).
        directory: see `dataset_store`.

    Raises:
        ModelError: it can not be had; the message says why and what to do.
    """
    return dataset_store(directory).resolve(name).path
