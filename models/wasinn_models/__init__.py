"""Models for guests: a catalogue, a store in the user's cache, and a builder of BERT-style models.

Knows neither WebAssembly nor WASI-NN. ``operations`` has what the command line does; the progress
bar in ``rich_progress`` is imported only by those who want one.
"""

from __future__ import annotations

from pathlib import Path

from wasinn_models.bert.build import build_bert
from wasinn_models.bert.config import BertConfig
from wasinn_models.catalogue import Catalogue
from wasinn_models.errors import ModelError
from wasinn_models.manifest import Manifest
from wasinn_models.store import ModelStore, ResolvedModel

__all__ = [
    "BertConfig",
    "Catalogue",
    "Manifest",
    "ModelError",
    "ModelStore",
    "ResolvedModel",
    "build_bert",
    "resolve",
]


def resolve(name: str, directory: Path | str | None = None) -> ResolvedModel:
    """Finds a model in the store; what is missing of it is fetched and built.

    Args:
        name: ``NAME`` or ``NAME:VARIANT``, such as ``minilm`` or ``minilm:int8``.
        directory: the store's folder; the user's cache directory by default.

    Raises:
        ModelError: it can not be had; the message says why and what to do.
    """
    return ModelStore(directory).resolve(name)
