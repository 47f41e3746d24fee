"""The PyTorch backend through the codec: real archives, real PyTorch, and one real guest."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

from tests.backends.compiled_guest import ask
from tests.backends.onnx_models import DTYPES, matmul, output_array, set_array
from tests.backends.torch_models import (
    PICKLE,
    archive,
    changed,
    linear,
    script,
    scripted,
    torch_graphs,
    torch_guest,
    traced,
)
from tests.cli.command_line import SOURCES
from tests.nn.fake_guest import Guest
from wasinn_backends.torch import TorchBackend
from wasinn_backends.torch_preflight import preflight
from wasinn_host.nn import NnContext, Target, TensorType
from wasinn_host.nn.conformance import Outcome, check_backend
from wasinn_host.nn.errors import ErrorKind, WasiNnError
from wasinn_host.nn.plugin import TensorSpec

RANDOM = np.random.default_rng(7)


def weight_of(rows: int, columns: int) -> torch.Tensor:
    return torch.from_numpy(RANDOM.standard_normal((rows, columns)).astype(np.float32))


def refusal(model: bytes) -> WasiNnError:
    with pytest.raises(WasiNnError) as caught:
        preflight(model)
    return caught.value


def test_the_conformance_kit() -> None:
    results = list(check_backend("wasinn_backends.torch:TorchBackend"))
    assert [(r.name, r.why) for r in results if r.outcome is Outcome.FAILED] == []
    assert sum(r.outcome is Outcome.PASSED for r in results) >= 16


def test_agrees_with_onnx_runtime_on_the_same_weights() -> None:
    weight = weight_of(5, 3)
    session = ort.InferenceSession(matmul(weight.numpy()), providers=["CPUExecutionProvider"])
    guest = torch_guest()
    context = guest.open(traced(linear(weight), torch.zeros(1, 5)))
    for batch in (1, 4, 2, 2, 0):
        x = RANDOM.standard_normal((batch, 5)).astype(np.float32)
        assert set_array(guest, context, 0, x) == 0, guest.error()
        assert guest.compute(context) == 0, guest.error()
        (expected,) = session.run(None, {"x": x})
        np.testing.assert_allclose(output_array(guest, context), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tensor_type", DTYPES, ids=lambda t: t.value)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 1, 2)], ids=str)
def test_every_type_and_rank(tensor_type: TensorType, shape: tuple[int, ...]) -> None:
    guest = torch_guest()
    context = guest.open(script("torch.add(x, x)"))
    x = RANDOM.integers(0, 100, shape).astype(DTYPES[tensor_type])
    assert set_array(guest, context, 0, x) == 0, guest.error()
    assert guest.compute(context) == 0, guest.error()
    y = output_array(guest, context)
    assert (y.dtype, y.shape) == (x.dtype, x.shape)
    np.testing.assert_array_equal(y, x + x)


def test_tuples_are_outputs_one_after_the_other() -> None:
    guest = torch_guest()
    assert guest.load(script("(x, torch.neg(x))", "Tuple[Tensor, Tensor]")) == 0, guest.error()
    graph = guest.codec.context.graph(guest.result)
    assert graph.inputs == (TensorSpec("x", None, None, "Tensor"),)
    assert [spec.name for spec in graph.outputs] == ["output_0", "output_1"]
    assert guest.init(guest.result) == 0
    context = guest.result
    assert set_array(guest, context, 0, np.array([1, 2], np.int64)) == 0
    assert guest.compute(context) == 0
    assert output_array(guest, context, 1).tolist() == [-1, -2]
    assert guest.get_output(context, 2, 8)[0] == 1
    assert "the model has 2 outputs" in guest.error()


@pytest.mark.parametrize("rows", [1, 3])
def test_columns_of_a_matrix(rows: int) -> None:
    """Alone in its dimension, a number keeps the stride that it had."""
    guest = torch_guest()
    context = guest.open(script("torch.slice(torch.neg(x), 1, 1, 2)"))
    x = np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)
    assert set_array(guest, context, 0, x) == 0, guest.error()
    assert guest.compute(context) == 0, guest.error()
    np.testing.assert_array_equal(output_array(guest, context), -x[:, 1:2])
    context = guest.open(script("torch.select(torch.neg(x), 1, 1)"))
    assert set_array(guest, context, 0, x) == 0, guest.error()
    assert guest.compute(context) == 0, guest.error()
    np.testing.assert_array_equal(output_array(guest, context), -x[:, 1])


def test_dictionaries_are_outputs_in_their_order() -> None:
    guest = torch_guest()
    context = guest.open(script('{"a": x, "b": torch.neg(x)}', "Dict[str, Tensor]"))
    assert set_array(guest, context, 0, np.array([1, 2], np.float32)) == 0
    assert guest.compute(context) == 0, guest.error()
    assert output_array(guest, context, 0).tolist() == [1.0, 2.0]
    assert output_array(guest, context, 1).tolist() == [-1.0, -2.0]


def test_outputs_stay_and_inputs_stay() -> None:
    """Also where a model hands its input through, or writes to it."""
    guest = torch_guest()
    for value, expected in (("x", [1.0, 2.0]), ("torch.add_(x, x)", [2.0, 4.0])):
        context = guest.open(script(value))
        assert set_array(guest, context, 0, np.array([1, 2], np.float32)) == 0
        for _ in range(2):
            assert guest.compute(context) == 0
            assert output_array(guest, context).tolist() == expected
        assert set_array(guest, context, 0, np.array([8, 9], np.float32)) == 0
        assert output_array(guest, context).tolist() == expected


class Counter(torch.nn.Module):
    """Remembers how often it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.get_buffer("count").add_(1)


