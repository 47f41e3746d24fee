"""A host with the model that is evaluated under the name ``model``, and guests on it.

Everything that a worker needs is made of an `Evaluation` alone, in this process or in another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from wasinn_host.evaluate.evaluation import Evaluation
from wasinn_host.evaluate.guests.lines import LinesGuest
from wasinn_host.evaluate.guests.rows import EXPORTS, RowsGuest
from wasinn_host.evaluate.hashes import sha256_of_all
from wasinn_host.evaluate.local import AskedGuest
from wasinn_host.host import Host
from wasinn_host.nn import PreloadSpec, Target
from wasinn_host.wasi import Preopen
from wasinn_runtime import Module
from wasinn_runtime.errors import UsageError

__all__ = ["MODEL", "GraphFiles", "HostSide", "find_graph"]

MODEL: Final = "model"
"""What guests call the model that is evaluated."""


@dataclass(frozen=True, slots=True)
class GraphFiles:
    """A model on disk.

    Attributes:
        name: as it was asked for.
        encoding: of its files.
        target: where it shall run.
        paths: its parts.
        assets: the directory with its vocabulary and the like.
        labels: what it tells apart, in its order; empty where that is not known.
    """

    name: str
    encoding: str
    target: Target
    paths: tuple[Path, ...]
    assets: Path
    labels: tuple[str, ...] = ()

    def describe(self) -> dict[str, Any]:
        """As in ``results.json``."""
        return {
            "name": self.name,
            "encoding": self.encoding,
            "target": self.target.value,
            "sha256": sha256_of_all(self.paths),
            "bytes": sum(path.stat().st_size for path in self.paths),
        }


def find_graph(spec: str) -> GraphFiles:
    """The files of a model.

    Args:
        spec: ``NAME[:VARIANT]`` of the catalogue, which is fetched or built if need be; or
            ``ENCODING:TARGET:PATH``.

    Raises:
        UsageError: it is neither, or there is no such file.
        ModelError: the model can not be had.
    """
    if spec.count(":") >= 2:
        parsed = PreloadSpec.parse(f"{MODEL}:{spec}")
        if not parsed.path.is_file():
            raise UsageError(f"graph {spec!r}: there is no file {str(parsed.path)!r}")
        return GraphFiles(spec, parsed.encoding, parsed.target, (parsed.path,), parsed.path.parent)
    from wasinn_models.store import ModelStore

    found = ModelStore().resolve(spec)
    return GraphFiles(
        spec, found.encoding, Target.AUTO, tuple(found.paths), found.directory, found.labels
    )


class HostSide:
    """The host, the compiled guest, the loaded model. A context manager.

    Args:
        evaluation: what is evaluated.
        graph: its model.
        columns: the names of a row's texts.

    Raises:
        OSError: the guest's file can not be read.
        WasinnError: it is no module; or the model can not be loaded.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        graph: GraphFiles,
        columns: Sequence[str],
    ) -> None:
        self._columns = columns
        self.host = Host(backend_options=evaluation.nn_options)
        try:
            self.module = self.host.load(evaluation.guest)
            self._make = _form(self.module)
            assets = evaluation.assets or graph.assets
            if not Path(assets).is_dir():
                raise UsageError(f"assets: {str(assets)!r} is no directory")
            self._options: Mapping[str, Any] = {
                "args": tuple(evaluation.args),
                "dirs": [Preopen(assets, "/model", read_only=True)],
            }
            self.host.graphs.register(
                MODEL, graph.encoding, graph.target, paths=graph.paths, eager=True
            )
        except BaseException:
            self.close()
            raise

    def start(self) -> AskedGuest:
        """A guest.

        Raises:
            GuestBroke: it does not start.
        """
        return self._make(self.host, self.module, dict(self._options), self._columns)

    def where(self) -> dict[str, str]:
        """The backend and the device that compute."""
        shared = self.host.graphs.get(MODEL)
        try:
            return {"backend": shared.who, "device": shared.device.id}
        finally:
            shared.release()

    def close(self) -> None:
        """Lets go of guests, model and backends."""
        self.host.close()

    def __enter__(self) -> HostSide:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_Make = Callable[[Host, Module, dict[str, Any], Sequence[str]], AskedGuest]


def _form(module: Module) -> _Make:
    """How a guest takes its rows: its exports tell."""
    exports = {name for name, _ in module.exports}
    if exports.issuperset(EXPORTS):
        return lambda host, of, options, _columns: RowsGuest(host, of, options)
    if "_start" in exports:
        return LinesGuest
    missing = sorted(set(EXPORTS) - exports)
    raise UsageError(
        f"{module.parsed.where}: is no guest for evaluation: it is no program (no export _start), "
        f"and of the exports {', '.join(EXPORTS)} it lacks {', '.join(missing)}"
    )
