"""Which encoding a model's first bytes betray. A guess for ``autodetect``, not a validation."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["sniff_encoding"]


def sniff_encoding(builders: Sequence[bytes]) -> str | None:
    """Names the encoding of a model, or None when nothing is recognised.

    Magic numbers are decisive. ONNX has none: its protobuf starts, as every writer does it, with
    field 1 (``ir_version``, which no runtime loads a model without).

    Args:
        builders: the model's parts; XML may be in any of two, all else in the first.
    """
    for part in builders[:2]:
        text = part[:512].lstrip(b"\xef\xbb\xbf \t\r\n")
        if text.startswith((b"<?xml", b"<net")):
            return "openvino"
    if not builders:
        return None
    head = builders[0][:16]
    if head.startswith(b"GGUF"):
        return "ggml"
    if head[4:8] == b"TFL3":
        return "tensorflowlite"
    if head.startswith(b"PK\x03\x04"):
        return "pytorch"
    # Field 1 as varint with a plausible IR version (1 to 99), then another known ModelProto tag.
    if len(head) >= 3 and head[0] == 0x08 and 1 <= head[1] <= 99 and head[2] in _MODEL_TAGS:
        return "onnx"
    return None


_MODEL_TAGS = frozenset({0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42, 0x72})
"""Tag bytes of ModelProto's fields 2 to 8 and 14. Source: onnx.proto."""
