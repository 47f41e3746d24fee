"""The checks, in the order in which they run. Each one's first line says what must hold.

A check raises `CheckFailed` or `CheckSkipped`; whatever else it raises came from the plugin.
"""

from __future__ import annotations

import gc
import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

from wasinn_host.nn.checks import check_devices
from wasinn_host.nn.conformance.subject import (
    CheckFailed,
    CheckSkipped,
    Subject,
    computed,
    outputs_of,
    refused,
    rotated,
    same,
    set_inputs,
)
from wasinn_host.nn.errors import ErrorKind, WasiNnError
from wasinn_host.nn.plugin import (
    Cancellable,
    Graph,
    ModelSource,
    Tensor,
    TensorSpec,
    TensorType,
)

__all__ = ["CHECKS"]

_THREADS: Final = 4
_DAMAGED: Final = 200
_LEAK_ROUNDS: Final = 200
_LEAK_BYTES: Final = 4 << 20
_CANCEL_S: Final = 10.0
_BLOCKED_S: Final = 1.0


def devices(subject: Subject) -> None:
    """devices() lists something to run on, the same each time."""
    if not subject.devices:
        raise CheckFailed("devices(): expected at least one Device, got none")
    again = check_devices(subject.backend.devices(), "the plugin")
    if again != subject.devices:
        raise CheckFailed(f"devices(): first {subject.devices}, then {again}")


def options(subject: Subject) -> None:
    """Each option has a line that says what it is for."""
    for name, meaning in subject.cls.options.items():
        if not (isinstance(name, str) and isinstance(meaning, str) and name and meaning.strip()):
            raise CheckFailed(f"options: expected name and description, got {name!r}: {meaning!r}")


def specs(subject: Subject) -> None:
    """inputs and outputs are tuples of TensorSpec, as many as the sample has, and do not change."""
    for case in subject.cases():
        with subject.graph(case) as graph:
            for name, tensors in (
                ("inputs", case.sample.inputs),
                ("outputs", case.sample.outputs),
            ):
                found = getattr(graph, name)
                if not isinstance(found, tuple) or not all(
                    isinstance(spec, TensorSpec) for spec in found
                ):
                    raise CheckFailed(f"{name}: expected a tuple of TensorSpec, got {found!r}")
                if found != getattr(graph, name):
                    raise CheckFailed(f"{name}: not the same when asked twice")
                least = sum(not spec.is_optional for spec in found)
                if found and not least <= len(tensors) <= len(found):
                    raise CheckFailed(
                        f"{name}: the graph says {len(found)}, the sample has {len(tensors)}"
                    )
                if name == "outputs" and least < len(found):
                    raise CheckFailed("outputs: none can be optional")
                if any(spec.is_optional for spec in found[:least]):
                    raise CheckFailed(f"{name}: an optional one comes before one that is not")
                for spec, tensor in zip(found, tensors, strict=False):
                    # Formats that leave types open say none; then the results tell.
                    if spec.type not in (None, tensor.type):
                        raise CheckFailed(
                            f"{name}: {spec.name!r} says {spec.type}, the sample has {tensor.type}"
                        )


def results(subject: Subject) -> None:
    """The samples give their outputs, on every device, each time."""
    for case in subject.cases():
        with subject.fresh(case) as context:
            for doing in ("compute", "compute again"):
                got = computed(context, case.sample.inputs, len(case.sample.outputs))
                same(got, case.sample.outputs, case.sample.tolerance, doing)


def kept_inputs(subject: Subject) -> None:
    """Inputs stay set for further computations, and setting one again counts."""
    for case in subject.cases():
        want = case.sample.outputs
        others = [rotated(tensor, 1) for tensor in case.sample.inputs]
        with subject.fresh(case) as context:
            others_give = computed(context, others, len(want))
        with subject.fresh(case) as context:
            set_inputs(context, case.sample.inputs)
            context.compute()
            context.compute()
            same(outputs_of(context, len(want)), want, case.sample.tolerance, "compute twice")
            got = computed(context, others, len(want))
            same(got, others_give, case.sample.tolerance, "compute after other inputs")


