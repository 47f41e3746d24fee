"""The abstract machine: stores, instances, memories, tables, globals, functions, traps, limits."""
