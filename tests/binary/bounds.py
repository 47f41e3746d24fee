"""A bound of time and memory around what a test does."""

from __future__ import annotations

import resource
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def bounded(seconds: float, mebibytes: float) -> Iterator[None]:
    """Fails if the block takes more processor time or Python memory than said."""
    tracemalloc.start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    try:
        yield
        used = resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
        peak = tracemalloc.get_traced_memory()[1] / (1 << 20)
    finally:
        tracemalloc.stop()
    assert used < seconds, f"took {used:.2f} s"
    assert peak < mebibytes, f"took {peak:.1f} MiB"
