"""Readers of data: what they give, and what they say of data that are damaged."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from wasinn_host.evaluate.data import Data, DataError, open_data
from wasinn_host.evaluate.data.delimited import read_delimited
from wasinn_host.evaluate.data.lines import LONGEST_ROW_BYTES, read_lines

ROWS = [
    {"text": 'a "quoted", text', "label": "1"},
    {"text": "two\nlines", "label": "0"},
    {"text": "naïve 日本", "label": "1"},
]


def write(folder: Path, ending: str) -> str:
    path = folder / f"rows.{ending}"
    if ending == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    elif ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n\n" for row in ROWS))
    else:
        mark = "," if ending == "csv" else "\t"
        quoted = [[value.replace('"', '""') for value in row.values()] for row in ROWS]
        lines = [mark.join(f'"{value}"' for value in row) for row in quoted]
        path.write_text("\n".join([mark.join(ROWS[0]), *lines]) + "\n", encoding="utf-8-sig")
    return str(path)


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, ending: str) -> None:
    data = open_data(write(tmp_path, ending))
    assert [dict(row) for _, row in data] == ROWS
    assert [number for number, _ in data] == [0, 1, 2]
    assert data.sha256() == open_data(write(tmp_path, ending)).sha256()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"a": 1}\n{"a": 2\n', "data, line 2: no JSON: .*begins with '{\"a\": 2'"),
        (b'{"a": 1}\n\n[1]\n', "data, line 3: expected a JSON object"),
        (b'{"a": "\xff"}\n', "data, line 1: not UTF-8"),
        (b'{"a": 1}\n{"a"', "data, line 2: no JSON"),
        (b"[" * 100_000, "data, line 1: no JSON"),
        (b"1" * (LONGEST_ROW_BYTES + 1), "data, line 1: longer than 64 MiB"),
    ],
)
def test_broken_json_lines_are_named(text: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(read_lines(io.BytesIO(text), "data"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a,b\n1,2\n1\n", "data, line 3: 1 fields; the header has 2 .a, b."),
        (b"a,b\n1,2,3\n", "data, line 2: 3 fields"),
        (b"a,a\n1,2\n", "the header names 'a' twice"),
        (b"a,b\n1,\xff\n", "data, line 2: not UTF-8"),
        (b"a,b\n1,\0\n", "data, line 2: a zero byte"),
        (b'a,b\n1,"2\n', "data, line 2: unexpected end of data"),
        (
            b'a\n"' + (b"x" * 8191 + b"\n") * (LONGEST_ROW_BYTES // 8192 + 1),
            "a row of more than 64 MiB; is a quote",
        ),
    ],
)
def test_broken_csv_is_named(text: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(read_delimited(io.BytesIO(text), "data", ","))


def rows_of(tmp_path: Path, **how: Any) -> list[tuple[int, Mapping[str, Any]]]:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps({"n": i, "split": "ab"[i % 3 == 0]}) + "\n" for i in range(30))
    )
    return list(open_data(str(path), **how))


def test_splits_samples_limits_and_shards(tmp_path: Path) -> None:
    b = rows_of(tmp_path, split="b")
    assert [row["n"] for _, row in b] == list(range(0, 30, 3))
    assert [number for number, _ in b] == list(range(10))
    one, again = (rows_of(tmp_path, sample=7, seed=5) for _ in range(2))
    assert one == again
    assert len({number for number, _ in one}) == 7
    assert one != rows_of(tmp_path, sample=7, seed=6)
    assert [n for n, _ in one] == sorted(n for n, _ in one)
    assert [n for n, _ in rows_of(tmp_path, limit=3)] == [0, 1, 2]
    shards = [rows_of(tmp_path, shard=(i, 4)) for i in range(4)]
    assert sorted(n for shard in shards for n, _ in shard) == list(range(30))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"split": "c"}, "no row of split 'c'; there is: a, b"),
        ({"sample": 31}, "a sample of 31 rows was asked for; it has 30"),
        ({"sample": 0}, "sample: expected 1 or more rows, got 0"),
        ({"limit": -1}, "limit: expected 1 or more rows, got -1"),
        ({"shard": (4, 4)}, "shard: expected i of n"),
        ({"format": "xml"}, "unknown format 'xml'; there is: jsonl, csv, tsv, parquet"),
    ],
)
def test_rows_that_are_not_there(tmp_path: Path, how: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        rows_of(tmp_path, **how)


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.jsonl: no such file"):
        open_data(str(tmp_path / "no.jsonl"))
    odd = tmp_path / "rows.xls"
    odd.write_text("")
    with pytest.raises(DataError, match="can not tell its format by the name"):
        open_data(str(odd))
    broken = tmp_path / "rows.parquet"
    broken.write_bytes(b"PAR1 not really PAR1")
    with pytest.raises(DataError, match="can not be read as Parquet"):
        list(open_data(str(broken)))
    with pytest.raises(DataError, match="no column 'split'"):
        list(open_data(write(tmp_path, "csv"), split="test"))


def test_rows_are_read_as_a_stream(tmp_path: Path) -> None:
    """What comes after the first rows is not looked at before it is needed."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"n": 0}\n{"n": 1}\nbroken\n')
    stream = iter(Data(str(path), "jsonl"))
    assert [next(stream)[1]["n"] for _ in range(2)] == [0, 1]
    with pytest.raises(DataError, match="line 3"):
        next(stream)
