"""Writes ``unicode_tables.h`` and ``.rs``: what BERT's normaliser must know about every code point.

It is a generator that is run by hand (``python gen_unicode.py [--check]``); guests only see what it
writes.  It is not a general Unicode library: it keeps what BERT needs.

Which Unicode version
---------------------
BERT models are used with Hugging Face ``tokenizers``, so token ids have to equal *its* ids.  That
library takes its knowledge from three places of different age (release 0.23, found by asking it
about every code point), and so do these tables:

* categories (control and format characters, non-spacing marks, punctuation): **Unicode 8.0**.
  A mark that came with Unicode 9.0 or later is not stripped, and a newer punctuation mark does not
  split a word.
* canonical decomposition and combining classes: **Unicode 9.0**.
* lower case and white space: those of its compiler's standard library, **Unicode 17.0**.

``unicodedata`` of Python 3.11 to 3.15 knows Unicode 14.0 to 17.0 and cannot tell when a character
was added.  The lists below therefore name what is younger than 8.0 or 9.0 (taken away) and what
is younger than 14.0 (added), so that every one of these Python versions writes the same bytes.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

C_OUTPUT = Path(__file__).resolve().with_name("unicode_tables.h")
RUST_OUTPUT = C_OUTPUT.parents[1] / "bert-rust" / "unicode_tables.rs"

# The first version has every character that is neither in the LATER lists nor in LOWER_AFTER_14;
# a version after the last one may bring case pairs that the reference does not know.
OLDEST_UNICODE, NEWEST_UNICODE = (14, 0), (17, 0)

# Category Mn now, but not in Unicode 8.0.
MARKS_AFTER_8 = """
5C8-5C9 7FD 897-89F 8CA-8E1 9FE AFA-AFF B53-B55 C04 C3C D00 D3B-D3C D81 EBA ECE 180F 1885-1886
1ABF-1AF0 1DF6-1DFB A82C A8C5 A8FF A9BD 10D24-10D27 10D69-10D6D 10EAB-10EAC 10ECB-10ECF 10EF0-10EFF
10F46-10F50 10F82-10F85 11070 11073-11074 110C2 111C9 111CF 1123E 11241 1133B 113BB-113C0 113CE
113D0 113D2 113E1-113E2 11438-1143F 11442-11444 11446 1145E 1182F-11837 11839-1183A 1193B-1193C
1193E 11943 119D4-119D7 119DA-119DB 119E0 11A01-11A0A 11A33-11A38 11A3B-11A3E 11A47 11A51-11A56
11A59-11A5B 11A8A-11A96 11A98-11A99 11B60 11B62-11B64 11B66 11C30-11C36 11C38-11C3D 11C3F
11C92-11CA7 11CAA-11CB0 11CB2-11CB3 11CB5-11CB6 11D31-11D36 11D3A 11D3C-11D3D 11D3F-11D45 11D47
11D90-11D91 11D95 11D97 11DF0 11EF3-11EF4 11F00-11F01 11F36-11F3A 11F40 11F42 11F5A 13440
13447-13455 1611E-16129 1612D-1612F 16F4F 16FE4 1CF00-1CF2D 1CF30-1CF46 1D127-1D128 1D25B-1D25C
1E000-1E006 1E008-1E018 1E01B-1E021 1E023-1E024 1E026-1E02A 1E08F 1E130-1E136 1E2AE 1E2EC-1E2EF
1E4EC-1E4EF 1E5EE-1E5EF 1E6E3 1E6E6 1E6EE-1E6EF 1E6F5 1E944-1E94A
"""
# Category Mn in Unicode 8.0, another one now.
MARKS_ONLY_IN_8 = "1734 1171E"

# Punctuation now, but not in Unicode 8.0.
PUNCTUATION_AFTER_8 = """
61D 9FD A76 C77 C84 1B4E-1B4F 1B7D-1B7F 2E43-2E4F 2E52-2E5D 2E60-2E63 10D6E 10EAD 10ED0 10F55-10F59
10F86-10F89 113D4-113D5 113D7-113D8 1144B-1144F 1145A-1145B 1145D 11660-1166C 116B9 1183B
11944-11946 119E2 11A3F-11A46 11A9A-11A9C 11A9E-11AA2 11B00-11B09 11BE1 11C41-11C45 11C70-11C71
11EF7-11EF8 11F43-11F4F 11FFF 12FF1-12FF2 16D6D-16D6F 16E97-16E9A 16FE2 1E5FF 1E95E-1E95F
"""
# Punctuation in Unicode 8.0, a symbol or a mark now.
PUNCTUATION_ONLY_IN_8 = "166D 111C9"

# Format characters (Cf) that are younger than Unicode 8.0.
FORMAT_AFTER_8 = "890-891 8E2 110CD 13430-1343F"

# Characters with a canonical decomposition that are younger than Unicode 9.0.
DECOMPOSITIONS_AFTER_9 = """
105C9 105E4 11383 11385 1138E 11391 113C5 113C7-113C8 11938 16121-16128 16D68-16D6A
"""
# Characters with a combining class other than 0 that are younger than Unicode 9.0.
COMBINING_AFTER_9 = """
5C8-5C9 7FD 897-89F 8CA-8D3 9FE C3C D3B-D3C EBA 1715 1ABF-1AF0 1DF6-1DFA A82C 10D24-10D27
10D69-10D6D 10EAB-10EAC 10ECB-10ECF 10EF0-10EFB 10EFD-10EFF 10F46-10F50 10F82-10F85 11070 1133B
113CE-113D0 1145E 11839-1183A 1193D-1193E 11943 119E0 11A34 11A47 11A99 11D42 11D44-11D45 11D97
11F41-11F42 1612F 16FF0-16FF1 1D127-1D128 1D250-1D252 1D25B-1D25C 1D25F 1D280-1D281 1E08F
1E130-1E136 1E2AE 1E2EC-1E2EF 1E4EC-1E4EF 1E5EE-1E5EF 1E6E3 1E6E6 1E6EE-1E6EF 1E6F5
"""
# Lower case of upper case letters added in Unicode 15.0 to 17.0: (first, last, first's lower case).
LOWER_AFTER_14 = (
    (0x1C89, 0x1C89, 0x1C8A),
    (0xA7CB, 0xA7CB, 0x0264),
    (0xA7CC, 0xA7CC, 0xA7CD),
    (0xA7CE, 0xA7CE, 0xA7CF),
    (0xA7D2, 0xA7D2, 0xA7D3),
    (0xA7D4, 0xA7D4, 0xA7D5),
    (0xA7DA, 0xA7DA, 0xA7DB),
    (0xA7DC, 0xA7DC, 0x019B),
    (0x10D50, 0x10D65, 0x10D70),
    (0x16EA0, 0x16EB8, 0x16EBB),
)
# White space (property White_Space) without the control characters of it that cleaning keeps.
SPACES = "9-A D 20 A0 1680 2000-200A 2028-2029 202F 205F 3000"
# The CJK blocks that BERT surrounds with spaces.  Not a Unicode property: BERT's own list.
CJK = "3400-4DBF 4E00-9FFF F900-FAFF 20000-2A6DF 2A700-2B81F 2B920-2CEAF 2F800-2FA1F"

HANGUL_SYLLABLES = range(0xAC00, 0xD7A4)
BLOCK_BITS = 7
EXPANSION = 0x80000000

FLAGS = {
    "DROP": 1,  # removed by cleaning
    "SPACE": 2,  # becomes a space
    "CJK": 4,  # a word of its own, mapped or not
    "MARK": 8,  # removed after decomposition
    "BARRIER": 16,  # with MARK: has combining class 0, so reordering stops at it
    "PUNCTUATION": 32,  # a word of its own
    "MAPPED": 64,  # decomposition, lower case or both: look it up
    "MOVABLE": 128,  # kept, but with a combining class: may be reordered
}


class TableError(Exception):
    """The Unicode data break an assumption that the C code makes."""


def code_points(ranges: str) -> frozenset[int]:
    """Expands ``"9-A 20"`` (hexadecimal, inclusive) into ``{9, 10, 32}``."""
    found: set[int] = set()
    for item in ranges.split():
        first, _, last = item.partition("-")
        found.update(range(int(first, 16), int(last or first, 16) + 1))
    return frozenset(found)


def scalar_values() -> Iterator[int]:
    """All code points that UTF-8 can carry: everything but surrogates."""
    yield from range(0xD800)
    yield from range(0xE000, 0x110000)


@dataclass(frozen=True)
class Tables:
    """What the header says.

    Attributes:
        flags: One set of FLAGS bits for each of the 0x110000 code points.
        mapped: Code point to the code points it becomes after decomposition, removal of marks and
            lower case; one to three of them, or none.
        movable: Kept code point to its combining class (never 0).
    """

    flags: Sequence[int]
    mapped: Mapping[int, tuple[int, ...]]
    movable: Mapping[int, int]


def build() -> Tables:
    """Works the tables out of ``unicodedata`` and the lists above.

    Raises:
        TableError: Python's Unicode version is out of range, or an assumption does not hold.
    """
    version = tuple(int(part) for part in unicodedata.unidata_version.split(".")[:2])
    if not OLDEST_UNICODE <= version <= NEWEST_UNICODE:
        raise TableError(
            f"this Python knows Unicode {unicodedata.unidata_version}; the lists in this script"
            f" cover {'.'.join(map(str, OLDEST_UNICODE))} to {'.'.join(map(str, NEWEST_UNICODE))}"
        )
    category: defaultdict[str, set[int]] = defaultdict(set)
    for cp in scalar_values():
        category[unicodedata.category(chr(cp))].add(cp)
    private = category["Co"]
    assigned = set[int]().union(*category.values()) - private - category["Cn"]

    marks = (category["Mn"] - code_points(MARKS_AFTER_8)) | code_points(MARKS_ONLY_IN_8)
    ascii_symbols = {cp for cp in range(0x21, 0x7F) if not chr(cp).isalnum()}
    punctuation = set[int]().union(*(cps for name, cps in category.items() if name[0] == "P"))
    punctuation -= code_points(PUNCTUATION_AFTER_8)
    punctuation |= code_points(PUNCTUATION_ONLY_IN_8) | ascii_symbols
    spaces = code_points(SPACES)
    # U+FFFD is what invalid input was decoded to; cleaning removes it like a control character.
    drop = category["Cc"] | category["Cf"] | private | {0xFFFD}
    drop -= spaces | code_points(FORMAT_AFTER_8)

    no_class = code_points(COMBINING_AFTER_9)
    combining = {
        cp: value
        for cp in assigned
        if (value := unicodedata.combining(chr(cp))) and cp not in no_class
    }
    lower = {cp: ord(low) for cp in assigned if len(low := chr(cp).lower()) == 1}
    for first, last, target in LOWER_AFTER_14:
        lower.update({cp: target + cp - first for cp in range(first, last + 1)})

    young = code_points(DECOMPOSITIONS_AFTER_9)
    mapped: dict[int, tuple[int, ...]] = {}
    for cp in (assigned | set(lower)) - drop - spaces - marks - set(HANGUL_SYLLABLES):
        parts = [cp] if cp in young else [ord(c) for c in unicodedata.normalize("NFD", chr(cp))]
        kept = tuple(lower.get(part, part) for part in parts if part not in marks)
        _check_decomposition(cp, parts, marks, combining)
        if kept != (cp,):
            mapped[cp] = kept

    movable = {cp: value for cp, value in combining.items() if cp not in marks | drop}
    for cp in movable:
        if cp in punctuation or cp in spaces:
            raise TableError(f"U+{cp:04X} has a combining class and also ends a word")

    flags = [0] * 0x110000
    members = {
        "DROP": drop,
        "SPACE": spaces,
        "CJK": code_points(CJK),
        "MARK": marks - drop,
        "BARRIER": {cp for cp in marks - drop if cp not in combining},
        "PUNCTUATION": punctuation,
        "MAPPED": mapped,
        "MOVABLE": movable,
    }
    for name, cps in members.items():
        for cp in cps:
            flags[cp] |= FLAGS[name]
    return Tables(flags, mapped, movable)


def _check_decomposition(
    cp: int, parts: Sequence[int], marks: set[int], combining: Mapping[int, int]
) -> None:
    """Removing marks from a decomposition ahead of time must not change any reordering.

    It would if a mark of class 0 stood behind a kept character that can be reordered.

    Raises:
        TableError: There is such a decomposition.
    """
    seen_movable = False
    for part in parts:
        seen_movable |= part in combining and part not in marks
        if seen_movable and part in marks and part not in combining:
            raise TableError(f"decomposition of U+{cp:04X} needs its marks for reordering")


def _rows(values: Iterable[object]) -> str:
    text = ", ".join(str(value) for value in values) + ","
    return textwrap.fill(text, width=98, initial_indent="    ", subsequent_indent="    ")


@dataclass(frozen=True)
class Packed:
    """The tables as both languages hold them.

    Attributes:
        index: The block of each range of code points.
        blocks: Different blocks of flags.
        mapped, targets: Code points with the flag MAPPED, ascending, and what they become: a code
            point, or EXPANSION | count << 16 | offset into ``pool``.
        pool: Code points.
        movable, classes: Code points with the flag MOVABLE, ascending, and their combining classes.
    """

    index: Sequence[int]
    blocks: Sequence[Sequence[int]]
    mapped: Sequence[str]
    targets: Sequence[str]
    pool: Sequence[str]
    movable: Sequence[str]
    classes: Sequence[int]


def pack(tables: Tables) -> Packed:
    """Makes blocks that are the same one block, and expansions places in a pool.

    Raises:
        TableError: An assumption of the tokenizers does not hold.
    """
    size = 1 << BLOCK_BITS
    blocks: dict[tuple[int, ...], int] = {}
    index = [
        blocks.setdefault(tuple(tables.flags[start : start + size]), len(blocks))
        for start in range(0, 0x110000, size)
    ]
    keys = sorted(tables.mapped)
    targets: list[int] = []
    pool: list[int] = []
    for key in keys:
        kept = tables.mapped[key]
        # The tokenizer makes room for as many tokens as a text has bytes.
        if len(kept) > len(chr(key).encode()):
            raise TableError(f"U+{key:04X} becomes more code points than it has bytes")
        if len(kept) == 1:
            targets.append(kept[0])
        else:
            targets.append(EXPANSION | len(kept) << 16 | len(pool))
            pool.extend(kept)
    if len(blocks) > 256 or len(pool) >= 1 << 16 or max(map(len, tables.mapped.values())) > 4:
        raise TableError("a table outgrew its integer type")
    movable = sorted(tables.movable)
    return Packed(
        index=index,
        blocks=list(blocks),
        mapped=_hex(keys),
        targets=_hex(targets),
        pool=_hex(pool),
        movable=_hex(movable),
        classes=[tables.movable[cp] for cp in movable],
    )


def _hex(values: Iterable[int]) -> list[str]:
    return [f"0x{value:X}" for value in values]


def header(packed: Packed) -> str:
    """The text of ``unicode_tables.h``."""

    def array(ctype: str, name: str, values: Sequence[object]) -> str:
        return f"static const {ctype} {name}[{len(values)}] = {{\n{_rows(values)}\n}};\n"

    flags = "\n".join(f"#define UNICODE_{name} {value}u" for name, value in FLAGS.items())
    blocks = "\n".join("  {\n" + _rows(block) + "\n  }," for block in packed.blocks)
    return f"""\