def copies(subject: Subject) -> None:
    """set_input copies the data: the guest may write over it, or move it, at once."""
    for case in subject.cases():
        with subject.fresh(case) as context:
            for index, tensor in enumerate(case.sample.inputs):
                memory = bytearray(tensor.data)
                context.set_input(index, replace(tensor, data=memoryview(memory)))
                memory[:] = bytes(len(memory))
                gc.collect()
                try:
                    memory.append(0)
                except BufferError:
                    raise CheckFailed(
                        f"set_input({index}): something still refers to tensor.data, "
                        "which is guest memory and goes away"
                    ) from None
            context.compute()
            got = outputs_of(context, len(case.sample.outputs))
            same(got, case.sample.outputs, case.sample.tolerance, "compute after the guest wrote")


def steady_outputs(subject: Subject) -> None:
    """What get_output returned stays as it is until the next compute, whatever is set meanwhile."""
    for case in subject.cases():
        with subject.fresh(case) as context:
            set_inputs(context, case.sample.inputs)
            context.compute()
            views = [context.get_output(i).data for i in range(len(case.sample.outputs))]
            before = [bytes(view) for view in views]
            set_inputs(context, [rotated(tensor, 1) for tensor in case.sample.inputs])
            if [bytes(view) for view in views] != before:
                raise CheckFailed("an output changed when an input was set")
            again = [bytes(context.get_output(i).data) for i in range(len(views))]
            if again != before:
                raise CheckFailed("get_output gives something else after an input was set")


def own_contexts(subject: Subject) -> None:
    """Contexts of one graph do not see each other, and outlive each other."""
    for case in subject.cases():
        count = len(case.sample.outputs)
        others = [rotated(tensor, 1) for tensor in case.sample.inputs]
        with subject.fresh(case) as context:
            others_give = computed(context, others, count)
        with subject.graph(case) as graph, subject.context(graph) as first:
            with subject.context(graph) as second:
                set_inputs(first, case.sample.inputs)
                set_inputs(second, others)
                first.compute()
                second.compute()
                tolerance = case.sample.tolerance
                same(outputs_of(first, count), case.sample.outputs, tolerance, "first context")
                same(outputs_of(second, count), others_give, tolerance, "second context")
            same(outputs_of(first, count), case.sample.outputs, tolerance, "with the other closed")
            got = computed(first, case.sample.inputs, count)
            same(got, case.sample.outputs, tolerance, "compute with the other closed")


def order(subject: Subject) -> None:
    """Computing without inputs, or asking for outputs before, is invalid_argument."""
    for case in subject.cases():
        inputs = case.sample.inputs
        with subject.graph(case) as graph, subject.context(graph) as context:
            refused("get_output before compute", lambda: context.get_output(0), _ARGUMENT)
            if inputs:
                refused("compute before set_input", context.compute, _ARGUMENT)
            needed = sum(not spec.is_optional for spec in graph.inputs)
            if needed > 1:
                set_inputs(context, inputs[: needed - 1])
                refused("compute with an input missing", context.compute, _ARGUMENT)
                refused("get_output after that", lambda: context.get_output(0), _ARGUMENT)
            got = computed(context, inputs, len(case.sample.outputs))
            same(got, case.sample.outputs, case.sample.tolerance, "compute after errors")


def wrong_index(subject: Subject) -> None:
    """Inputs and outputs that are not there are invalid_argument, and change nothing."""
    for case in subject.cases():
        inputs, count = case.sample.inputs, len(case.sample.outputs)
        with subject.graph(case) as graph, subject.context(graph) as context:
            set_inputs(context, inputs)
            first = max(len(inputs), len(graph.inputs))
            for index in (first, 2**31, 2**32 - 1) if not subject.takes_all else (2**32 - 1,):
                tensor = inputs[0] if inputs else Tensor(TensorType.U8, (1,), memoryview(b"\0"))
                refused(f"set_input({index})", _setter(context, index, tensor), _ARGUMENT)
            context.compute()
            for index in (count, 2**31, 2**32 - 1):
                refused(f"get_output({index})", _getter(context, index), _ARGUMENT)
            got = outputs_of(context, count)
            same(got, case.sample.outputs, case.sample.tolerance, "after wrong indices")


