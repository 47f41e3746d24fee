"""The ONNX model in OpenVINO's own form, by OpenVINO's reader of ONNX. Not an encoder of its own.

OpenVINO runs in a process of its own here: it is imported without its telemetry, which a program
that has already imported it may want.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from wasinn_models.errors import BuildError

__all__ = ["of_onnx"]

_SCRIPT: Final = """
import sys
sys.modules["openvino_telemetry"] = None  # an entry of None makes its import fail
import openvino
model = openvino.Core().read_model("m.onnx")
# Beyond the positions OpenVINO's Gather gives zeros, where ONNX says that it must fail.
length = openvino.Dimension(1, int(sys.argv[1]))
model.reshape({port: openvino.PartialShape([-1, length]) for port in model.inputs})
openvino.serialize(model, "m.xml", "m.bin")
"""


def of_onnx(onnx: bytes, most_tokens: int, folder: Path) -> list[bytes]:
    """The XML and the weights, float32.

    Args:
        onnx: the model, as bytes; its inputs are [batch, sequence].
        most_tokens: how long a sequence may be.
        folder: an empty one with room for the model three times.

    Raises:
        BuildError: OpenVINO can not read it.
        OSError: the folder has no room.
    """
    (folder / "m.onnx").write_bytes(onnx)
    command = [sys.executable, "-I", "-c", _SCRIPT, str(most_tokens)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"its process ended with {done.returncode}"])[
            -1
        ]
        raise BuildError(f"form openvino: OpenVINO can not make the model: {why}")
    return [(folder / name).read_bytes() for name in ("m.xml", "m.bin")]
