"""Bytes to ParsedModule: sections, names, instructions. Knows nothing of validity or execution."""
