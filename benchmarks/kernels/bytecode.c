/* Branches: a stack machine of twelve instructions in one switch; its program counts the steps of
 * the Collatz sequences of 1 to n. */
#include "kernel.h"

enum instruction { PUSH, LOAD, STORE, ADD, MULTIPLY, SHIFT, AND, LESS, JUMP, JUMP_ZERO, EQUAL, STOP };

/* Variables: 0 the start value, 1 the current value, 2 the count of steps, 3 the last start. */
static const int32_t program[] = {
    /*  0 */ PUSH, 1, STORE, 0,
    /*  4 */ LOAD, 3, LOAD, 0, LESS, JUMP_ZERO, 13, JUMP, 14,
    /* 13 */ STOP,
    /* 14 */ LOAD, 0, STORE, 1,
    /* 18 */ LOAD, 1, PUSH, 1, EQUAL, JUMP_ZERO, 34,
    /* 25 */ LOAD, 0, PUSH, 1, ADD, STORE, 0, JUMP, 4,
    /* 34 */ LOAD, 2, PUSH, 1, ADD, STORE, 2,
    /* 41 */ LOAD, 1, PUSH, 1, AND, JUMP_ZERO, 60,
    /* 48 */ LOAD, 1, PUSH, 3, MULTIPLY, PUSH, 1, ADD, STORE, 1, JUMP, 18,
    /* 60 */ LOAD, 1, PUSH, 1, SHIFT, STORE, 1, JUMP, 18,
};

static int64_t variables[4];

/* Noinline: the program must stay data, not be folded into the caller. */
__attribute__((noinline)) static void interpret(const int32_t *code) {
    int64_t stack[16];
    int64_t *top = stack;
    int32_t at = 0;
    for (;;) {
        switch (code[at++]) {
        case PUSH: *top++ = code[at++]; break;
        case LOAD: *top++ = variables[code[at++]]; break;
        case STORE: variables[code[at++]] = *--top; break;
        case ADD: top--; top[-1] += top[0]; break;
        case MULTIPLY: top--; top[-1] *= top[0]; break;
        case SHIFT: top--; top[-1] = (int64_t)((uint64_t)top[-1] >> (top[0] & 63)); break;
        case AND: top--; top[-1] &= top[0]; break;
        case LESS: top--; top[-1] = top[0] <= top[-1]; break;
        case EQUAL: top--; top[-1] = top[0] == top[-1]; break;
        case JUMP: at = code[at]; break;
        case JUMP_ZERO: at = *--top ? at + 1 : code[at]; break;
        default: return;
        }
    }
}

int64_t run(int32_t n) {
    variables[2] = 0;
    variables[3] = n;
    interpret(program);
    return variables[2];
}
