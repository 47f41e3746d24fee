"""What TFLite's operators take and give: the table for `tflite_preflight`. No code.

An operator that is not here is refused from guests.

Source: TFLite's schema.fbs (``BuiltinOperator``, ``BuiltinOptions``), and what it checks itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["CUSTOM", "OPERATORS", "Operator"]

CUSTOM: Final = 32
"""The number of operators that a model brings along."""

ANY: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Operator:
    """One row.

    Attributes:
        name: TFLite's.
        inputs: the fewest and the most.
        outputs: the fewest and the most.
        moves: whether it moves elements, compares or counts them as they are: small integers need
            no scale then.
        optional_from: the first input that may be missing; None where all must be there.
        counted_in: the member of BuiltinOptions that says how many outputs there are, if one does.
        graphs_in: the member that says which graphs it runs, if it runs some.
    """

    name: str
    inputs: tuple[int, int]
    outputs: tuple[int, int]
    moves: bool = False
    optional_from: int | None = None
    counted_in: int | None = None
    graphs_in: int | None = None


OPERATORS: Final[Mapping[int, Operator]] = {
    0: Operator("ADD", (2, 2), (1, 1)),
    1: Operator("AVERAGE_POOL_2D", (1, 1), (1, 1)),
    2: Operator("CONCATENATION", (1, ANY), (1, 1)),
    3: Operator("CONV_2D", (2, 3), (1, 1), optional_from=2),
    4: Operator("DEPTHWISE_CONV_2D", (2, 3), (1, 1), optional_from=2),
    5: Operator("DEPTH_TO_SPACE", (1, 1), (1, 1), moves=True),
    6: Operator("DEQUANTIZE", (1, 1), (1, 1)),
    7: Operator("EMBEDDING_LOOKUP", (2, 2), (1, 1)),
    8: Operator("FLOOR", (1, 1), (1, 1)),
    9: Operator("FULLY_CONNECTED", (2, 3), (1, 1), optional_from=2),
    11: Operator("L2_NORMALIZATION", (1, 1), (1, 1)),
    12: Operator("L2_POOL_2D", (1, 1), (1, 1)),
    13: Operator("LOCAL_RESPONSE_NORMALIZATION", (1, 1), (1, 1)),
    14: Operator("LOGISTIC", (1, 1), (1, 1)),
    16: Operator("LSTM", (20, 24), (1, 1), optional_from=1),
    17: Operator("MAX_POOL_2D", (1, 1), (1, 1)),
    18: Operator("MUL", (2, 2), (1, 1)),
    19: Operator("RELU", (1, 1), (1, 1)),
    20: Operator("RELU_N1_TO_1", (1, 1), (1, 1)),
    21: Operator("RELU6", (1, 1), (1, 1)),
    22: Operator("RESHAPE", (1, 2), (1, 1), moves=True),
    23: Operator("RESIZE_BILINEAR", (2, 2), (1, 1), moves=True),
    24: Operator("RNN", (5, 5), (1, 1)),
    25: Operator("SOFTMAX", (1, 1), (1, 1)),
    26: Operator("SPACE_TO_DEPTH", (1, 1), (1, 1), moves=True),
    27: Operator("SVDF", (5, 5), (1, 1), optional_from=1),
    28: Operator("TANH", (1, 1), (1, 1)),
    34: Operator("PAD", (2, 2), (1, 1)),
    35: Operator("UNIDIRECTIONAL_SEQUENCE_RNN", (5, 5), (1, 1)),
    36: Operator("GATHER", (2, 2), (1, 1), moves=True),
    37: Operator("BATCH_TO_SPACE_ND", (3, 3), (1, 1), moves=True),
    38: Operator("SPACE_TO_BATCH_ND", (3, 3), (1, 1), moves=True),
    39: Operator("TRANSPOSE", (2, 2), (1, 1), moves=True),
    40: Operator("MEAN", (2, 2), (1, 1)),
    41: Operator("SUB", (2, 2), (1, 1)),
    42: Operator("DIV", (2, 2), (1, 1)),
    43: Operator("SQUEEZE", (1, 1), (1, 1), moves=True),
    44: Operator("UNIDIRECTIONAL_SEQUENCE_LSTM", (20, 24), (1, 1), optional_from=1),
    45: Operator("STRIDED_SLICE", (4, 4), (1, 1), moves=True),
    46: Operator("BIDIRECTIONAL_SEQUENCE_RNN", (12, 12), (1, 2), optional_from=1),
    47: Operator("EXP", (1, 1), (1, 1)),
    48: Operator("TOPK_V2", (2, 2), (2, 2), moves=True),
    49: Operator("SPLIT", (2, 2), (1, ANY), moves=True, counted_in=35),
    50: Operator("LOG_SOFTMAX", (1, 1), (1, 1)),
    52: Operator("BIDIRECTIONAL_SEQUENCE_LSTM", (48, 48), (1, 2), optional_from=1),
    53: Operator("CAST", (1, 1), (1, 1), moves=True),
    54: Operator("PRELU", (2, 2), (1, 1)),
    55: Operator("MAXIMUM", (2, 2), (1, 1), moves=True),
    56: Operator("ARG_MAX", (2, 2), (1, 1), moves=True),
    57: Operator("MINIMUM", (2, 2), (1, 1), moves=True),
    58: Operator("LESS", (2, 2), (1, 1)),
    59: Operator("NEG", (1, 1), (1, 1)),
    60: Operator("PADV2", (3, 3), (1, 1)),
    61: Operator("GREATER", (2, 2), (1, 1)),
    62: Operator("GREATER_EQUAL", (2, 2), (1, 1)),
    63: Operator("LESS_EQUAL", (2, 2), (1, 1)),
    64: Operator("SELECT", (3, 3), (1, 1), moves=True),
    65: Operator("SLICE", (3, 3), (1, 1), moves=True),
    66: Operator("SIN", (1, 1), (1, 1)),
    67: Operator("TRANSPOSE_CONV", (3, 4), (1, 1), optional_from=3),
    68: Operator("SPARSE_TO_DENSE", (4, 4), (1, 1)),
    69: Operator("TILE", (2, 2), (1, 1), moves=True),
    70: Operator("EXPAND_DIMS", (2, 2), (1, 1), moves=True),
    71: Operator("EQUAL", (2, 2), (1, 1)),
    72: Operator("NOT_EQUAL", (2, 2), (1, 1)),
    73: Operator("LOG", (1, 1), (1, 1)),
    74: Operator("SUM", (2, 2), (1, 1)),
    75: Operator("SQRT", (1, 1), (1, 1)),
    76: Operator("RSQRT", (1, 1), (1, 1)),
    77: Operator("SHAPE", (1, 1), (1, 1), moves=True),
    78: Operator("POW", (2, 2), (1, 1)),
    79: Operator("ARG_MIN", (2, 2), (1, 1), moves=True),
    81: Operator("REDUCE_PROD", (2, 2), (1, 1)),
    82: Operator("REDUCE_MAX", (2, 2), (1, 1)),
    83: Operator("PACK", (1, ANY), (1, 1), moves=True),
    84: Operator("LOGICAL_OR", (2, 2), (1, 1)),
    85: Operator("ONE_HOT", (4, 4), (1, 1), moves=True),
    86: Operator("LOGICAL_AND", (2, 2), (1, 1)),
    87: Operator("LOGICAL_NOT", (1, 1), (1, 1)),
    88: Operator("UNPACK", (1, 1), (1, ANY), moves=True, counted_in=64),
    89: Operator("REDUCE_MIN", (2, 2), (1, 1)),
    90: Operator("FLOOR_DIV", (2, 2), (1, 1)),
    91: Operator("REDUCE_ANY", (2, 2), (1, 1)),
    92: Operator("SQUARE", (1, 1), (1, 1)),
    93: Operator("ZEROS_LIKE", (1, 1), (1, 1), moves=True),
    94: Operator("FILL", (2, 2), (1, 1), moves=True),
    95: Operator("FLOOR_MOD", (2, 2), (1, 1)),
    96: Operator("RANGE", (3, 3), (1, 1)),
    97: Operator("RESIZE_NEAREST_NEIGHBOR", (2, 2), (1, 1), moves=True),
    98: Operator("LEAKY_RELU", (1, 1), (1, 1)),
    99: Operator("SQUARED_DIFFERENCE", (2, 2), (1, 1)),
    100: Operator("MIRROR_PAD", (2, 2), (1, 1), moves=True),
    101: Operator("ABS", (1, 1), (1, 1)),
    102: Operator("SPLIT_V", (3, 3), (1, ANY), moves=True, counted_in=79),
    103: Operator("UNIQUE", (1, 1), (2, 2), moves=True),
    104: Operator("CEIL", (1, 1), (1, 1)),
    105: Operator("REVERSE_V2", (2, 2), (1, 1), moves=True),
    106: Operator("ADD_N", (1, ANY), (1, 1)),
    107: Operator("GATHER_ND", (2, 2), (1, 1), moves=True),
    108: Operator("COS", (1, 1), (1, 1)),
    109: Operator("WHERE", (1, 1), (1, 1), moves=True),
    110: Operator("RANK", (1, 1), (1, 1), moves=True),
    111: Operator("ELU", (1, 1), (1, 1)),
    112: Operator("REVERSE_SEQUENCE", (2, 2), (1, 1), moves=True),
    113: Operator("MATRIX_DIAG", (1, 1), (1, 1)),
    114: Operator("QUANTIZE", (1, 1), (1, 1)),
    115: Operator("MATRIX_SET_DIAG", (2, 2), (1, 1)),
    116: Operator("ROUND", (1, 1), (1, 1)),
    117: Operator("HARD_SWISH", (1, 1), (1, 1)),
    118: Operator("IF", (1, ANY), (1, ANY), moves=True, graphs_in=92),
    119: Operator("WHILE", (1, ANY), (1, ANY), moves=True, graphs_in=93),
    120: Operator("NON_MAX_SUPPRESSION_V4", (5, 5), (2, 2)),
    121: Operator("NON_MAX_SUPPRESSION_V5", (6, 6), (3, 3)),
    122: Operator("SCATTER_ND", (3, 3), (1, 1), moves=True),
    123: Operator("SELECT_V2", (3, 3), (1, 1), moves=True),
    125: Operator("SEGMENT_SUM", (2, 2), (1, 1)),
    126: Operator("BATCH_MATMUL", (2, 2), (1, 1)),
    128: Operator("CUMSUM", (2, 2), (1, 1)),
    130: Operator("BROADCAST_TO", (2, 2), (1, 1), moves=True),
    131: Operator("RFFT2D", (2, 2), (1, 1)),
    132: Operator("CONV_3D", (2, 3), (1, 1), optional_from=2),
    133: Operator("IMAG", (1, 1), (1, 1)),
    134: Operator("REAL", (1, 1), (1, 1)),
    135: Operator("COMPLEX_ABS", (1, 1), (1, 1)),
    140: Operator("REDUCE_ALL", (2, 2), (1, 1)),
    141: Operator("CONV_3D_TRANSPOSE", (3, 4), (1, 1), optional_from=3),
    145: Operator("BROADCAST_ARGS", (2, 2), (1, 1)),
    146: Operator("RANDOM_STANDARD_NORMAL", (1, 1), (1, 1)),
    147: Operator("BUCKETIZE", (1, 1), (1, 1)),
    148: Operator("RANDOM_UNIFORM", (1, 1), (1, 1)),
    149: Operator("MULTINOMIAL", (2, 2), (1, 1)),
    150: Operator("GELU", (1, 1), (1, 1)),
    151: Operator("DYNAMIC_UPDATE_SLICE", (3, 3), (1, 1), moves=True),
    152: Operator("RELU_0_TO_1", (1, 1), (1, 1)),
    153: Operator("UNSORTED_SEGMENT_PROD", (3, 3), (1, 1)),
    154: Operator("UNSORTED_SEGMENT_MAX", (3, 3), (1, 1)),
    155: Operator("UNSORTED_SEGMENT_SUM", (3, 3), (1, 1)),
    156: Operator("ATAN2", (2, 2), (1, 1)),
    157: Operator("UNSORTED_SEGMENT_MIN", (3, 3), (1, 1)),
    158: Operator("SIGN", (1, 1), (1, 1)),
    159: Operator("BITCAST", (1, 1), (1, 1), moves=True),
    160: Operator("BITWISE_XOR", (2, 2), (1, 1), moves=True),
    161: Operator("RIGHT_SHIFT", (2, 2), (1, 1), moves=True),
    203: Operator("DILATE", (3, 3), (1, 1), moves=True),
}