def test_what_a_model_remembers_stays_in_its_context() -> None:
    guest = torch_guest()
    assert guest.load(traced(Counter(), torch.zeros(1))) == 0, guest.error()
    graph = guest.result
    contexts = []
    for _ in range(2):
        assert guest.init(graph) == 0
        contexts.append(guest.result)
    outputs = []
    for context, times in zip(contexts, (3, 1), strict=True):
        assert set_array(guest, context, 0, np.zeros(1, np.float32)) == 0
        for _ in range(times):
            assert guest.compute(context) == 0
            outputs.extend(output_array(guest, context).tolist())
    first = outputs[0]  # tracing called the module as well
    assert outputs == [first, first + 1, first + 2, first]


class TestErrors:
    def test_inputs_that_do_not_fit(self) -> None:
        guest = torch_guest()
        context = guest.open(script("torch.matmul(x, x)"))
        assert guest.compute(context) == 1
        assert "not set: input 0 (x)" in guest.error()
        assert guest.set_input(context, 1, TensorType.F32, (1,), bytes(4)) == 1
        assert guest.set_input(context, 0, TensorType.F32, (65536,) * 4, b"") == 1
        assert "takes 73786976294838206464 bytes, got 0" in guest.error()
        assert guest.get_output(context, 0, 4)[0] == 1
        assert set_array(guest, context, 0, np.ones((2, 3), np.float32)) == 0
        assert guest.compute(context) == 5
        assert "PyTorch, while computing: RuntimeError: mat1 and mat2" in guest.error()

    def test_outputs_that_wasi_nn_lacks(self) -> None:
        guest = torch_guest()
        context = guest.open(script("(torch.gt(x, 0), 7)", "Tuple[Tensor, int]"))
        assert set_array(guest, context, 0, np.ones(2, np.float32)) == 0
        assert guest.compute(context) == 0, guest.error()
        assert guest.get_output(context, 0, 4)[0] == 6
        assert "output 0 is a torch.bool" in guest.error()
        assert guest.get_output(context, 1, 4)[0] == 6

    def test_signatures_that_tensors_can_not_serve(self) -> None:
        guest = torch_guest()
        assert guest.load(script("x", arguments=", n: int")) == 6
        assert "forward takes n of type int" in guest.error()
        assert guest.load(script("torch.mul(x, n)", arguments=", n: int=3")) == 0

    def test_memory_that_is_not_there(self) -> None:
        guest = torch_guest()
        context = guest.open(script("torch.repeat(x, [1 << 50])"))
        assert set_array(guest, context, 0, np.ones(1, np.float32)) == 0
        assert guest.compute(context) == 7, guest.error()

    def test_parts_and_options(self) -> None:
        guest = torch_guest()
        assert guest.load(script("x"), b"") == 1
        assert guest.load() == 1
        (report,) = torch_graphs(threads="many").backends.report()
        assert "option threads: expected a number from 0 to 1024, got 'many'" in report.error

    def test_nothing_is_printed(self, capfd: pytest.CaptureFixture[str]) -> None:
        guest = torch_guest()
        guest.load(b"junk")
        guest.load(script("torch.no_such(x)"))
        context = guest.open(script("torch.matmul(x, x)"))
        assert set_array(guest, context, 0, np.ones((2, 3), np.float32)) == 0
        guest.compute(context)
        assert capfd.readouterr() == ("", "")


