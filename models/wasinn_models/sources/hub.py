"""Gets one file of a Hugging Face repository, through the package huggingface_hub.

Tokens, mirrors and proxies are those the user has set up for that package.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from wasinn_models.atomic import store_errors
from wasinn_models.errors import MissingExtra, SourceError
from wasinn_models.progress import Progress, silent
from wasinn_models.sources.spec import HubSource

__all__ = ["download_from_hub"]


def download_from_hub(
    source: HubSource,
    folder: Path,
    *,
    endpoint: str | None = None,
    progress: Progress = silent,
) -> Path:
    """Downloads a file.

    Args:
        source: repository, revision and file.
        folder: a folder of our own; an interrupted download goes on there.
        endpoint: another hub's address; the package's own by default.
        progress: called with every chunk.

    Returns:
        The file's path in ``folder``.

    Raises:
        MissingExtra: huggingface_hub is not installed.
        SourceError: there is no such repository, revision or file, or the hub can not be reached.
        StoreFull: no room is left.
    """
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError as error:
        raise MissingExtra("huggingface_hub", "a source hf:") from error

    spelled = f"hf:{source.repository}@{source.revision or 'main'}/{source.file}"
    with store_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            path = hf_hub_download(
                repo_id=source.repository,
                filename=source.file,
                revision=source.revision,
                local_dir=folder,
                endpoint=endpoint,
                tqdm_class=_reporter(source.file, progress),
            )
        except (HfHubHTTPError, HFValidationError) as error:
            raise SourceError(f"{spelled}: the hub has no such file for us: {error}") from error
        except OSError as error:
            # The package's "can not connect" errors are OSErrors without a number; those of the
            # disk have one, and are for store_errors.
            if error.errno is not None and not isinstance(error, ConnectionError):
                raise
            raise SourceError(f"{spelled}: the hub can not be reached: {error}") from error
        except Exception as error:
            # The HTTP library below differs between the package's versions, and so do its errors.
            if type(error).__module__.partition(".")[0] not in ("httpx", "httpx2", "requests"):
                raise
            raise SourceError(f"{spelled}: the hub can not be reached: {error}") from error
    return Path(path)


def _reporter(label: str, progress: Progress) -> type[Any]:
    """A progress bar class for the package that draws nothing and reports to us."""
    tqdm: Any = importlib.import_module("tqdm").tqdm

    def start(self: Any, *args: Any, **options: Any) -> None:
        self.reported_bytes = int(options.get("initial") or 0)
        self.expected_bytes = options.get("total")
        tqdm.__init__(self, *args, **{**options, "disable": True})

    def update(self: Any, n: float | None = 1) -> None:
        self.reported_bytes += int(n or 0)
        progress(label, self.reported_bytes, self.expected_bytes)

    return type("Reporter", (tqdm,), {"__init__": start, "update": update})
