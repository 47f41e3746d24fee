"""The builder of BERT-style ONNX models; ``build.py`` is its way in."""
