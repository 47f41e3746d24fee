"""Damaged models, a thousand for each backend, behind isolation: the host survives all of them."""

from __future__ import annotations

import importlib
import random
from collections import Counter

import pytest

from wasinn_host.nn import BackendRegistry, WasiNnError
from wasinn_host.nn.plugin import ModelSource, Sample

MUTATIONS = 1_000
# Each byte of a length or a tag, and what is next to the ends of what it can hold.
TELLING = (0x00, 0x01, 0x7F, 0x80, 0xFE, 0xFF)

# The null backend takes any bytes for a model.
BACKENDS = sorted(r.name for r in BackendRegistry().installed() if r.name != "null")


def damaged(sample: Sample, number: int) -> tuple[bytes, ...]:
    rng = random.Random(number)
    parts = [*sample.parts]
    which = rng.randrange(len(parts))
    data = bytearray(parts[which])
    match number % 5:
        case 0:
            del data[rng.randrange(len(data) + 1) :]
        case 1:
            at, size = rng.randrange(len(data)), rng.randrange(1, 64)
            data[at:at] = rng.randbytes(size)
        case 2:
            at = rng.randrange(len(data))
            del data[at : at + rng.randrange(1, 16)]
        case _:
            for _ in range(rng.choice((1, 1, 2, 4))):
                data[rng.randrange(len(data))] = rng.choice(TELLING)
    parts[which] = bytes(data)
    return tuple(parts)


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKENDS)
def test_the_host_survives_damaged_models(name: str) -> None:
    backends = BackendRegistry(isolate=True)
    (report,) = [r for r in backends.report() if r.name == name]
    if "finds no GPU" in report.error:
        pytest.skip(report.error)
    assert report.error == ""
    module, _, attribute = report.location.partition(":")
    samples = getattr(importlib.import_module(module), attribute)({}).samples()
    assert samples
    told: Counter[str] = Counter()

    def run(sample: Sample, parts: tuple[bytes, ...]) -> list[bytes]:
        source = ModelSource(sample.encoding, builders=parts)
        graph = backends.load(source, report.devices[0].target).graph
        try:
            context = graph.create_context()
            try:
                for index, tensor in enumerate(sample.inputs):
                    context.set_input(index, tensor)
                context.compute()
                return [bytes(context.get_output(i).data) for i in range(len(sample.outputs))]
            finally:
                context.close()
        finally:
            graph.close()

    try:
        for number in range(MUTATIONS):
            sample = samples[number % len(samples)]
            try:
                run(sample, damaged(sample, number))
                told["ran"] += 1
            except WasiNnError as error:
                told[error.kind.value] += 1
        for sample in samples:
            assert [len(data) for data in run(sample, sample.parts)] == [
                tensor.data.nbytes for tensor in sample.outputs
            ]
    finally:
        backends.close()
    assert sum(told.values()) == MUTATIONS
    assert told["invalid_encoding"] > MUTATIONS // 10, told
