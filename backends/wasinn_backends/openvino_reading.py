"""Reads models for the OpenVINO backend, each encoding by the frontend for it. Compiles nothing.

What comes from a guest is looked through first, or refused where nothing looks through it. It goes
to the frontend of its encoding and to no other: OpenVINO, given bytes to read, tries its frontends
in turn, so that what is ONNX to the look may be a model of another kind to OpenVINO.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from wasinn_backends.common import check_one_part
from wasinn_backends.onnx_preflight import preflight as onnx_preflight
from wasinn_backends.openvino_preflight import preflight as xml_preflight
from wasinn_host.nn.plugin import ErrorKind, ModelSource, WasiNnError

__all__ = ["ENCODINGS", "read"]

_FRONTENDS: Final = {"onnx": "onnx", "tensorflow": "tf", "tensorflowlite": "tflite"}
_CALLED: Final = {
    "onnx": "an ONNX",
    "tensorflow": "a TensorFlow",
    "tensorflowlite": "a TensorFlow Lite",
}
ENCODINGS: Final = frozenset({"openvino", *_FRONTENDS})

_SAVED_MODEL: Final = "saved_model.pb"
_BEFORE_XML: Final = b"\xef\xbb\xbf \t\r\n"


def read(ov: Any, core: Any, source: ModelSource) -> Any:
    """A model as OpenVINO has it before it compiles one.

    Args:
        ov: the package.
        core: its ``Core``.
        source: the model.

    Raises:
        WasiNnError: ``invalid_argument`` for a wrong number of parts, ``unsupported_operation`` for
            what is not read from guests, and what the look through the model raises.
        Exception: OpenVINO's own, for what it can not read.
    """
    if source.encoding == "openvino":
        return _of_openvino(ov, core, source)
    check_one_part(source, _CALLED[source.encoding])
    if not source.is_trusted:
        _look_through(source)
    frontend = ov.frontend.FrontEndManager().load_by_framework(_FRONTENDS[source.encoding])
    if source.encoding == "tensorflowlite":
        # That frontend reads files alone, and knows them by the name's end.
        with tempfile.TemporaryDirectory(prefix="wasinn-") as folder:
            file = Path(folder, "model.tflite")
            file.write_bytes(source.read()[0])
            return frontend.convert(frontend.load(str(file), enable_mmap=False))
    given: object = str(_named(source.paths[0])) if source.is_trusted else _stream(source)
    return frontend.convert(frontend.load(given))


def _look_through(source: ModelSource) -> None:
    """Accepts a guest's model of one part, or says why it is refused."""
    if source.encoding == "onnx":
        onnx_preflight(source.builders[0])
        return
    raise WasiNnError(
        ErrorKind.UNSUPPORTED_OPERATION,
        f"OpenVINO reads {_CALLED[source.encoding].partition(' ')[2]} models from files that the "
        "host's user names, not from guests: there is no look through them before OpenVINO's",
    )


def _stream(source: ModelSource) -> io.BytesIO:
    return io.BytesIO(source.builders[0])


def _named(path: Path) -> Path:
    """What OpenVINO wants to be told: of a SavedModel the folder, of all else the file."""
    return path.parent if path.name == _SAVED_MODEL else path


def _of_openvino(ov: Any, core: Any, source: ModelSource) -> Any:
    parts: Sequence[object] = source.paths or source.builders
    if not 1 <= len(parts) <= 2:
        raise WasiNnError(
            ErrorKind.INVALID_ARGUMENT,
            "an OpenVINO model has two parts, the XML and the weights, or the XML alone where "
            f"there are no weights; got {len(parts)}",
        )
    if source.is_trusted:
        return core.read_model(*(str(path) for path in source.paths))
    xml, weights = (*source.builders, b"")[:2]
    # With "<" at its head it can be no protobuf, which other frontends would take it for.
    xml = xml.lstrip(_BEFORE_XML)
    xml_preflight(xml, len(weights))
    held = np.frombuffer(weights, np.uint8) if weights else np.zeros(0, np.uint8)
    return core.read_model(xml, ov.Tensor(held.copy()))
