"""The proposals that a module may use, by name, and the sets of them that versions stand for.

A name is what an opcode row carries in ``feature``, what refusals say and what reports list.
Which of them a mode of the engine runs is the mode's affair.
"""

from __future__ import annotations

from difflib import get_close_matches

from wasinn_runtime.errors import UsageError

__all__ = [
    "ALL_FEATURES",
    "FEATURES_2_0",
    "FEATURES_3_0",
    "parse_features",
]

FEATURES_2_0 = frozenset(
    {
        "mvp",
        "mutable-globals",
        "sign-extension",
        "saturating-float-to-int",
        "multi-value",
        "reference-types",
        "bulk-memory",
    }
)
"""WebAssembly 2.0 without its vector instructions, which are the feature ``simd``."""

FEATURES_3_0 = FEATURES_2_0 | {
    "simd",
    "relaxed-simd",
    "tail-call",
    "extended-const",
    "multi-memory",
    "memory64",
    "exceptions",
    "function-references",
}
"""WebAssembly 3.0 without garbage collection."""

ALL_FEATURES = FEATURES_3_0 | {"legacy-exceptions", "threads"}
"""With what is not part of 3.0: the exceptions that toolchains still emit, and threads."""

# What a feature's own rules and instructions build on.
_IMPLIED = {"legacy-exceptions": "exceptions", "relaxed-simd": "simd"}
_VERSIONS = {"2.0": FEATURES_2_0 | {"simd"}, "3.0": FEATURES_3_0, "all": ALL_FEATURES}


def parse_features(text: str) -> frozenset[str]:
    """The set that a list of words stands for.

    Args:
        text: words with commas between them: ``2.0``, ``3.0``, ``all``, and names of features,
            which add to the version or, with a minus before them, take away. Without a version,
            names add to ``2.0``.

    Raises:
        UsageError: an unknown word, with those that are near.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    versions = [word for word in words if word in _VERSIONS]
    if len(versions) > 1:
        raise UsageError(f"features {text!r}: at most one of {', '.join(_VERSIONS)}")
    found = set(_VERSIONS[versions[0] if versions else "2.0"])
    for word in words:
        if word in _VERSIONS:
            continue
        name = word.removeprefix("-")
        if name not in ALL_FEATURES or name == "mvp":
            known = sorted({*ALL_FEATURES, *_VERSIONS} - {"mvp"})
            near = get_close_matches(name, known)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
            raise UsageError(f"features {text!r}: unknown word {word!r}; {hint}")
        if word == name:
            found |= {name, _IMPLIED.get(name, name)}
        else:
            found.discard(name)
    return frozenset(found)
