"""Ways to run a module: what compiles it, where compiled code is kept, how it gets into memory."""
