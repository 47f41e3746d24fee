"""The small BERT that lies beside this file, in LiteRT and in its older form, tflite-runtime."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.backends.tflite_models import Array, guest, output_array, set_array
from tests.cli.command_line import SOURCES
from tests.models.test_bert_builder import TINY, inputs
from wasinn_models import build_bert

SMALL_BERT = Path(__file__).with_name("small_bert.tflite")
ROOT = Path(__file__).parents[2]
# numpy 1 is what tflite-runtime was compiled for; the others are what wasinn needs to run at all.
PACKAGES = ("tflite-runtime==2.14.0", "numpy<2", "click", "rich", "llvmlite")

COMPUTE = """
import sys
import numpy as np
from wasinn_backends.tflite import TfliteBackend
from wasinn_host.nn.conformance import Outcome, check_backend
from wasinn_host.nn.plugin import ModelSource, Tensor, TensorType

assert np.__version__.startswith("1."), np.__version__
backend = TfliteBackend({"threads": "1"})
device = backend.devices()[0]
print(device.description)
with open(sys.argv[1], "rb") as file:
    graph = backend.load(ModelSource("tensorflowlite", (file.read(),)), device)
context = graph.create_context()
known = np.load(sys.argv[2])
for _ in range(2):
    for index, spec in enumerate(graph.inputs):
        array = known[spec.name]
        data = memoryview(array.tobytes())
        context.set_input(index, Tensor(TensorType.I64, array.shape, data))
    context.compute()
found = context.get_output(0)
difference = np.frombuffer(found.data, np.float32).reshape(found.shape) - known["expected"]
assert np.abs(difference).max() < 1e-5
results = list(check_backend("wasinn_backends.tflite:TfliteBackend"))
wrong = [(result.name, result.why) for result in results if result.outcome is Outcome.FAILED]
assert not wrong, wrong
print(len(results), "checks")
"""


def test_the_small_bert_is_what_the_builder_makes(tmp_path: Path) -> None:
    made = build_bert(TINY, None, tmp_path / "m.tflite", form="tflite")
    assert made.read_bytes() == SMALL_BERT.read_bytes()


def small_bert(data: Mapping[str, Array]) -> Array:
    user = guest()
    assert user.load(SMALL_BERT.read_bytes(), encoding=4) == 0, user.error()
    assert user.init(user.result) == 0, user.error()
    context = user.result
    for index, array in enumerate(data.values()):
        assert set_array(user, context, index, array) == 0, user.error()
    assert user.compute(context) == 0, user.error()
    found = output_array(user, context)
    user.codec.context.close()
    return found


@pytest.mark.slow
@pytest.mark.skipif(
    sys.version_info >= (3, 12) or sys.platform != "linux",
    reason="tflite-runtime is there for Linux and Python up to 3.11",
)
def test_tflite_runtime_computes_the_same(tmp_path: Path) -> None:
    """In an environment of its own, made here."""
    data = inputs([7, 3])
    known = tmp_path / "known.npz"
    arrays: dict[str, Any] = {"expected": small_bert(data), **data}
    np.savez(known, **arrays)
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    done = subprocess.run(
        [python, "-c", COMPUTE, SMALL_BERT, known],
        env={"PYTHONPATH": ":".join(SOURCES), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["TFLite, CPU", "18 checks"]
