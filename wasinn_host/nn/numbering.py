"""What a guest's numbers mean: element types in three orders, errors in three tables. No layouts.

The functions of `wasi_ephemeral_nn` never changed, the numbers did, and no guest says which it was
built with. Sources: the history of wasi-nn.witx and wasi-nn.wit; wasi_nn_types.h of WAMR.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from wasinn_host.nn.errors import ErrorKind, WasiNnError, near
from wasinn_host.nn.plugin import TensorType
from wasinn_runtime.errors import UsageError

__all__ = [
    "ABIS",
    "ERRNOS",
    "OLD_TENSOR_TYPES",
    "WITX_ERRNO",
    "WITX_TENSOR_TYPES",
    "WIT_TENSOR_TYPES",
    "Numbering",
    "meant_type",
    "proven_type",
    "unknown_type",
]

WITX_TENSOR_TYPES: Final = (
    TensorType.F16,
    TensorType.F32,
    TensorType.F64,
    TensorType.U8,
    TensorType.I32,
    TensorType.I64,
)
"""The witx file since August 2023; guest crates from 0.6, WAMR from 2.4, WasmEdge from 0.15."""

OLD_TENSOR_TYPES: Final = (TensorType.F16, TensorType.F32, TensorType.U8, TensorType.I32)
"""The witx file before that; guest crates up to 0.5, WasmEdge up to 0.14, WAMR's ``wasi_nn``."""

WIT_TENSOR_TYPES: Final = (
    TensorType.F16,
    TensorType.F32,
    TensorType.F64,
    TensorType.BF16,
    TensorType.U8,
    TensorType.I32,
    TensorType.I64,
)
"""The order of the component interface; WAMR 2.1.1 to 2.3.1."""

AUTO: Final = "auto"
"""The word for: each tensor tells."""

_COMMON: Final = (TensorType.F16, TensorType.F32)
"""The same numbers everywhere."""

ABIS: Final[Mapping[str, tuple[TensorType, ...]]] = MappingProxyType(
    {
        AUTO: _COMMON,
        "witx": WITX_TENSOR_TYPES,
        "old": OLD_TENSOR_TYPES,
        "wit": WIT_TENSOR_TYPES,
    }
)
"""Element types by their numbers, by the ABI's name. With ``auto``, those that need no look."""

_MEANINGS: Final = tuple(
    {
        table[code].size_bytes: table[code]
        for table in (WITX_TENSOR_TYPES, OLD_TENSOR_TYPES, WIT_TENSOR_TYPES)
        if code < len(table)
    }
    for code in range(len(WIT_TENSOR_TYPES))
)
"""For each number, what it may mean by its elements' size, which is never the same; witx first."""


@lru_cache(maxsize=256)
def proven_type(code: int, shape: tuple[int, ...], size_bytes: int) -> TensorType | None:
    """Which element type a guest means by a number, when nobody said what it was built with, as far
    as its data prove it: only one that the number may stand for makes their size of the shape.

    Up to one element proves nothing, for texts come as the shape ``[1]``.

    Args:
        code: the number.
        shape: the tensor's sizes.
        size_bytes: the length of its data.

    Returns:
        the type, or None.
    """
    count = math.prod(shape)
    if code >= len(_MEANINGS) or count <= 1:
        return None
    width, rest = divmod(size_bytes, count)
    return None if rest else _MEANINGS[code].get(width)


def meant_type(
    code: int, shape: tuple[int, ...], size_bytes: int, declared: TensorType | None
) -> TensorType | None:
    """What is meant where nothing is proven: what the model declares, what fits, then witx.

    Args:
        code: as for `proven_type`,
        shape: and so is this,
        size_bytes: and this.
        declared: the type that the model wants there, None where it leaves that open.

    Returns:
        the type; None when the number stands for none in any order.
    """
    if code >= len(_MEANINGS):
        return None
    meanings = _MEANINGS[code]
    if declared in meanings.values():
        return declared
    fitting = meanings.get(size_bytes) if math.prod(shape) == 1 else None
    return fitting or next(iter(meanings.values()))


