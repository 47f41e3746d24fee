"""Data sets: the catalogue and store of them, and how their raw files become rows."""
