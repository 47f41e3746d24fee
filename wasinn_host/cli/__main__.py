"""``python -m wasinn_host.cli`` is the same as ``wasinn``."""

from __future__ import annotations

from wasinn_host.cli.main import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
