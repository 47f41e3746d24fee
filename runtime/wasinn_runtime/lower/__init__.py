"""From instructions to LLVM IR text: the writer, what instructions mean, where operands live."""
