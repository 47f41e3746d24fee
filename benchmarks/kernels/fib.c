/* Calls: the n-th Fibonacci number by double recursion. */
#include "kernel.h"

static int64_t fibonacci(int32_t n) {
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

int64_t run(int32_t n) { return fibonacci(n); }