def wrong_tensors(subject: Subject) -> None:
    """Inputs of another type, rank or size than the model's are invalid_argument."""
    seen = 0
    for case in subject.cases():
        with subject.graph(case) as graph, subject.context(graph) as context:
            for index, (spec, tensor) in enumerate(
                zip(graph.inputs, case.sample.inputs, strict=False)
            ):
                for what, wrong in _wrong(spec, tensor):
                    seen += 1
                    refused(
                        f"set_input({index}) with {what}", _setter(context, index, wrong), _ARGUMENT
                    )
            got = computed(context, case.sample.inputs, len(case.sample.outputs))
            same(got, case.sample.outputs, case.sample.tolerance, "after wrong tensors")
    if not seen:
        raise CheckSkipped("no graph says what its inputs are")


def wrong_parts(subject: Subject) -> None:
    """A model without parts, or with more than it has, is refused as invalid_argument."""
    if subject.takes_all:
        raise CheckSkipped("the backend takes every encoding")
    for case in subject.cases():
        sample = case.sample
        parts = [*sample.parts] * 16
        source = ModelSource(sample.encoding, builders=tuple(parts))
        refused(
            f"load() of {len(parts)} parts",
            lambda s=source, d=case.device: subject.backend.load(s, d),  # type: ignore[misc]
            _ARGUMENT,
        )


def no_model(subject: Subject) -> None:
    """Bytes that are no model are refused as invalid_encoding."""
    if subject.takes_all:
        raise CheckSkipped("the backend takes every encoding")
    noise = random.Random(0).randbytes(4096)
    for case in subject.cases():
        parts = case.sample.parts
        for what, data in (
            ("no bytes", b""),
            ("zeros", bytes(64)),
            ("noise", noise),
            ("text", b"This is not a model. " * 50),
        ):
            source = ModelSource(case.sample.encoding, builders=(data, *parts[1:]))
            refused(
                f"load() of {what}",
                lambda s=source, d=case.device: subject.backend.load(s, d),  # type: ignore[misc]
                ErrorKind.INVALID_ENCODING,
                ErrorKind.UNSUPPORTED_OPERATION,
            )


def damaged_models(subject: Subject) -> None:
    """A damaged model is refused by a WasiNnError, or runs; it never does anything else."""
    rng = random.Random(1)
    for case in subject.cases():
        for number in range(_DAMAGED):
            which = rng.randrange(len(case.sample.parts))
            data = bytearray(case.sample.parts[which])
            if number % 8 == 0:
                del data[rng.randrange(len(data) + 1) :]
            else:
                for _ in range(rng.choice((1, 2, 8))):
                    if data:
                        data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
            parts = [*case.sample.parts]
            parts[which] = bytes(data)
            source = ModelSource(case.sample.encoding, builders=tuple(parts))
            doing = f"damaged model {number}: load()"
            try:
                graph = subject.backend.load(source, case.device)
                doing = f"damaged model {number}"
                try:
                    with subject.context(graph) as context:
                        set_inputs(context, case.sample.inputs)
                        context.compute()
                        context.get_output(0)
                finally:
                    graph.close()
            except (WasiNnError, MemoryError):
                continue
            except Exception as error:
                raise CheckFailed(
                    f"{doing}: expected a WasiNnError, got {type(error).__name__}: {error}"
                ) from error


def threads(subject: Subject) -> None:
    """Contexts of one graph compute, and graphs load, in many threads at a time."""
    for case in subject.cases():
        count = len(case.sample.outputs)
        inputs = [[rotated(t, i) for t in case.sample.inputs] for i in range(_THREADS)]
        with subject.fresh(case) as context:
            wants = [computed(context, some, count) for some in inputs]

        def work(
            i: int,
            graph: Graph,
            inputs: list[list[Tensor]] = inputs,
            wants: list[list[Tensor]] = wants,
            tolerance: float = max(case.sample.tolerance, 1e-5),
        ) -> None:
            with subject.context(graph) as context:
                for _ in range(10):
                    got = computed(context, inputs[i], len(wants[i]))
                    same(got, wants[i], tolerance, f"thread {i} of {_THREADS}")

        with ThreadPoolExecutor(_THREADS) as pool:
            with subject.graph(case) as graph:
                list(pool.map(work, range(_THREADS), [graph] * _THREADS))
            graphs = list(pool.map(subject.load, [case] * _THREADS))
            list(pool.map(work, range(_THREADS), graphs))
            for graph in graphs:
                graph.close()


