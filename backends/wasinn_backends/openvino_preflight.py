"""Looks through OpenVINO's XML from a guest before OpenVINO does. Not a validator of OpenVINO IR.

Refused: document types (entities, external references), more elements or deeper nesting than real
models have, and constants that lie outside of the weights that came along.
"""

from __future__ import annotations

from typing import Final
from xml.parsers import expat

from wasinn_host.nn.plugin import ErrorKind, WasiNnError

__all__ = ["preflight"]

MAX_BYTES: Final = 256 << 20
MAX_ELEMENTS: Final = 4_000_000
MAX_DEPTH: Final = 128
"""An If or Loop in the body of another adds about six."""


def preflight(xml: bytes, weights_bytes: int) -> None:
    """Raises unless the XML may be given to OpenVINO.

    Args:
        xml: the guest's first part.
        weights_bytes: length of the second.

    Raises:
        WasiNnError: ``invalid_encoding`` for what is no such XML, ``too_large`` beyond the limits.
    """
    if len(xml) > MAX_BYTES:
        raise WasiNnError(
            ErrorKind.TOO_LARGE, f"the XML has {len(xml)} bytes, more than {MAX_BYTES}"
        )
    scan = _Scan(weights_bytes)
    # UTF-8 alone, whatever the XML declares, so that both parsers read the same characters.
    parser = expat.ParserCreate("UTF-8")
    parser.StartDoctypeDeclHandler = scan.doctype
    parser.StartElementHandler = scan.start
    parser.EndElementHandler = scan.end
    try:
        if b"\0" in xml:
            raise ValueError("a zero byte, as in UTF-16; expected UTF-8")
        xml.decode()
        parser.Parse(xml, True)
    except (expat.ExpatError, UnicodeError, ValueError, LookupError) as error:
        raise WasiNnError(
            ErrorKind.INVALID_ENCODING, f"the first part is no OpenVINO XML: {error}"
        ) from error


class _Scan:
    def __init__(self, weights_bytes: int) -> None:
        self._weights_bytes = weights_bytes
        self._depth = 0
        self._elements = 0
        self._layer = ""

    def doctype(self, *_: object) -> None:
        raise WasiNnError(
            ErrorKind.INVALID_ENCODING, "OpenVINO XML with a document type is not accepted"
        )

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if not self._elements and name != "net":
            raise WasiNnError(
                ErrorKind.INVALID_ENCODING, f"OpenVINO XML begins with <net>, got <{name[:80]}>"
            )
        self._depth += 1
        self._elements += 1
        if self._depth > MAX_DEPTH or self._elements > MAX_ELEMENTS:
            raise WasiNnError(
                ErrorKind.TOO_LARGE,
                f"the XML nests deeper than {MAX_DEPTH} or has more than {MAX_ELEMENTS} elements",
            )
        if name == "layer":
            self._layer = attributes.get("type", "")
        places = [key for key in ("offset", "size") if key in attributes]
        if name == "data" and self._layer == "Const" and len(places) < 2:
            raise WasiNnError(
                ErrorKind.INVALID_ENCODING, "a constant does not say its offset and its size"
            )
        if len(places) == 2:
            offset, size = attributes["offset"], attributes["size"]
            if not all(t.isascii() and t.isdigit() and len(t) < 20 for t in (offset, size)) or (
                int(offset) + int(size) > self._weights_bytes
            ):
                raise WasiNnError(
                    ErrorKind.INVALID_ENCODING,
                    f"a constant at {offset[:24]} of {size[:24]} bytes lies outside of the "
                    f"{self._weights_bytes} bytes of weights",
                )

    def end(self, _: str) -> None:
        self._depth -= 1
