"""Backends that do harm: the host goes on, and the guest gets a number.

What ends a process is for isolation, whose own tests have deadlines, and faults while loading. What
only raises, prints or returns nonsense must do no harm without it either.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.hostile.child import Canaries, run_case
from tests.hostile.hostile_backend import ENDS, FAULTS, HostileBackend
from tests.nn.pass_through import EPHEMERAL, PassThrough, module_of
from tests.nn.wrong_backends import MODEL
from wasinn_host.host import Host
from wasinn_host.nn import Target

U8, RUNTIME_ERROR = 3, 5
WRONG_OUTPUTS = range(40, 52)


@contextmanager
def guests(*, is_isolated: bool, count: int = 1) -> Iterator[list[PassThrough]]:
    with Host(isolate_backends=is_isolated) as host:
        host.backends.add("double", HostileBackend)
        host.graphs.register("double", "double", Target.CPU, builders=[MODEL])
        module = host.load(module_of(EPHEMERAL))
        opened = [PassThrough(host.open(module)) for _ in range(count)]
        yield opened
        for each in opened:
            each.guest.close()


def asked(nn: PassThrough, context: int, first: int) -> int:
    nn.rewind()
    errno = nn.set_input(context, U8, (2, 2), bytes([first, 100, 3, 4]))
    return errno or nn.call("compute", context)


def works(nn: PassThrough, context: int) -> None:
    assert asked(nn, context, 0) == 0, nn.error
    assert nn.get_output(context, 4) == (0, bytes([0, 200, 6, 8]))


def ends() -> None:
    with guests(is_isolated=True, count=2) as (nn, other):
        context, others = nn.named(b"double"), other.named(b"double")
        for what, (_, why) in ENDS.items():
            works(nn, context)
            works(other, others)
            assert asked(nn, context, what) == RUNTIME_ERROR, what
            assert why in nn.error, nn.error
            # It is ill until its inputs are set again, and so is the other guest's context, but for
            # what that has computed already.
            assert nn.get_output(context, 4)[0] == RUNTIME_ERROR
            assert nn.call("compute", context) == RUNTIME_ERROR
            assert other.get_output(others, 4) == (0, bytes([0, 200, 6, 8]))
            assert other.call("compute", others) == RUNTIME_ERROR
            works(nn, context)
            works(other, others)


def _faults(nn: PassThrough, *but: int) -> None:
    context = nn.named(b"double")
    for what, (_, errno) in FAULTS.items():
        if what in but:
            continue
        assert asked(nn, context, what) == errno, (what, nn.error)
        if errno:
            assert len(nn.error) < 5000
        works(nn, context)


def faults_without_isolation() -> None:
    with guests(is_isolated=False) as (nn,):
        _faults(nn, 20)  # what it prints goes where the program that uses the library prints


def faults_in_isolation() -> None:
    with guests(is_isolated=True) as (nn,):
        _faults(nn)


def _wrong(nn: PassThrough) -> None:
    context = nn.named(b"double")
    for what in WRONG_OUTPUTS:
        assert asked(nn, context, what) == 0, (what, nn.error)
        out = nn.put(b"\x55" * 64)
        errno = nn.call("get_output", context, 0, out, 16, nn.RESULT)
        assert errno in (0, RUNTIME_ERROR), (what, errno, nn.error)
        assert nn.guest.memory.read(out + 16, 48) == b"\x55" * 48
        if what in (40, 41, 42, 46, 51):
            assert errno == RUNTIME_ERROR, what
        works(nn, context)


def wrong_outputs_without_isolation() -> None:
    with guests(is_isolated=False) as (nn,):
        _wrong(nn)


def wrong_outputs_in_isolation() -> None:
    with guests(is_isolated=True) as (nn,):
        _wrong(nn)


def threads_on_one_context() -> None:
    """Two threads of a host program, and a third that gives the context back meanwhile."""
    from wasinn_host.nn import NnContext
    from wasinn_host.nn.plugin import Tensor, TensorType, WasiNnError

    with Host() as host:
        host.backends.add("double", HostileBackend)
        host.graphs.register("double", "double", Target.CPU, builders=[MODEL])
        for _ in range(30):
            core = NnContext(host.graphs)
            graph = core.load_by_name("double")
            context = core.init_execution_context(graph)
            data = Tensor(TensorType.U8, (2, 2), memoryview(bytes([0, 1, 2, 3])))
            seen: list[object] = []

            def work(
                core: NnContext = core,
                context: int = context,
                data: Tensor = data,
                seen: list[object] = seen,
            ) -> None:
                try:
                    for _ in range(200):
                        core.set_input(context, 0, data)
                        core.compute(context)
                        seen.append(bytes(core.get_output(context, 0).data))
                except WasiNnError as error:
                    seen.append(error.kind.value)

            threads = [threading.Thread(target=work) for _ in range(2)]
            for thread in threads:
                thread.start()
            core.unload(graph)
            core.finalize_execution_context(context)
            for thread in threads:
                thread.join()
            assert set(seen) <= {bytes([0, 2, 4, 6]), "invalid_argument"}
            core.close()
        assert core.tensor_bytes == 0


def unload_while_it_computes() -> None:
    from wasinn_backends.null import NullBackend
    from wasinn_host.nn import NnContext
    from wasinn_host.nn.plugin import Tensor, TensorType, WasiNnError

    with Host() as host:
        host.backends.add("null", NullBackend)
        settings = b'{"delay_s": 0.5}'
        host.graphs.register("slow", "null", Target.CPU, builders=[settings])
        core = NnContext(host.graphs)
        graph = core.load_by_name("slow")
        context = core.init_execution_context(graph)
        core.set_input(context, 0, Tensor(TensorType.U8, (3,), memoryview(b"abc")))
        thread = threading.Thread(target=core.compute, args=(context,))
        thread.start()
        time.sleep(0.1)
        began = time.monotonic()
        core.unload(graph)
        assert time.monotonic() - began < 0.3, "the handle goes at once"
        with pytest.raises(WasiNnError, match="stale"):
            core.init_execution_context(graph)
        assert bytes(core.get_output(context, 0).data) == b"abc", "it waits for the computation"
        thread.join()
        thread = threading.Thread(target=core.compute, args=(context,))
        thread.start()
        time.sleep(0.1)
        core.finalize_execution_context(context)
        thread.join()
        with pytest.raises(WasiNnError, match="stale"):
            core.compute(context)
        assert core.tensor_bytes == 0


CASES: list[Callable[[], None]] = [
    ends,
    faults_without_isolation,
    faults_in_isolation,
    wrong_outputs_without_isolation,
    wrong_outputs_in_isolation,
    threads_on_one_context,
    unload_while_it_computes,
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.__name__)
def test_a_backend_that_does_harm(canaries: Canaries, case: Callable[[], None]) -> None:
    run_case(case, canaries)