def cancelling(subject: Subject) -> None:
    """cancel does not block, ends a compute or lets it end, and does no harm when nothing runs."""
    seen = False
    for case in subject.cases():
        with subject.fresh(case) as context:
            if not isinstance(context, Cancellable):
                continue
            seen = True
            _cancel(context)
            set_inputs(context, case.sample.inputs)
            for _ in range(5):
                _compute_and_cancel(context.compute, context)
            got = computed(context, case.sample.inputs, len(case.sample.outputs))
            same(got, case.sample.outputs, case.sample.tolerance, "compute after cancel")
    if not seen:
        raise CheckSkipped("its contexts can not be cancelled")


def leaks(subject: Subject) -> None:
    """Loading, computing and closing again and again takes no more and more memory."""
    for case in subject.cases():
        sizes = []
        for _ in range(2):
            for _ in range(_LEAK_ROUNDS):
                with subject.fresh(case) as context:
                    computed(context, case.sample.inputs, len(case.sample.outputs))
            gc.collect()
            sizes.append(_resident_bytes())
        if sizes[1] - sizes[0] > _LEAK_BYTES:
            raise CheckFailed(
                f"{_LEAK_ROUNDS} rounds, after as many, took {(sizes[1] - sizes[0]) >> 10} KiB "
                f"more memory; {_LEAK_BYTES >> 10} KiB are allowed"
            )


CHECKS: Final[tuple[Callable[[Subject], None], ...]] = (
    devices,
    options,
    specs,
    results,
    kept_inputs,
    copies,
    steady_outputs,
    own_contexts,
    order,
    wrong_index,
    wrong_tensors,
    wrong_parts,
    no_model,
    threads,
    cancelling,
    leaks,
    damaged_models,
)

_ARGUMENT: Final = ErrorKind.INVALID_ARGUMENT


def _setter(context: object, index: int, tensor: Tensor) -> Callable[[], object]:
    return lambda: context.set_input(index, tensor)  # type: ignore[attr-defined]


def _getter(context: object, index: int) -> Callable[[], object]:
    return lambda: context.get_output(index)  # type: ignore[attr-defined]


def _wrong(spec: TensorSpec, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Tensors that do not fit what a model says of an input."""
    if spec.type is not None:
        other = TensorType.U8 if spec.type is not TensorType.U8 else TensorType.F32
        data = memoryview(bytes(math.prod(tensor.shape) * other.size_bytes))
        yield f"{other.value} elements", Tensor(other, tensor.shape, data)
    if spec.shape is not None:
        yield "one dimension more", replace(tensor, shape=(*tensor.shape, 1))
        for axis, size in enumerate(spec.shape):
            if size is not None:
                shape = [*tensor.shape]
                shape[axis] = size + 1
                bytes_each = tensor.data.nbytes // max(1, size)
                longer = memoryview(bytes(bytes_each * (size + 1)))
                yield f"shape {shape}", Tensor(tensor.type, tuple(shape), longer)
        if tensor.shape and tensor.data.nbytes:
            yield "half of its data", replace(tensor, data=tensor.data[: tensor.data.nbytes // 2])
            huge = (*tensor.shape[:-1], 2**32 - 1)
            yield f"shape {list(huge)}", replace(tensor, shape=huge)


def _cancel(context: Cancellable) -> None:
    began = time.monotonic()
    context.cancel()
    if time.monotonic() - began > _BLOCKED_S:
        raise CheckFailed(f"cancel() blocked for {time.monotonic() - began:.1f} s")


def _compute_and_cancel(compute: Callable[[], None], context: Cancellable) -> None:
    wrong: list[Exception] = []

    def work() -> None:
        try:
            compute()
        except WasiNnError:
            pass
        except Exception as error:
            wrong.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    end = time.monotonic() + _CANCEL_S
    while thread.is_alive() and time.monotonic() < end:
        _cancel(context)
        thread.join(0.001)
    if thread.is_alive():
        raise CheckFailed(f"compute did not end within {_CANCEL_S:.0f} s of cancel()")
    if wrong:
        raise CheckFailed(
            f"a cancelled compute: expected a WasiNnError, got "
            f"{type(wrong[0]).__name__}: {wrong[0]}"
        ) from wrong[0]


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
