"""The guest contract, in its two forms. What comes back is the same `Answers` for both.

``rows``: a reactor with exports, which takes a batch of rows in its memory. ``lines``: a program,
which reads JSON lines and writes JSON lines.
"""
