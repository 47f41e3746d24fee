"""Batch evaluation: a guest, a model, rows of data, metrics of what came out.

    from wasinn_host.evaluate import Evaluation, evaluate

    results = evaluate(Evaluation(
        guest="text-classification.wasm", graph="sentiment", data="reviews.jsonl",
        task="classification", output="out",
    ))

The guest turns text into tensors and tensors into answers, in the sandbox; the model runs on the
host, through WASI-NN. What a guest must export is in ``guests``, what a task reads and measures in
``tasks``. Names are looked up when they are used, since much of this takes long to import.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wasinn_host.evaluate.compare import compare_runs
    from wasinn_host.evaluate.evaluation import Evaluation
    from wasinn_host.evaluate.report import write_report
    from wasinn_host.evaluate.run import evaluate, evaluate_graphs

__all__ = ["Evaluation", "compare_runs", "evaluate", "evaluate_graphs", "write_report"]

_WHERE = {
    "Evaluation": "wasinn_host.evaluate.evaluation",
    "compare_runs": "wasinn_host.evaluate.compare",
    "evaluate": "wasinn_host.evaluate.run",
    "evaluate_graphs": "wasinn_host.evaluate.run",
    "write_report": "wasinn_host.evaluate.report",
}


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(_WHERE[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