def unknown_type(code: int, types: tuple[TensorType, ...]) -> WasiNnError:
    """The error for a number that no element type has.

    Args:
        code: the number.
        types: those that there are, by their numbers.
    """
    return WasiNnError(
        ErrorKind.INVALID_ARGUMENT,
        f"tensor type {code}: expected 0 to {len(types) - 1} ({', '.join(t.value for t in types)})",
    )


WITX_ERRNO: Final[Mapping[ErrorKind, int]] = MappingProxyType(
    {
        ErrorKind.INVALID_ARGUMENT: 1,
        ErrorKind.INVALID_ENCODING: 2,
        ErrorKind.MISSING_MEMORY: 3,
        ErrorKind.BUSY: 4,
        ErrorKind.RUNTIME_ERROR: 5,
        ErrorKind.UNSUPPORTED_OPERATION: 6,
        ErrorKind.TOO_LARGE: 7,
        ErrorKind.NOT_FOUND: 8,
        ErrorKind.END_OF_SEQUENCE: 100,
        ErrorKind.CONTEXT_FULL: 101,
        ErrorKind.PROMPT_TOO_LONG: 102,
        ErrorKind.MODEL_NOT_FOUND: 103,
    }
)
"""``nn_errno`` of ``wasi_ephemeral_nn``; 0 is success. Source: witx file, WasmEdge from 100 on."""

ERRNOS: Final[Mapping[str, Mapping[ErrorKind, int]]] = MappingProxyType(
    {
        "witx": WITX_ERRNO,
        # Three numbers were all there was: what fails in a backend was answered with busy.
        "ancient": MappingProxyType(
            {
                **WITX_ERRNO,
                ErrorKind.INVALID_ENCODING: 1,
                ErrorKind.MISSING_MEMORY: 2,
                ErrorKind.BUSY: 3,
                ErrorKind.RUNTIME_ERROR: 3,
                ErrorKind.UNSUPPORTED_OPERATION: 1,
                ErrorKind.TOO_LARGE: 1,
                ErrorKind.NOT_FOUND: 1,
            }
        ),
        # It has timeout (3) and security (8) besides, which nothing here means; a component always
        # has a memory, and nobody is ever told to come back, so that those two are unknown (9).
        "wit": MappingProxyType(
            {
                **WITX_ERRNO,
                ErrorKind.RUNTIME_ERROR: 4,
                ErrorKind.UNSUPPORTED_OPERATION: 5,
                ErrorKind.TOO_LARGE: 6,
                ErrorKind.NOT_FOUND: 7,
                ErrorKind.MISSING_MEMORY: 9,
                ErrorKind.BUSY: 9,
            }
        ),
    }
)
"""Error numbers, by the table's name. WasmEdge's, from 100 on, are the same in all."""


@dataclass(frozen=True, slots=True)
class Numbering:
    """The numbers that one guest was built with.

    Attributes:
        abi: a name of `ABIS`: how element types are numbered.
        errno: a name of `ERRNOS`; None for ``wit`` with the ABI of that name, and else ``witx``.
    """

    abi: str = AUTO
    errno: str | None = None

    def __post_init__(self) -> None:
        if self.abi not in ABIS:
            raise UsageError(f"unknown ABI of WASI-NN {self.abi!r}; {near(self.abi, [*ABIS])}")
        if self.errno is not None and self.errno not in ERRNOS:
            raise UsageError(
                f"unknown error numbers of WASI-NN {self.errno!r}; {near(self.errno, [*ERRNOS])}"
            )

    @property
    def is_auto(self) -> bool:
        """Whether element types have to be looked for, see `meant_type`."""
        return self.abi == AUTO

    @property
    def types(self) -> tuple[TensorType, ...]:
        """Element types by their numbers."""
        return ABIS[self.abi]

    @property
    def errnos(self) -> Mapping[ErrorKind, int]:
        """The number of each kind of error."""
        return ERRNOS[self.errno or ("wit" if self.abi == "wit" else "witx")]
