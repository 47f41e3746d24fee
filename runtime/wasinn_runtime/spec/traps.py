"""The reasons why execution stops: small numbers for generated code, the spec's words for people.

The words are those that the official test suite expects.
"""

from __future__ import annotations

import enum

__all__ = ["TrapCode"]


class TrapCode(enum.IntEnum):
    """Numbers are part of the compiled code's interface: append, never renumber."""

    UNREACHABLE = 1
    INTEGER_DIVIDE_BY_ZERO = 2
    INTEGER_OVERFLOW = 3
    INVALID_CONVERSION_TO_INTEGER = 4
    OUT_OF_BOUNDS_MEMORY_ACCESS = 5
    OUT_OF_BOUNDS_TABLE_ACCESS = 6
    UNDEFINED_ELEMENT = 7
    UNINITIALIZED_ELEMENT = 8
    INDIRECT_CALL_TYPE_MISMATCH = 9
    CALL_STACK_EXHAUSTED = 10
    INTERRUPTED = 11
    NULL_REFERENCE = 13
    NULL_FUNCTION_REFERENCE = 14
    NULL_EXCEPTION_REFERENCE = 15
    UNALIGNED_ATOMIC = 16
    EXPECTED_SHARED_MEMORY = 17
    HOST_ERROR = 12  # a host function raised; the exception itself travels beside the code

    @property
    def text(self) -> str:
        return self.name.lower().replace("_", " ")
