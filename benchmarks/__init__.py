"""How fast wasinn is, measured against native code, wasmtime and bare ONNX Runtime.

Run ``python -m benchmarks --help`` from the project's root. Not part of the installed package.
"""
