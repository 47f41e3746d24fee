"""The process that runs cases: a case in, a verdict out, a line of JSON each. It may crash.

python -m tests.differential.worker MODE...
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tests.differential.cases import Case
from tests.differential.check import check

__all__ = ["serve"]


def serve(cache: Path, modes: list[str]) -> None:
    """Answer until there are no more cases. Only answers go to the standard output.

    Args:
        cache: where compiled code is kept; interpreters take seconds to build.
        modes: of our engine.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        asked = json.loads(line)
        case = Case(asked["source"], asked["seed"], frozenset(asked["features"]))
        verdict = check(case, modes, cache)
        answer = {"kind": verdict.kind.value, "why": verdict.why, "steps": verdict.steps}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2:])
