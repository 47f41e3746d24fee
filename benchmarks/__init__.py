"""How fast wasinn is, measured against native code, wasmtime and bare libraries.

Run ``python -m benchmarks --help`` from the project's root. Not part of the installed package.
"""