/* Written by gen_unicode.py, which says what these tables are and which Unicode they follow.
   Do not edit: change the script and run it again. */
#ifndef UNICODE_TABLES_H
#define UNICODE_TABLES_H

#include <stdint.h>

#define UNICODE_BLOCK_BITS {BLOCK_BITS}
{flags}

/* Flags of code point c: unicode_blocks[unicode_index[c >> BLOCK_BITS]][low BLOCK_BITS bits]. */
{array("uint8_t", "unicode_index", packed.index)}
static const uint8_t unicode_blocks[{len(packed.blocks)}][{1 << BLOCK_BITS}] = {{
{blocks}
}};

/* Code points with the flag MAPPED, ascending, and what they become: a code point, or
   UNICODE_EXPANSION | count << 16 | offset into unicode_pool. */
#define UNICODE_EXPANSION 0x{EXPANSION:X}u
{array("uint32_t", "unicode_mapped", packed.mapped)}
{array("uint32_t", "unicode_targets", packed.targets)}
{array("uint32_t", "unicode_pool", packed.pool)}
/* Code points with the flag MOVABLE, ascending, and their combining classes. */
{array("uint32_t", "unicode_movable", packed.movable)}
{array("uint8_t", "unicode_movable_class", packed.classes)}
#endif
"""


def rust_module(packed: Packed) -> str:
    """The text of ``unicode_tables.rs``."""

    def array(kind: str, name: str, values: Sequence[object]) -> str:
        return f"pub static {name}: [{kind}; {len(values)}] = [\n{_rows(values)}\n];\n"

    flags = "\n".join(f"pub const {name}: u8 = {value};" for name, value in FLAGS.items())
    size = 1 << BLOCK_BITS
    blocks = "\n".join("  [\n" + _rows(block) + "\n  ]," for block in packed.blocks)
    return f"""\
