/* Runs images that were linked for aarch64, with the real core: what engines/core.py and machine/
   do in a process, for one function of one instance. Reads a line a fact from the file argv[1]; see
   test_aarch64.py, which writes it. Offsets come from abi/layout.py through that file. */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef struct { char name[64]; uint64_t value; } Fact;
static Fact facts[4096];
static int count;

static void put(const char *name, uint64_t value) {
    snprintf(facts[count].name, sizeof facts[count].name, "%s", name);
    facts[count++].value = value;
}

static int find(const char *name, uint64_t *value) {
    for (int i = count - 1; i >= 0; i--)
        if (!strcmp(facts[i].name, name)) { *value = facts[i].value; return 1; }
    return 0;
}

static uint64_t get(const char *name) {
    uint64_t value;
    if (!find(name, &value)) { fprintf(stderr, "no fact %s\n", name); exit(3); }
    return value;
}

#define LIBC(f) put(#f, (uint64_t)(uintptr_t)f)

int main(int argc, char **argv) {
    static uint64_t entry[16], reference[16], activation[4096];
    static uint64_t vm[4096] __attribute__((aligned(16))), store[8192] __attribute__((aligned(16)));
    LIBC(longjmp); LIBC(mprotect); LIBC(pthread_getspecific); LIBC(pthread_self);
    LIBC(pthread_setspecific); LIBC(sigaction); LIBC(memcpy); LIBC(memmove); LIBC(memset);
    put("_setjmp", (uint64_t)(uintptr_t)_setjmp);
    put("vm", (uint64_t)(uintptr_t)vm);
    put("store", (uint64_t)(uintptr_t)store);
    put("entry", (uint64_t)(uintptr_t)entry);
    FILE *plan = fopen(argv[1], "r");
    char word[16], name[64], path[512];
    unsigned char *image = NULL;
    uint64_t a, b, c;
    while (fscanf(plan, "%15s", word) == 1) {
        if (!strcmp(word, "image")) {
            fscanf(plan, "%511s %lu", path, &a);
            image = mmap(0, a, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            FILE *file = fopen(path, "rb");
            if (fread(image, 1, a, file) != a) return 3;
            fclose(file);
        } else if (!strcmp(word, "word")) {
            fscanf(plan, "%lu", &a);
            *(uint64_t *)(image + a) += (uint64_t)(uintptr_t)image;
        } else if (!strcmp(word, "import")) {
            fscanf(plan, "%lu %63s", &a, name);
            if (!find(name, &b)) b = (uint64_t)(uintptr_t)abort; /* what no guest here uses */
            *(uint64_t *)(image + a) = b;
        } else if (!strcmp(word, "export")) {
            fscanf(plan, "%63s %lu", name, &a);
            put(name, (uint64_t)(uintptr_t)image + a);
        } else if (!strcmp(word, "fact")) {
            fscanf(plan, "%63s %lu", name, &a);
            put(name, a);
        } else if (!strcmp(word, "part")) {
            fscanf(plan, "%lu %lu %lu", &a, &b, &c);
            __builtin___clear_cache((char *)image + a, (char *)image + a + b);
            if (mprotect(image + a, b, (int)c)) return 3;
        } else if (!strcmp(word, "cell")) { /* object, offset, value */
            fscanf(plan, "%63s %lu %lu", name, &a, &b);
            *(uint64_t *)(get(name) + a) = b;
        } else if (!strcmp(word, "point")) { /* object, offset, object, offset */
            char other[64];
            fscanf(plan, "%63s %lu %63s %lu", name, &a, other, &b);
            *(uint64_t *)(get(name) + a) = get(other) + b;
        } else if (!strcmp(word, "memory")) { /* reserved bytes, open bytes */
            fscanf(plan, "%lu %lu", &a, &b);
            char *base = mmap(0, a, 0, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (base == MAP_FAILED || mprotect(base, b, 3)) return 3;
            put("memory", (uint64_t)(uintptr_t)base);
            put("memory_end", (uint64_t)(uintptr_t)base + a);
        } else if (!strcmp(word, "data")) { /* offset in memory, file, bytes */
            fscanf(plan, "%lu %511s %lu", &a, path, &b);
            FILE *file = fopen(path, "rb");
            if (fread((char *)get("memory") + a, 1, b, file) != b) return 3;
            fclose(file);
        }
    }
    pthread_key_t key;
    pthread_key_create(&key, 0);
    *(uint32_t *)get("wasinn_key") = key;
    uint64_t *arenas = (uint64_t *)get("wasinn_arenas");
    if (find("memory", &a)) { arenas[0] = a; arenas[1] = get("memory_end"); }
    struct sigaction action = {0};
    action.sa_sigaction = (void (*)(int, siginfo_t *, void *))get("wasinn_on_fault");
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSEGV, &action, 0);
    *(uint64_t *)((char *)store + get("STACK_BUDGET")) = get("budget");
    memcpy((char *)reference + get("ENTRY"), &(uint64_t){(uint64_t)(uintptr_t)entry}, 8);
    memcpy((char *)reference + get("CONTEXT"), &(uint64_t){(uint64_t)(uintptr_t)vm}, 8);
    *(uint64_t *)((char *)reference + get("ARRAY")) = get("enter");
    int (*invoke)(void *, void *, void *) = (int (*)(void *, void *, void *))get("wasinn_invoke");
    uint64_t *slots = (uint64_t *)((char *)activation + get("SLOTS"));
    for (int i = 2; i + 1 < argc; i += 2) { /* twice or more: a trap must leave the thread sound */
        uint64_t native, argument = strtoull(argv[i + 1], 0, 0);
        if (!find(argv[i], &native)) return 4;
        *(uint64_t *)entry = *(uint64_t *)native;
        slots[0] = argument;
        int status = invoke(activation, store, reference);
        uint64_t code = *(uint64_t *)((char *)activation + get("TRAP_CODE"));
        uint64_t pc = *(uint64_t *)((char *)activation + get("TRAP_PC"));
        if (status) printf("trap %lu at %ld\n", code, (long)(pc - (uint64_t)(uintptr_t)image));
        else printf("%u\n", (uint32_t)slots[0]);
    }
    return 0;
}
