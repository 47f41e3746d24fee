"""Whatever numbers a guest passes, it gets an error number back: nothing ever raises."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.nn.fake_guest import Guest
from wasinn_backends.null import NullBackend
from wasinn_host.nn import BackendRegistry, GraphRegistry, NnContext, NnLimits, Target
from wasinn_host.nn.numbering import WITX_TENSOR_TYPES
from wasinn_host.nn.plugin import TensorType

ARITIES = {
    "load": 5,
    "load_by_name": 3,
    "init_execution_context": 2,
    "set_input": 3,
    "compute": 1,
    "get_output": 5,
    "load_by_name_with_config": 5,
    "compute_single": 1,
    "get_output_single": 5,
    "fini_single": 1,
    "unload": 1,
    "finalize_execution_context": 1,
}
MEMORY_PAGES = 2


def _guest() -> Guest:
    backends = BackendRegistry(routes={"onnx": "null", "openvino": "null"}, discover=False)
    backends.add("null", NullBackend)
    graphs = GraphRegistry(backends)
    graphs.register("echo", "null", Target.CPU, builders=[b"echo"])
    limits = NnLimits(graphs=4, contexts=4, model_bytes=1 << 20, tensor_bytes=1 << 20)
    return Guest(NnContext(graphs, limits), pages=MEMORY_PAGES)


def _arguments(handles: list[int]) -> st.SearchStrategy[int]:
    end = MEMORY_PAGES * 65536
    return st.one_of(
        st.integers(0, 0xFFFF_FFFF),
        st.integers(0, 8),
        st.integers(0, 0x400),
        st.integers(end - 24, end + 4),
        st.sampled_from([0xFFFF_FFFF, 0x8000_0000, 0xFFFF_FFFC, *handles]),
    )


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_random_calls_never_raise(data: st.DataObject) -> None:
    guest = _guest()
    context = guest.open(b"model")
    guest.memory.write(0, data.draw(st.binary(max_size=512), label="memory"))
    arguments = _arguments([context, context ^ (3 << 29)])
    for _ in range(data.draw(st.integers(1, 12), label="calls")):
        name = data.draw(st.sampled_from(sorted(ARITIES)))
        args = [data.draw(arguments) for _ in range(ARITIES[name])]
        assert 0 <= guest.call(name, *args) <= 8
    limits = guest.codec.context.limits
    assert guest.codec.context.tensor_bytes <= limits.tensor_bytes
    assert guest.codec.context.model_bytes <= limits.model_bytes
    guest.codec.context.close()
    assert guest.codec.context.tensor_bytes == 0
    assert guest.codec.context.model_bytes == 0


@settings(max_examples=200, deadline=None)
@given(
    tensor_type=st.sampled_from(WITX_TENSOR_TYPES),
    shape=st.lists(st.integers(0, 0xFFFF_FFFF), max_size=40),
    payload=st.binary(max_size=64),
    buffer=st.integers(0, 80),
)
def test_random_tensors_come_back_or_are_refused(
    tensor_type: TensorType, shape: list[int], payload: bytes, buffer: int
) -> None:
    guest = _guest()
    context = guest.open(b"model")
    errno = guest.set_input(context, 0, tensor_type, shape, payload)
    assert errno == (1 if len(shape) > 32 else 0)
    if errno:
        return
    assert guest.compute(context) == 0
    errno, output = guest.get_output(context, 0, buffer)
    if buffer < len(payload):
        assert (errno, guest.result) == (7, len(payload))
    else:
        assert (errno, output) == (0, payload)
