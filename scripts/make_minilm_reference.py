"""Makes the reference embeddings that the float32 and int8 builds of MiniLM are measured against.

Run once, by hand, where transformers and torch are installed; the numbers are committed. It shares
no code with the model builder, which is what makes its numbers worth comparing with.

    python -m pip install torch==2.13.0 transformers safetensors
    python scripts/make_minilm_reference.py MODEL_DIRECTORY

MODEL_DIRECTORY holds config.json, model.safetensors and the tokenizer's files, as
``wasinn models path minilm --file config.json`` names it.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).resolve().parent.parent / "tests" / "models" / "data"


def reference(model_directory: Path, sentences: list[str]) -> dict[str, Any]:
    """Token ids and embeddings of each sentence, one at a time, so that nothing is padded.

    Args:
        model_directory: where the model's files are.
        sentences: texts.

    Returns:
        ``lengths`` int64 [sentences]; ``input_ids`` int64 [sum of lengths], one sentence after the
        other; ``embeddings`` float32 [sentences, hidden], mean over tokens, length 1.
    """
    # By name, since neither is a dependency of this project, not even for its checks.
    torch, transformers = map(importlib.import_module, ("torch", "transformers"))
    torch.set_num_threads(1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_directory)
    model = transformers.AutoModel.from_pretrained(model_directory).eval()
    ids: list[Any] = []
    embeddings: list[Any] = []
    for sentence in sentences:
        tokens = tokenizer(sentence, return_tensors="pt", truncation=True, max_length=256)
        with torch.no_grad():
            states = model(**tokens).last_hidden_state[0]
        mean = states.mean(dim=0)
        embeddings.append((mean / mean.norm()).numpy().astype(np.float32))
        ids.append(tokens["input_ids"][0].numpy().astype(np.int64))
    return {
        "lengths": np.array([len(row) for row in ids], dtype=np.int64),
        "input_ids": np.concatenate(ids),
        "embeddings": np.stack(embeddings),
    }


def main() -> None:
    """Writes ``minilm_reference.npz`` beside the sentences."""
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} MODEL_DIRECTORY")
    sentences = (DATA / "minilm_sentences.txt").read_text(encoding="utf-8").splitlines()
    arrays = reference(Path(sys.argv[1]), sentences)
    np.savez_compressed(DATA / "minilm_reference.npz", **arrays)
    print(f"{len(sentences)} sentences, {arrays['input_ids'].size} tokens")


if __name__ == "__main__":
    main()
