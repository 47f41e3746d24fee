"""Which models, or data sets, there are: the shipped entries and those the user has added.

Not where their files are (``store.py``).
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator
from pathlib import Path

from wasinn_models.atomic import store_errors, write_whole
from wasinn_models.errors import ManifestError, UnknownModel, near_matches
from wasinn_models.manifest import NAME, Manifest

__all__ = ["Catalogue"]


class Catalogue:
    """All manifests by name.

    Args:
        directory: where the user's own entries are, one TOML file each; it need not be there yet.
        shipped: the package's folder of entries.
    """

    def __init__(self, directory: Path, shipped: str = "entries") -> None:
        self.directory = directory
        self._folder = importlib.resources.files("wasinn_models").joinpath(*shipped.split("/"))

    def names(self) -> list[str]:
        """The names of all entries, sorted."""
        return sorted({*self._shipped(), *self._added()})

    def __iter__(self) -> Iterator[Manifest]:
        """All manifests, by name.

        Raises:
            ManifestError: an entry breaks the form.
        """
        return map(self.manifest, self.names())

    def is_shipped(self, name: str) -> bool:
        """Whether the entry came with the package."""
        return name in self._shipped()

    def manifest(self, name: str) -> Manifest:
        """The entry of that name.

        Raises:
            UnknownModel: there is none.
            ManifestError: it breaks the form.
        """
        if name in self._shipped():
            where = self._folder / f"{name}.toml"
            return Manifest.from_toml(where.read_text(encoding="utf-8"), f"{name}.toml")
        if name not in self._added():
            raise UnknownModel(
                f"no model {name!r} in the catalogue; {near_matches(name, self.names())}; "
                f"`wasinn models add SOURCE` adds one"
            )
        path = self.directory / f"{name}.toml"
        manifest = Manifest.from_file(path)
        if manifest.name != name:
            raise ManifestError(
                f"{path}: expected the manifest of {name!r}, got the one of {manifest.name!r}"
            )
        return manifest

    def add(self, manifest: Manifest, *, replace: bool = False) -> None:
        """Adds an entry of the user's own.

        Raises:
            ManifestError: the name is taken by a shipped entry, or by another without ``replace``.
            StoreError: it can not be written.
        """
        self.need_free(manifest.name, replace=replace)
        with write_whole(self.directory / f"{manifest.name}.toml") as file:
            file.write(manifest.to_toml().encode())

    def need_free(self, name: str, *, replace: bool) -> None:
        """Looks whether an entry of that name can be added.

        Raises:
            ManifestError: the name is taken by a shipped entry, or by another without ``replace``.
        """
        if name in self._shipped():
            raise ManifestError(
                f"model {name}: an entry of that name comes with the package: choose another name"
            )
        if name in self._added() and not replace:
            raise ManifestError(
                f"model {name}: there is an entry of that name: choose another one, or replace it "
                f"with --replace"
            )

    def _added(self) -> list[str]:
        """The names of the user's entries."""
        with store_errors(self.directory):
            try:
                paths = list(self.directory.iterdir())
            except FileNotFoundError:
                return []
        return [path.stem for path in paths if path.suffix == ".toml" and NAME.fullmatch(path.stem)]

    def _shipped(self) -> list[str]:
        """The names of the entries in the package."""
        return [entry.name.removesuffix(".toml") for entry in self._folder.iterdir()]
