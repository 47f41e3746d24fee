"""How much of everything a module may have. Not the limits an embedder sets for one run.

The specification lets an implementation bound sizes (appendix A.2). These bounds keep the time
and memory that a hostile file costs proportional to its size; they are those that browsers
and other engines agreed on, so a module that loads there loads here.
"""

from __future__ import annotations

__all__ = [
    "MAX_BODY_BYTES",
    "MAX_DATA_SEGMENTS",
    "MAX_ELEMENT_SEGMENTS",
    "MAX_EXPORTS",
    "MAX_FUNCTIONS",
    "MAX_GLOBALS",
    "MAX_IMPORTS",
    "MAX_LOCALS",
    "MAX_MEMORIES",
    "MAX_MEMORY_PAGES",
    "MAX_MEMORY_PAGES_64",
    "MAX_MODULE_BYTES",
    "MAX_NAME_BYTES",
    "MAX_PARAMS",
    "MAX_RESULTS",
    "MAX_SEGMENT_ELEMENTS",
    "MAX_SUBTYPE_DEPTH",
    "MAX_TABLES",
    "MAX_TABLE_ENTRIES",
    "MAX_TAGS",
    "MAX_TYPES",
]

MAX_MODULE_BYTES = 1 << 30
MAX_TYPES = 1_000_000
MAX_FUNCTIONS = 1_000_000
MAX_IMPORTS = 1_000_000
MAX_EXPORTS = 1_000_000
MAX_GLOBALS = 1_000_000
MAX_TABLES = 100
MAX_TAGS = 1_000_000
MAX_MEMORIES = 100
MAX_ELEMENT_SEGMENTS = 100_000
MAX_DATA_SEGMENTS = 100_000
MAX_NAME_BYTES = 100_000
MAX_BODY_BYTES = 7_654_321
MAX_LOCALS = 50_000
# How many types may be above one another.
MAX_SUBTYPE_DEPTH = 63
MAX_PARAMS = 1_000
MAX_RESULTS = 1_000
MAX_SEGMENT_ELEMENTS = 10_000_000
# Of a table at run time; a module may declare a larger maximum.
MAX_TABLE_ENTRIES = 10_000_000
# Not a choice of ours: 4 GiB is what 32-bit addresses reach.
MAX_MEMORY_PAGES = 65_536
# What 64-bit addresses reach; of a module's declaration only, no machine has it.
MAX_MEMORY_PAGES_64 = 1 << 48
