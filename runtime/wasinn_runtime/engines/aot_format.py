"""The AOT file: how it is laid out, written and checked. Knows nothing of what code means.

    0   16 bytes  magic
    16  u32       format version
    20  u32       bytes of the header
    24  u64       bytes of the whole file
    32            the header: JSON in UTF-8
    ...           the sections, where the header says
    -32           SHA-256 of everything before it

All numbers are little endian. docs/aot.md describes the header's fields and the sections. The
digest finds damage, not malice: whoever can write a file can also write its digest.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from wasinn_runtime.errors import UnusableImage

__all__ = ["FORMAT_VERSION", "HEAD_BYTES", "MAGIC", "Facts", "check_head", "check_whole"]
__all__ += ["is_aot", "pack"]

# The second line tells people; the first byte, and the last two, tell damage by text tools.
MAGIC = b"\x7fwasinn-aot\r\n\x1a\0\0"
FORMAT_VERSION = 1
_HEAD = struct.Struct("<16sIIQ")
HEAD_BYTES = _HEAD.size
_DIGEST_BYTES = 32
_ALIGNMENT = 64


@dataclass(frozen=True)
class Facts:
    """What the header says beside where the sections are.

    Attributes:
        wasinn: version of the distribution that made it; for people.
        build: digest of the sources that decide what code comes out of a module.
        abi: the ABI version of generated code.
        llvm: LLVM's version.
        llvmlite: version of the package that brought it.
        triple: the system it is for.
        cpu: the CPU it is for; for people.
        cpu_features: what the running CPU must have, in LLVM's words.
        opt_level: LLVM's optimisation level; for people.
        migratable: whether the code can stop where its state can be taken elsewhere.
        name: the module's file name; for people.
        source_sha256: digest of the module that it was compiled from.
        source_bytes: that module's size.
        features: the WebAssembly proposals that it was decoded with.
        parts: (offset, bytes, protection) of the code section's pages.
        entries: offset in the code section of the table of functions reachable by reference.
        imports: [offset, symbol, addend] of words in the code section that want an address.
        unwind: (offset, bytes) in the code section of the tables for unwinding.
    """

    wasinn: str
    build: str
    abi: int
    llvm: str
    llvmlite: str
    triple: str
    cpu: str
    cpu_features: Sequence[str]
    opt_level: int
    migratable: bool
    name: str
    source_sha256: str
    source_bytes: int
    features: Sequence[str]
    parts: Sequence[Sequence[int]]
    entries: int
    imports: Sequence[tuple[int, str, int]]
    unwind: Sequence[int]


def is_aot(head: bytes) -> bool:
    """Whether a file that begins with these bytes (16 are enough) is meant as an AOT file."""
    return head[: len(MAGIC)] == MAGIC


def pack(facts: Facts, sections: Mapping[str, tuple[bytes | bytearray, int]]) -> bytearray:
    """The bytes of a file.

    Args:
        sections: content and alignment of each.
    """
    placed: dict[str, tuple[int, int]] = dict.fromkeys(sections, (0, 0))
    # Offsets are digits in the header, whose length they depend on: leave room for the longest.
    room = len(_header(facts, dict.fromkeys(sections, (1 << 40, 1 << 40))))
    at = HEAD_BYTES + room
    for name, (content, alignment) in sections.items():
        at = _up(at, max(alignment, _ALIGNMENT))
        placed[name] = (at, len(content))
        at += len(content)
    total = at + _DIGEST_BYTES
    header = _header(facts, placed).ljust(room)
    image = bytearray(total)
    _HEAD.pack_into(image, 0, MAGIC, FORMAT_VERSION, room, total)
    image[HEAD_BYTES : HEAD_BYTES + room] = header
    for name, (content, _) in sections.items():
        start, size = placed[name]
        image[start : start + size] = content
    image[at:] = hashlib.sha256(memoryview(image)[:at]).digest()
    return image


def _header(facts: Facts, sections: Mapping[str, tuple[int, int]]) -> bytes:
    document = {**asdict(facts), "sections": sections}
    return json.dumps(document, separators=(",", ":")).encode()


def _up(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


def check_head(head: bytes, size: int, where: str) -> None:
    """Check the first bytes, before the others are read.

    Args:
        head: the first ``HEAD_BYTES`` bytes, or all there are.
        size: the file's.
        where: its name in messages.

    Raises:
        UnusableImage: it is not an AOT file, of another format, or not complete.
    """
    if not MAGIC.startswith(head[: len(MAGIC)]) or not head:
        raise UnusableImage("not an AOT file; make one with `wasinn compile`", where)
    if len(head) < HEAD_BYTES:
        raise UnusableImage(f"truncated: it ends after {size} bytes, in its head", where)
    _, version, _, total = _HEAD.unpack_from(head)
    if version != FORMAT_VERSION:
        raise UnusableImage(
            f"AOT format {version}; this wasinn reads format {FORMAT_VERSION}: "
            "compile the module again",
            where,
        )
    if size < total:
        raise UnusableImage(f"truncated: {size} bytes are left of {total}", where)
    if size > total:
        raise UnusableImage(f"damaged: {size - total} bytes were added at its end", where)


def check_whole(image: memoryview, where: str) -> tuple[Facts, dict[str, tuple[int, int]]]:
    """Check the digest and read the header.

    Args:
        image: the file's bytes, whose head was checked.
        where: its name in messages.

    Returns:
        The facts, and offset and length of each section.

    Raises:
        UnusableImage: it is damaged.
    """
    at = len(image) - _DIGEST_BYTES
    if at < HEAD_BYTES or hashlib.sha256(image[:at]).digest() != image[at:]:
        raise UnusableImage("damaged: its content does not have the digest it was written with",
                            where)  # fmt: skip
    _, _, size, _ = _HEAD.unpack_from(image)
    try:
        document: dict[str, Any] = json.loads(bytes(image[HEAD_BYTES : HEAD_BYTES + size]))
        sections = {
            name: (start, length)
            for name, (start, length) in document["sections"].items()
            if 0 <= start <= start + length <= at
        }
        facts = Facts(**{field.name: document[field.name] for field in fields(Facts)})
        if len(sections) != len(document["sections"]):
            raise ValueError("a section lies outside the file")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        # The digest is right, so this is what was written.
        raise UnusableImage(f"made by a faulty program: {error}", where) from error
    return facts, sections
