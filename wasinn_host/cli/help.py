"""How every subcommand's help is laid out: text, options, sections, runnable examples last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from wasinn_host.cli.status import STATUSES

__all__ = ["Command", "Group", "status_text"]

Sections = Sequence[tuple[str, str]]


def status_text() -> str:
    """The table of exit statuses, as lines."""
    return "\n".join(f"  {code:<7} {meaning}" for code, meaning in STATUSES.items())


class _Examples(click.Command):
    """Adds sections and examples to the end of a command's help.

    Args:
        sections: title and lines of each, indented already.
        examples: commands that run as they stand in a checkout of the project.
    """

    def __init__(
        self, *args: Any, sections: Sections = (), examples: Sequence[str] = (), **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.sections = tuple(sections)
        self.examples = tuple(examples)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        shown = [*self.sections]
        if self.examples:
            shown.append(("Examples", "\n".join(f"  {line}" for line in self.examples)))
        for title, lines in shown:
            formatter.write(f"\n{title}:\n{lines}\n")


class Command(_Examples):
    """A subcommand."""


class Group(_Examples, click.Group):
    """A command with subcommands."""
