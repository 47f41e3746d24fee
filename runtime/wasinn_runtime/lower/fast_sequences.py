"""Runs of handlers that have a handler of their own, chosen by measuring: ``benchmarks/sequences.py``.

They are listed by how much of the kernels' time they save, the best first.
"""

from __future__ import annotations

__all__ = ["SEQUENCES"]

_LISTED = """
"""

SEQUENCES = tuple(tuple(line.split("+")) for line in _LISTED.split())