RESIZING = """
import numpy as np
from tests.backends.onnx_models import set_array
from tests.backends.torch_models import script, torch_guest
guest = torch_guest()
context = guest.open(script("torch.add(x, x, alpha=1, out=torch.zeros([1]))"))
for size in (3, 4, 5):
    assert set_array(guest, context, 0, np.ones(size, np.float32)) == 0
    assert guest.compute(context) == 0, guest.error()
"""


class TestWarnings:
    @pytest.mark.parametrize("how", ["default", "error"])
    def test_what_operators_warn_of_is_not_told(self, how: str) -> None:
        """PyTorch warns of this resizing, with the sizes in the text."""
        done = subprocess.run(
            [sys.executable, "-W", how, "-c", RESIZING],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
            env={"PYTHONPATH": ":".join(SOURCES)},
            timeout=100,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def test_scripts_that_warn_are_refused(self) -> None:
        class Warning(torch.nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                warnings.warn("noise", stacklevel=1)
                return x

        model = scripted(Warning())
        assert "the word warn in their code" in refusal(model).message

    def test_hooks_run_as_in_pytorch(self) -> None:
        class Doubling(torch.nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x + x

        def before(self: Doubling, given: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
            return (given[0] + 1,)

        def after(self: Doubling, given: tuple[torch.Tensor], y: torch.Tensor) -> torch.Tensor:
            return y * 10 + given[0]

        module = Doubling()
        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)
        guest = torch_guest()
        context = guest.open(scripted(module))
        x = np.array([1, 2], np.float32)
        assert set_array(guest, context, 0, x) == 0, guest.error()
        assert guest.compute(context) == 0, guest.error()
        np.testing.assert_array_equal(output_array(guest, context), [42, 63])


class TestHostileArchives:
    @pytest.mark.parametrize(
        "value",
        [
            'torch.from_file("/etc/passwd", False, 4, dtype=0)',
            'torch.from_file ("/etc/passwd", False, 4, dtype=0)',
            "torch.save(x, 'there')",
            "ops.aten.from_file('there', False, 4)",
            "ops.inductor._alloc_from_pool(x, 0, 0, [9], [1])",
            "torch.warn('noise')",
        ],
    )
    def test_code_that_reaches_out(self, value: str) -> None:
        assert refusal(script(value)).kind is ErrorKind.UNSUPPORTED_OPERATION

    def test_operators_under_another_name(self) -> None:
        code = "ops\n    .quantized"
        assert "namespaces" in refusal(script(f"({code}.x(x))")).message

    def test_argument_defaults_do_not_run_before_the_look(self, tmp_path: Path) -> None:
        """PyTorch itself evaluates them while loading."""
        file = tmp_path / "made"
        guest = torch_guest()
        default = f', y: Tensor=torch.from_file("{file}", True, 4, dtype=0)'
        assert guest.load(script("x", arguments=default)) == 6
        assert not file.exists()

    def test_tensors_that_say_more_than_they_have(self) -> None:
        """PyTorch itself loads these, and reads what lies behind in memory."""
        model = traced(linear(weight_of(5, 3)), torch.zeros(1, 5))
        longer = changed(model, lambda n, d: d.replace(b"K\x0f", b"J\0\0\1\0"))
        assert "says 262144 bytes, its record has 60" in refusal(longer).message
        shorter = changed(model, lambda n, d: d[:-4] if n.endswith("data/0") else d)
        assert "its record has 56" in refusal(shorter).message

    def test_views_beyond_a_tensors_bytes(self) -> None:
        model = traced(linear(weight_of(5, 3)), torch.zeros(1, 5))
        beyond = changed(model, lambda n, d: d.replace(b"(K\x03K\x05t", b"(K\x7fK\x05t"))
        assert beyond != model
        assert torch_guest().load(beyond) == 2

    @pytest.mark.parametrize(
        ("pickled", "reason"),
        [
            (b"\x80\x02cos\nsystem\n.", "os system"),
            (b"\x80\x02c__torch__.torch.classes.a\nB\n)\x81.", "classes"),
            (b"\x80\x02U\x01a.", "SHORT_BINSTRING"),
            (b"\x80\x04\x95.", "not a usable"),
            (b"\x80\x02Nr\xff\xff\xff\xff.", "gaps in the memo"),
            (b"\x80\x02Q.", "described otherwise"),
            (b"\x80\x02h\x05.", "what it did not write"),
            (b"\x80\x02(", "data.pkl"),
        ],
    )
    def test_pickles(self, pickled: bytes, reason: str) -> None:
        assert reason in refusal(archive({"data.pkl": pickled})).message

    @pytest.mark.parametrize(
        "value",
        [
            "(" * 100_000 + "x" + ")" * 100_000,
            "-" * 100_000 + "x",
            "not " * 100_000 + "True",
            "x" + "[0]" * 100_000,
            "x" + ".T" * 100_000,
            "x" + " + x" * 100_000,
            '("," + ' * 100_000,
            "(" + '"," + ' * 100_000 + "x)",
        ],
        ids=range(8),
    )
    def test_expressions_deeper_than_the_stack(self, value: str) -> None:
        assert refusal(script(value)).kind is ErrorKind.TOO_LARGE

    def test_long_lists_are_not_deep(self) -> None:
        numbers = ", ".join(["-0.5"] * 50_000)
        assert preflight(script(f"torch.tensor([{numbers}])"))

    def test_bombs(self) -> None:
        bomb = archive({"data.pkl": PICKLE, "data/0": bytes(1 << 20)}, zipfile.ZIP_DEFLATED)
        assert "compressed tensors" in refusal(bomb).message
        code = archive({"code/__torch__.py": bytes(65 << 20)}, zipfile.ZIP_DEFLATED)
        assert refusal(code).kind is ErrorKind.TOO_LARGE

    def test_exported_programs(self) -> None:
        model = changed(script("x"), lambda n, d: d)
        assert torch_guest().load(model) == 0
        assert ".pt2" in refusal(archive({"archive_format": b"pt2"})).message

    def test_damaged_archives_in_a_process_of_their_own(self) -> None:
        program = """
import random
from tests.backends.torch_models import linear, traced
from wasinn_backends.torch import TorchBackend
from wasinn_host.nn.plugin import ModelSource, Tensor, TensorType, WasiNnError
import torch
model = traced(linear(torch.ones(5, 3)), torch.zeros(1, 5))
backend, rng, ran = TorchBackend({"threads": "1"}), random.Random(3), 0
(device, *_) = backend.devices()
for number in range(200):
    data = bytearray(model)
    for _ in range(rng.choice((1, 2, 8))):
        data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
    if number % 8 == 0:
        del data[rng.randrange(len(data)):]
    try:
        graph = backend.load(ModelSource("pytorch", (bytes(data),)), device)
        context = graph.create_context()
        context.set_input(0, Tensor(TensorType.F32, (1, 5), memoryview(bytes(20))))
        context.compute()
        context.get_output(0)
        ran += 1
    except WasiNnError:
        pass
print(ran)
"""
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
            env={"PYTHONPATH": ":".join(SOURCES)},
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        assert 0 < int(done.stdout) < 200


class TestFilesOfTheHost:
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_an_exported_program(self, tmp_path: Path) -> None:
        weight = weight_of(5, 3)
        program = torch.export.export(
            linear(weight),
            (torch.zeros(2, 5),),
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},),
        )
        torch.export.save(program, tmp_path / "m.pt2")
        graphs = torch_graphs()
        graphs.register("m", "pytorch", Target.CPU, paths=[tmp_path / "m.pt2"])
        guest = Guest(NnContext(graphs))
        assert guest.load_by_name(b"m") == 0, guest.error()
        (spec,) = guest.codec.context.graph(guest.result).inputs
        assert (spec.type, spec.shape) == (TensorType.F32, (None, 5))
        assert guest.init(guest.result) == 0
        context = guest.result
        for rows in (1, 3):
            x = RANDOM.standard_normal((rows, 5)).astype(np.float32)
            assert set_array(guest, context, 0, x) == 0, guest.error()
            assert guest.compute(context) == 0, guest.error()
            np.testing.assert_allclose(
                output_array(guest, context), x @ weight.numpy(), rtol=1e-5, atol=1e-6
            )
        assert torch_guest().load((tmp_path / "m.pt2").read_bytes()) == 6

    def test_a_file_that_is_no_model(self, tmp_path: Path) -> None:
        (tmp_path / "m.pt").write_bytes(b"text")
        graphs = torch_graphs()
        graphs.register("m", "pytorch", Target.CPU, paths=[tmp_path / "m.pt"])
        with pytest.raises(WasiNnError, match="PyTorch, while loading") as caught:
            graphs.get("m")
        assert caught.value.kind is ErrorKind.INVALID_ENCODING


class TestThreads:
    def test_contexts_of_one_graph_compute_at_once_and_do_not_mix(self) -> None:
        weight = weight_of(16, 16)
        graphs = torch_graphs()
        model = traced(linear(weight), torch.zeros(1, 16))
        graphs.register("m", "pytorch", Target.CPU, builders=[model])
        failures: list[object] = []

        def work(seed: int) -> None:
            random = np.random.default_rng(seed)
            guest = Guest(NnContext(graphs))
            if guest.load_by_name(b"m") or guest.init(guest.result):
                failures.append(guest.error())
                return
            context = guest.result
            for _ in range(30):
                x = random.standard_normal((random.integers(1, 9), 16)).astype(np.float32)
                guest.rewind()
                if set_array(guest, context, 0, x) or guest.compute(context):
                    failures.append(guest.error())
                if not np.allclose(output_array(guest, context), x @ weight.numpy(), 1e-4, 1e-5):
                    failures.append(seed)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []

    def test_the_gil_is_free_while_computing(self) -> None:
        guest = torch_guest(pages=700)
        n = 700
        context = guest.open(traced(linear(weight_of(n, n)), torch.zeros(1, n)))
        x = RANDOM.standard_normal((8 * n, n)).astype(np.float32)
        assert set_array(guest, context, 0, x) == 0
        thread = threading.Thread(target=guest.compute, args=(context,))
        longest_s, last = 0.0, time.perf_counter()
        start = last
        thread.start()
        while thread.is_alive():
            time.sleep(0.001)
            now = time.perf_counter()
            longest_s, last = max(longest_s, now - last), now
        took_s = last - start
        assert took_s > 0.01, "too fast to tell; make the matrices larger"
        assert longest_s < took_s / 2


def test_a_compiled_guest_asks_a_model() -> None:
    weight = weight_of(4, 3)
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    y = ask(TorchBackend, "pytorch", (traced(linear(weight), torch.zeros(1, 4)),), x, (2, 3))
    np.testing.assert_allclose(y, x @ weight.numpy(), rtol=1e-5, atol=1e-6)
