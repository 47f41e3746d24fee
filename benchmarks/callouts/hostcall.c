/* A loop that calls out: the host's function in a guest, a callback natively. */
#include <stdint.h>

#ifdef __wasm__
__attribute__((import_module("host"), import_name("next"))) int32_t next(int32_t value);
__attribute__((export_name("run"))) int32_t run(int32_t n) {
    int32_t value = 0;
    for (int32_t i = 0; i < n; i++) value = next(value);
    return value;
}
#else
__attribute__((visibility("default"))) int32_t run(int32_t n, int32_t (*next)(int32_t)) {
    int32_t value = 0;
    for (int32_t i = 0; i < n; i++) value = next(value);
    return value;
}
#endif
