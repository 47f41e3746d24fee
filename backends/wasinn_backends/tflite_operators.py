"""What TFLite's operators take and give: tables for `tflite_preflight`. No code.

Operators are numbers of TFLite's schema (``BuiltinOperator``). Those that are not in `ARITIES` are
refused from guests.

Source: TFLite's schema.fbs, and the checks of its operators.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = [
    "ARITIES",
    "CUSTOM",
    "MOVING",
    "OPTIONAL_FROM",
    "OPTIONS_WITH_COUNT",
    "OPTIONS_WITH_GRAPHS",
]

ANY: Final = 1 << 16

# By operator: the fewest and the most inputs, the fewest and the most outputs.
ARITIES: Final[Mapping[int, tuple[int, int, int, int]]] = {
    code: arity
    for arity, codes in {
        # Of one tensor: pools, DEPTH_TO_SPACE, DEQUANTIZE, FLOOR, normalisations, activations,
        # SPACE_TO_DEPTH, SQUEEZE, CAST, SHAPE, QUANTIZE, WHERE, RANK and functions.
        (1, 1, 1, 1): (
            *(1, 5, 6, 8, 11, 12, 13, 14, 17, 19, 20, 21, 25, 26, 28, 43, 47, 50, 53, 59, 66, 73),
            *(75, 76, 77, 87, 92, 93, 98, 101, 104, 108, 109, 110, 111, 113, 114, 116, 117, 133),
            *(134, 135, 146, 147, 148, 150, 152, 158, 159),
        ),
        (1, 2, 1, 1): (22,),  # RESHAPE
        (1, 1, 2, 2): (103,),  # UNIQUE
        (1, 1, 1, ANY): (88,),  # UNPACK
        (2, 2, 1, ANY): (49,),  # SPLIT
        (3, 3, 1, ANY): (102,),  # SPLIT_V
        (1, ANY, 1, 1): (2, 83, 106),  # CONCATENATION, PACK, ADD_N
        # Of two tensors: arithmetic, comparisons, reductions, and what takes a shape or indices.
        (2, 2, 1, 1): (
            *(0, 7, 18, 23, 34, 36, 39, 40, 41, 42, 54, 55, 56, 57, 58, 61, 62, 63, 69, 70, 71, 72),
            *(74, 78, 79, 81, 82, 84, 86, 89, 90, 91, 94, 95, 97, 99, 100, 105, 107, 112, 115, 125),
            *(126, 128, 130, 131, 140, 145, 149, 156, 160, 161),
        ),
        (2, 2, 2, 2): (48,),  # TOPK_V2
        (2, 3, 1, 1): (3, 4, 9, 132),  # convolutions and FULLY_CONNECTED, with a bias or without
        (3, 4, 1, 1): (67, 141),  # transposed convolutions
        # BATCH_TO_SPACE_ND and back, PADV2, SELECT, SLICE, RANGE, SCATTER_ND, SELECT_V2,
        # DYNAMIC_UPDATE_SLICE, sums and the like by segment, DILATE.
        (3, 3, 1, 1): (37, 38, 60, 64, 65, 96, 122, 123, 151, 153, 154, 155, 157, 203),
        (4, 4, 1, 1): (45, 68, 85),  # STRIDED_SLICE, SPARSE_TO_DENSE, ONE_HOT
        (5, 5, 2, 2): (120,),  # NON_MAX_SUPPRESSION_V4
        (6, 6, 3, 3): (121,),  # NON_MAX_SUPPRESSION_V5
        (5, 5, 1, 1): (24, 27, 35),  # RNN, SVDF, UNIDIRECTIONAL_SEQUENCE_RNN
        (12, 12, 1, 2): (46,),  # BIDIRECTIONAL_SEQUENCE_RNN
        (20, 24, 1, 1): (16, 44),  # LSTM, UNIDIRECTIONAL_SEQUENCE_LSTM
        (48, 48, 1, 2): (52,),  # BIDIRECTIONAL_SEQUENCE_LSTM
        (1, ANY, 1, ANY): (118, 119),  # IF, WHILE
    }.items()
    for code in codes
}

# Operators that move elements or count them: bytes stay bytes, and need no scale. They are CAST,
# BITCAST, RESHAPE, SLICE, GATHER, CONCATENATION of equals and the like.
MOVING: Final = frozenset(
    (
        *(5, 22, 23, 26, 36, 37, 38, 39, 43, 45, 48, 49, 53, 55, 56, 57, 64, 65, 69, 70, 77, 79),
        *(83, 85, 88, 93, 94, 97, 100, 102, 103, 105, 107, 109, 110, 112, 118, 119, 122, 123),
        *(130, 151, 159, 160, 161, 203),
    )
)

OPTIONAL_FROM: Final[Mapping[int, int]] = {
    **dict.fromkeys((3, 4, 9, 132), 2),  # convolutions and FULLY_CONNECTED: the bias
    **dict.fromkeys((67, 141), 3),  # transposed convolutions: the bias
    **dict.fromkeys((16, 27, 44, 46, 52), 1),  # LSTM, SVDF and their like: what a variant lacks
}
"""By operator: the first input that may be missing."""

OPTIONS_WITH_GRAPHS: Final = {118: 92, 119: 93}
"""IF and WHILE: the number of the member of BuiltinOptions that says which graphs they run."""

CUSTOM: Final = 32

OPTIONS_WITH_COUNT: Final[Mapping[int, int]] = {49: 35, 88: 64, 102: 79}
"""SPLIT, UNPACK and SPLIT_V: the member of BuiltinOptions that says how many outputs there are."""
