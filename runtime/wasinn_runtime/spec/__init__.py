"""What the WebAssembly specification says, as data: types, the opcode table, trap texts, limits."""
