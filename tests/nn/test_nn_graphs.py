"""Named graphs, reference counts, and the command line's way to name a graph."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.nn.fake_guest import Guest
from tests.nn.recording_backend import RecordingBackend
from wasinn_host.nn import GraphRegistry, NnContext, NnLimits, PreloadSpec, Target, TensorType
from wasinn_host.nn.errors import ErrorKind, WasiNnError
from wasinn_host.nn.sniff import sniff_encoding
from wasinn_runtime.errors import UsageError


class TestPreloadSpec:
    def test_all_four_parts(self) -> None:
        spec = PreloadSpec.parse("minilm:onnx:cpu:/models/a:b.onnx")
        assert spec == PreloadSpec("minilm", "onnx", Target.CPU, Path("/models/a:b.onnx"))

    def test_npu_is_another_word_for_tpu(self) -> None:
        assert PreloadSpec.parse("m:my-npu-format:npu:f").target is Target.TPU
        assert PreloadSpec.parse("m:autodetect:auto:f").target is Target.AUTO

    @pytest.mark.parametrize(
        "text", ["", "a", "a:onnx:cpu", "a:onnx:cpu:", ":onnx:cpu:f", "a::cpu:f"]
    )
    def test_missing_parts(self, text: str) -> None:
        with pytest.raises(UsageError, match="expected NAME:ENCODING:TARGET:PATH"):
            PreloadSpec.parse(text)

    def test_near_matches(self) -> None:
        with pytest.raises(UsageError, match="unknown target 'cpuu'; did you mean cpu"):
            PreloadSpec.parse("m:onnx:cpuu:f")
        with pytest.raises(UsageError, match="unknown encoding 'onxx'; did you mean onnx"):
            PreloadSpec.parse("m:onxx:cpu:f")
        with pytest.raises(UsageError, match="unknown encoding 'ONNX'; did you mean onnx"):
            PreloadSpec.parse("m:ONNX:cpu:f")


class TestNamedGraphs:
    def test_loaded_once_and_lazily_from_the_file(
        self, recording: GraphRegistry, tmp_path: Path
    ) -> None:
        path = tmp_path / "model"
        path.write_bytes(b"model")
        recording.preload(PreloadSpec("m", "onnx", Target.AUTO, path))
        assert RecordingBackend.made == []
        first, second = Guest(NnContext(recording)), Guest(NnContext(recording))
        for guest in (first, second):
            assert guest.load_by_name(b"m") == 0
            assert guest.init(guest.result) == 0
        (backend,) = RecordingBackend.made
        assert backend.events == ["load onnx on gpu:0", "create context", "create context"]
        (source,) = backend.sources
        assert source.is_trusted
        assert source.paths == (path,)
        assert source.read() == (b"model",)

    def test_eager(self, recording: GraphRegistry) -> None:
        recording.register("m", "openvino", Target.CPU, builders=[b"m"], eager=True)
        assert RecordingBackend.made[-1].events == ["load openvino on cpu"]

    def test_missing_file_is_told_and_tried_again(
        self, recording: GraphRegistry, tmp_path: Path
    ) -> None:
        path = tmp_path / "later"
        recording.preload(PreloadSpec("m", "onnx", Target.CPU, path))
        guest = Guest(NnContext(recording))
        assert guest.load_by_name(b"m") == 103
        assert "there is no model file" in guest.error()
        path.write_bytes(b"model")
        assert guest.load_by_name(b"m") == 0

    def test_eager_and_missing_fails_at_once(
        self, recording: GraphRegistry, tmp_path: Path
    ) -> None:
        with pytest.raises(WasiNnError, match="there is no model file"):
            recording.preload(PreloadSpec("m", "onnx", Target.CPU, tmp_path / "x"), eager=True)
        assert recording.names() == ()

    def test_names_are_taken_once(self, recording: GraphRegistry) -> None:
        recording.register("m", "onnx", Target.CPU, builders=[b"m"])
        with pytest.raises(UsageError, match="'m': the name is taken"):
            recording.register("m", "onnx", Target.CPU, builders=[b"m"])

    def test_usage(self, recording: GraphRegistry) -> None:
        with pytest.raises(UsageError, match="needs a name"):
            recording.register("", "onnx", Target.CPU, builders=[b"m"])
        with pytest.raises(UsageError, match="either builders or paths"):
            recording.register("m", "onnx", Target.CPU)

    def test_many_threads_cause_one_load(self, recording: GraphRegistry) -> None:
        recording.register("m", "onnx", Target.CPU, builders=[b"m"])
        barrier = threading.Barrier(8)
        graphs: list[object] = []

        def work() -> None:
            barrier.wait()
            graphs.append(recording.get("m"))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(graphs) == 8
        assert len(set(map(id, graphs))) == 1
        assert RecordingBackend.made[-1].events == ["load onnx on cpu"]

    def test_named_graphs_do_not_count_as_the_guests_bytes(self, recording: GraphRegistry) -> None:
        recording.register("m", "onnx", Target.CPU, builders=[b"m" * 100])
        context = NnContext(recording, NnLimits(model_bytes=10))
        context.load_by_name("m")
        assert context.model_bytes == 0


class TestLifetimes:
    def test_closing_a_guest_closes_what_only_it_has(self, recording: GraphRegistry) -> None:
        recording.register("named", "onnx", Target.CPU, builders=[b"m"])
        guest = Guest(NnContext(recording))
        guest.open(b"own")
        assert guest.load_by_name(b"named") == 0
        assert guest.init(guest.result) == 0
        events = RecordingBackend.made[-1].events
        del events[:]
        guest.codec.context.close()
        assert events == ["close context", "close context", "close graph"]
        recording.close()
        assert events[3:] == ["close graph"]
        recording.backends.close()
        assert events[4:] == ["close backend"]

    def test_contexts_keep_an_unloaded_graph(self, recording: GraphRegistry) -> None:
        guest = Guest(NnContext(recording))
        assert guest.load(b"model") == 0
        graph = guest.result
        assert guest.init(graph) == 0
        context = guest.result
        core = guest.codec.context
        core.unload(graph)
        assert guest.init(graph) == 1
        assert core.model_bytes == 5
        assert guest.set_input(context, 0, TensorType.U8, (2,), b"ab") == 0
        assert guest.compute(context) == 0
        assert guest.get_output(context, 0, 2) == (0, b"bc")
        core.finalize_execution_context(context)
        assert RecordingBackend.made[-1].events[-2:] == ["close context", "close graph"]
        assert core.model_bytes == 0

    def test_a_thousand_rounds_leave_nothing(self, recording: GraphRegistry) -> None:
        core = NnContext(recording, NnLimits(graphs=1, contexts=1, model_bytes=5))
        for _ in range(1000):
            graph = core.load([memoryview(b"model")], "onnx", Target.CPU)
            context = core.init_execution_context(graph)
            core.unload(graph)
            core.finalize_execution_context(context)
        events = RecordingBackend.made[-1].events
        assert events.count("close graph") == events.count("close context") == 1000

    def test_names_closed_by_the_host_are_gone(self, recording: GraphRegistry) -> None:
        recording.register("m", "onnx", Target.CPU, builders=[b"m"])
        recording.get("m").release()
        recording.close()
        with pytest.raises(WasiNnError, match="no graph is named 'm'") as caught:
            recording.get("m")
        assert caught.value.kind is ErrorKind.NOT_FOUND


def test_two_threads_on_one_context_take_turns(null_graphs: GraphRegistry) -> None:
    guest = Guest(NnContext(null_graphs))
    context = guest.open(b'{"delay_s": 0.05}')
    assert guest.set_input(context, 0, TensorType.U8, (1,), b"a") == 0
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda: results.append(guest.compute(context))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [0, 0, 0]


@pytest.mark.parametrize("field", ["graphs", "tensor_bytes"])
@pytest.mark.parametrize("value", [-1, 1.5, None])
def test_limits_are_numbers(field: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"NnLimits.{field}: expected a number of 0 or more"):
        NnLimits(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("builders", "encoding"),
    [
        ([b"GGUF\x03\0\0\0"], "ggml"),
        ([b"\x1c\0\0\0TFL3\0\0"], "tensorflowlite"),
        ([b"PK\x03\x04...."], "pytorch"),
        ([b"weights", b"\xef\xbb\xbf<?xml"], "openvino"),
        ([b"  <net name='a'>"], "openvino"),
        ([b"\x08\x07\x12\x07pytorch"], "onnx"),
        ([b"\x08\x0a\x3a\x10"], "onnx"),
        ([b"\x08"], None),
        ([b"\x08\x00\x12\x01"], None),
        ([b""], None),
        ([], None),
    ],
)
def test_sniffing(builders: list[bytes], encoding: str | None) -> None:
    assert sniff_encoding(builders) == encoding
