"""``wasinn datasets``: parsing and printing; data sets are kept as models are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from wasinn_host.cli.commands.models import print_checks, print_models, with_reports
from wasinn_host.cli.help import Command, Group
from wasinn_host.cli.talk import put, say

if TYPE_CHECKING:
    from wasinn_models.store import ModelStore

__all__ = ["datasets"]


def _store() -> ModelStore:
    from wasinn_models.data.store import dataset_store

    return dataset_store(notice=say)


@click.group(
    cls=Group,
    help="List and check the data sets that `wasinn eval run --data NAME` can use. They are kept "
    "in the cache directory: WASINN_CACHE_DIR, or ~/.cache/wasinn.",
    examples=("wasinn datasets list", "wasinn datasets path movie-reviews"),
    no_args_is_help=True,
)
def datasets() -> None:
    """The group; what it does is in its help."""


@datasets.command(
    "list",
    cls=Command,
    help="List the data sets that there are.",
    examples=("wasinn datasets list",),
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document instead.")
def list_(as_json: bool) -> int:
    """Prints a data set a line."""
    return print_models(_store(), "datasets", as_json)


@datasets.command(
    cls=Command,
    help="Print where a data set's rows are, after fetching and building what is missing.",
    examples=("wasinn datasets path movie-reviews",),
)
@click.argument("name", metavar="NAME")
def path(name: str) -> int:
    """Prints a path."""
    with with_reports(_store(), with_progress=True) as store:
        found = store.resolve(name).path
    put(f"{found}\n")
    return 0


@datasets.command(
    cls=Command,
    help="Verify the checksums of stored data sets, of all by default. Exit status 125 when a file "
    "is damaged and was not removed.",
    examples=("wasinn datasets check", "wasinn datasets check --repair movie-reviews"),
)
@click.argument("names", metavar="[NAME...]", nargs=-1)
@click.option("--repair", is_flag=True, help="Remove damaged files; they come anew when needed.")
def check(names: tuple[str, ...], repair: bool) -> int:
    """Prints a file a line."""
    return print_checks(_store(), "datasets", names, repair)
