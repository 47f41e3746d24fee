// The application of ask.ts with nothing but the functions of wasi-nn.witx.

export { arena, ask, result, written } from "./ask";
