"""A module without its code: all that instantiation, traps and tools need beside the functions."""

from __future__ import annotations

from wasinn_runtime.binary.decoder import MAGIC, VERSION
from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.binary.reader import Reader
from wasinn_runtime.spec.opcodes import BY_NAME

__all__ = ["without_code"]

_CUSTOM_SECTION, _CODE_SECTION = 0, 10
# What only linkers and debuggers of the WebAssembly code itself read.
_UNWANTED = (".debug_", "reloc.", "linking", "sourceMappingURL", "external_debug_info")


def without_code(module: ParsedModule) -> bytes:
    """The module with ``unreachable`` in place of each body, and without debug information.

    That is again a valid module, with the same imports, exports, segments and names.
    """
    # No locals, unreachable, end; that is valid for every type.
    body = bytes([0, BY_NAME["unreachable"].code, BY_NAME["end"].code])
    names = {section.end: section.name for section in module.custom}
    reader = Reader(module.data, module.where, len(MAGIC) + len(VERSION))
    parts = [module.data[: reader.pos]]
    while reader.pos < len(module.data):
        start = reader.pos
        number = reader.byte()
        reader.skip(reader.length())
        end = reader.pos
        if number == _CODE_SECTION:
            count = len(module.code)
            content = _uleb(count) + (_uleb(len(body)) + body) * count
            parts.append(bytes([number]) + _uleb(len(content)) + content)
        elif number != _CUSTOM_SECTION or not names[end].startswith(_UNWANTED):
            parts.append(module.data[start:end])
    return b"".join(parts)


def _uleb(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
