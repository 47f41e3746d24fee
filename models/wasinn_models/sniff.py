"""Recognises a model file's encoding by its name and first bytes, and wrong files by the same.

A glance, not a validation: a backend that loads the file looks at all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wasinn_models.errors import ManifestError, SourceError

__all__ = ["encoding_of"]

# File name endings, to encodings as WASI-NN names them.
ENDINGS = {
    ".onnx": "onnx",
    ".tflite": "tensorflowlite",
    ".xml": "openvino",
    ".bin": "openvino",
    ".pt": "pytorch",
    ".pt2": "pytorch",
    ".torchscript": "pytorch",
    ".gguf": "ggml",
    ".pb": "tensorflow",
}

HEAD_BYTES = 512


def encoding_of(files: Sequence[tuple[str, Path]], declared: str | None, *, built: bool) -> str:
    """The encoding of a model that is being added.

    Args:
        files: name and path of each; the first decides.
        declared: what the user says it is, if anything.
        built: whether an ONNX model will be built of the files.

    Raises:
        SourceError: a file is empty, a web page, or of another encoding than its name or the user
            says.
        ManifestError: nothing tells the encoding.
    """
    for name, path in files:
        _refuse_wrong(name, path)
    if built:
        return "onnx"
    name, path = files[0]
    by_name = next((kind for ending, kind in ENDINGS.items() if name.endswith(ending)), None)
    by_bytes = _by_bytes(path)
    expected = declared or by_name
    if expected is None and by_bytes is None:
        raise ManifestError(
            f"{name}: the encoding can not be told from the name: say it with --encoding "
            f"(such as {', '.join(sorted(set(ENDINGS.values())))})"
        )
    if expected and by_bytes and expected != by_bytes:
        raise SourceError(f"{name}: expected a model in {expected}, its bytes are of {by_bytes}")
    return expected or str(by_bytes)


def _head(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(HEAD_BYTES)


def _refuse_wrong(name: str, path: Path) -> None:
    """Refuses what is no model file of any kind.

    Raises:
        SourceError: it is empty, or a web page.
    """
    head = _head(path)
    if not head:
        raise SourceError(f"{name}: expected a model's file, got an empty one")
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        raise SourceError(
            f"{name}: expected a model's file, got a web page: is the address the file's own?"
        )


def _by_bytes(path: Path) -> str | None:
    """The encoding that the first bytes stand for, where they stand for one."""
    head = _head(path)
    if head.startswith(b"GGUF"):
        return "ggml"
    if head[4:8] == b"TFL3":
        return "tensorflowlite"
    return None
