"""What ``wasinn models list|add|path|build|check`` do, as plain functions. No printing, no parsing.

Each takes the store it works on, returns data, and raises errors whose text can be shown as it is.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from wasinn_models.atomic import sha256_of, store_errors
from wasinn_models.errors import ChecksumMismatch, ManifestError
from wasinn_models.manifest import (
    FORMS,
    HEADS,
    Build,
    Manifest,
    ManifestFile,
    Variant,
    checked_file_name,
    checked_name,
)
from wasinn_models.record import Record
from wasinn_models.sniff import encoding_of
from wasinn_models.sources.fetch import file_name_of
from wasinn_models.sources.spec import FileSource, parse_source
from wasinn_models.store import Check, ModelStore, ResolvedModel, split_name

__all__ = [
    "ModelRow",
    "add_manifest",
    "add_model",
    "build_model",
    "check_models",
    "list_models",
    "model_path",
]


@dataclasses.dataclass(frozen=True)
class ModelRow:
    """One line of ``wasinn models list``.

    Attributes:
        name: of the entry.
        encoding: how a backend is asked for it.
        variants: their names, the default one first.
        licence: SPDX identifier or ``unknown``.
        source: where it comes from.
        description: one line.
        shipped: whether the entry came with the package.
        stored_bytes: what its files take up; 0 when nothing is fetched yet.
    """

    name: str
    encoding: str
    variants: tuple[str, ...]
    licence: str
    source: str
    description: str
    shipped: bool
    stored_bytes: int


def list_models(store: ModelStore) -> list[ModelRow]:
    """Every entry of the catalogue, by name.

    Raises:
        ManifestError: one of the user's entries breaks the form.
    """
    rows = []
    for manifest in store.catalogue:
        names = [variant.name for variant in manifest.variants]
        rows.append(
            ModelRow(
                name=manifest.name,
                encoding=manifest.encoding,
                variants=tuple(sorted(names, key=lambda name: (name != manifest.default, name))),
                licence=manifest.licence,
                source=manifest.source,
                description=manifest.description,
                shipped=store.catalogue.is_shipped(manifest.name),
                stored_bytes=store.stored_bytes(manifest.name),
            )
        )
    return rows


def add_manifest(store: ModelStore, path: Path, *, replace: bool = False) -> Manifest:
    """Adds an entry from a manifest's file; its model is fetched when it is first asked for.

    Raises:
        ManifestError: the file breaks the form, or the name is taken.
        StoreError: the entry can not be written.
    """
    manifest = Manifest.from_file(path)
    with store.locked(manifest.name):
        store.catalogue.add(manifest, replace=replace)
    return manifest


def add_model(
    store: ModelStore,
    sources: Sequence[str],
    *,
    name: str | None = None,
    encoding: str | None = None,
    licence: str = "unknown",
    description: str = "",
    sha256: Sequence[str] = (),
    head: str | None = None,
    replace: bool = False,
) -> Manifest:
    """Fetches files, stores them, and writes an entry that holds their checksums.

    Args:
        store: where.
        sources: one per file, in the order in which a backend wants them.
        name: of the entry; made of the first file's name by default.
        encoding: how a backend is asked for it; recognised by default.
        licence: SPDX identifier.
        description: one line; the sources by default.
        sha256: checksums that the files must have, in the order of ``sources``; none by default.
        head: for a BERT-style model given as ``config.json`` and one ``.safetensors`` file: what a
            model built of it puts out, see ``build_bert``.
        replace: take the place of an entry of the same name.

    Returns:
        The new entry.

    Raises:
        ManifestError: a name, source or option breaks the form, or the name is taken.
        SourceError: a file can not be fetched, or is none of a model.
        ChecksumMismatch: a file is not the one that ``sha256`` names; nothing is stored.
        StoreError: the store can not be written.
    """
    if not sources:
        raise ManifestError("add: expected at least one source, got none")
    if sha256 and len(sha256) != len(sources):
        raise ManifestError(
            f"add: expected a checksum for each of {len(sources)} sources, got {len(sha256)}"
        )
    sources = [_absolute(source) for source in sources]
    names = [checked_file_name(file_name_of(source)) for source in sources]
    model = checked_name(name or _name_from(names[0]))
    with store.locked(model):
        store.catalogue.need_free(model, replace=replace)
        variants, build = _form(names, head)
        with store.fetcher(model) as fetcher:
            paths = [fetcher.fetch(source) for source in sources]
            found = encoding_of(list(zip(names, paths, strict=True)), encoding, built=bool(head))
            files = []
            for index, path in enumerate(paths):
                with store_errors(path):
                    digest, size = sha256_of(path), path.stat().st_size
                if sha256 and digest != sha256[index]:
                    raise ChecksumMismatch(
                        sources[index], sha256[index], digest, "nothing was stored"
                    )
                files.append(ManifestFile(names[index], sources[index], digest, size))
            manifest = Manifest(
                name=model,
                encoding=found,
                licence=licence,
                source=sources[0],
                description=description or ", ".join(names),
                files=tuple(files),
                variants=variants,
                default=variants[0].name,
                build=build,
            )
            record = Record(store.folder(model) / "stored.json")
            record.files.clear()
            for file, path in zip(files, paths, strict=True):
                store.put(model, f"files/{file.name}", path, file.sha256, record, file.source)
            record.save()
        store.catalogue.add(manifest, replace=replace)
    return manifest


def build_model(store: ModelStore, name: str, *, force: bool = False) -> ResolvedModel:
    """Fetches a model and builds a variant of it; ``name`` is ``NAME[:VARIANT]``.

    Raises:
        As ``ModelStore.resolve``.
    """
    return store.build(name, force=force)


def model_path(store: ModelStore, name: str, file: str | None = None) -> Path:
    """The file to load of ``NAME[:VARIANT]``, or one of its fetched files; fetched when missing.

    Args:
        store: where.
        name: ``NAME`` or ``NAME:VARIANT``.
        file: such as ``vocab.txt``; only fetched, nothing is built for it.

    Raises:
        As ``ModelStore.resolve``.
    """
    if file is None:
        return store.resolve(name).path
    model, wanted = split_name(name)
    manifest = store.catalogue.manifest(model)
    manifest.variant(wanted)
    entry = manifest.file(file)
    with store.locked(model):
        store.fetch(manifest)
    return store.files_folder(model) / entry.name


def check_models(
    store: ModelStore, names: Sequence[str] = (), *, repair: bool = False
) -> list[Check]:
    """Hashes the stored files of some models, or of all that have any.

    Args:
        store: where.
        names: of entries; every stored one by default.
        repair: remove damaged files, so that they come anew when they are needed.

    Returns:
        A row per file; the command fails when one is ``damaged`` and was not repaired.

    Raises:
        UnknownModel: there is no such entry.
        StoreError: the store can not be used.
    """
    chosen = [split_name(name)[0] for name in names]
    if not chosen:
        chosen = [name for name in store.catalogue.names() if store.folder(name).is_dir()]
    return [row for name in chosen for row in store.check(name, repair=repair)]


def _form(names: Sequence[str], head: str | None) -> tuple[tuple[Variant, ...], Build | None]:
    """Variants of a new entry, the default one first, and what they are built of."""
    if head is None:
        return (Variant("default", files=tuple(names)),), None
    if head not in HEADS:
        raise ManifestError(f"head: expected one of {', '.join(HEADS)}, got {head!r}")
    weights = [name for name in names if name.endswith(".safetensors")]
    if len(weights) != 1 or "config.json" not in names:
        raise ManifestError(
            f"head {head}: expected the files config.json and one .safetensors, got "
            f"{', '.join(names)}"
        )
    variants = (
        Variant("float32", head, "float32"),
        Variant("int8", head, "int8"),
        *(Variant(form, head, "float32", form=form) for form in FORMS if form != "onnx"),
    )
    return variants, Build("config.json", weights[0])


def _name_from(file_name: str) -> str:
    """An entry's name made of a file's: its stem, in what a name may have."""
    stem = re.sub(r"[^a-z0-9._-]+", "-", file_name.rsplit(".", 1)[0].lower())
    return stem.strip("-._")[:64] or "model"


def _absolute(source: str) -> str:
    """A source that means the same from any folder."""
    parsed = parse_source(source)
    return f"file:{parsed.path.absolute()}" if isinstance(parsed, FileSource) else source
