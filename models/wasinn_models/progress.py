"""How long work reports how far it is. No drawing: ``rich_progress.py`` does that."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress", "silent"]

# Called with a label that stays the same for one piece of work, the bytes done so far, and the
# bytes of all of it (None while that is not known). done == total ends the piece.
Progress = Callable[[str, int, int | None], None]


def silent(label: str, done: int, total: int | None) -> None:
    """Reports nothing."""