//! What BERT's normaliser must know about every code point. Written by ../bert-c/gen_unicode.py,
//! which says what these tables are. Do not edit: change the script and run it again.

pub const BLOCK_BITS: u32 = {BLOCK_BITS};
{flags}

/// The block of code point c is that of c >> BLOCK_BITS.
{array("u8", "INDEX", packed.index)}
/// Flags.
pub static BLOCKS: [[u8; {size}]; {len(packed.blocks)}] = [
{blocks}
];

/// Code points with the flag MAPPED, ascending; and what they become: a code point, or
/// EXPANSION | count << 16 | offset into POOL.
{array("u32", "MAPPED_POINTS", packed.mapped)}
pub const EXPANSION: u32 = 0x{EXPANSION:X};
{array("u32", "TARGETS", packed.targets)}
{array("u32", "POOL", packed.pool)}
/// Code points with the flag MOVABLE, ascending, and their combining classes.
{array("u32", "MOVABLE_POINTS", packed.movable)}
{array("u8", "MOVABLE_CLASSES", packed.classes)}"""


def main() -> int:
    """Writes both files, or with ``--check`` only says whether they are up to date."""
    parser = argparse.ArgumentParser(description="Write unicode_tables.h and unicode_tables.rs.")
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    options = parser.parse_args()
    try:
        packed = pack(build())
    except TableError as error:
        print(f"gen_unicode.py: {error}", file=sys.stderr)
        return 1
    status = 0
    for output, text in ((C_OUTPUT, header(packed)), (RUST_OUTPUT, rust_module(packed))):
        if not options.check:
            output.write_text(text, encoding="ascii")
        elif not output.exists() or output.read_text(encoding="ascii") != text:
            status = 1
            print(
                f"gen_unicode.py: {output.name} is out of date; run it without --check",
                file=sys.stderr,
            )
    return status


if __name__ == "__main__":
    sys.exit(main())
