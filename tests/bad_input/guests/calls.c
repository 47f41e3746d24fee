/* A guest for tests of bad arguments: it exports every function of wasi_snapshot_preview1 and of
 * wasi_ephemeral_nn under its own name and passes on whatever numbers it is called with. It keeps
 * nothing in its memory, so that calls may overwrite all of it. Rebuild (from this folder):
 *
 *   python -m ziglang cc --target=wasm32-freestanding -O2 -nostdlib -Wl,--no-entry \
 *     -Wl,--strip-all -mcpu=generic calls.c -o calls.wasm
 *
 * The types are those of the specifications' witx files, written down anew.
 */
typedef unsigned i;
typedef unsigned long long l;

#define FROM(module, name) __attribute__((import_module(module), import_name(#name)))
#define WASI(name) FROM("wasi_snapshot_preview1", name)
#define NN(name) FROM("wasi_ephemeral_nn", name)
#define EXPORT(name) __attribute__((export_name(#name)))
#define PASS(from, name, params, args) \
    from(name) i import_##name params; \
    EXPORT(name) i call_##name params { return import_##name args; }

#define P1(from, name, A) PASS(from, name, (A a), (a))
#define P2(from, name, A, B) PASS(from, name, (A a, B b), (a, b))
#define P3(from, name, A, B, C) PASS(from, name, (A a, B b, C c), (a, b, c))
#define P4(from, name, A, B, C, D) PASS(from, name, (A a, B b, C c, D d), (a, b, c, d))
#define P5(from, name, A, B, C, D, E) \
    PASS(from, name, (A a, B b, C c, D d, E e), (a, b, c, d, e))
#define P6(from, name, A, B, C, D, E, F) \
    PASS(from, name, (A a, B b, C c, D d, E e, F f), (a, b, c, d, e, f))
#define P7(from, name, A, B, C, D, E, F, G) \
    PASS(from, name, (A a, B b, C c, D d, E e, F f, G g), (a, b, c, d, e, f, g))
#define P9(from, name, A, B, C, D, E, F, G, H, I) \
    PASS(from, name, (A a, B b, C c, D d, E e, F f, G g, H h, I j), (a, b, c, d, e, f, g, h, j))

P2(WASI, args_get, i, i)
P2(WASI, args_sizes_get, i, i)
P2(WASI, environ_get, i, i)
P2(WASI, environ_sizes_get, i, i)
P2(WASI, clock_res_get, i, i)
P3(WASI, clock_time_get, i, l, i)
P4(WASI, fd_advise, i, l, l, i)
P3(WASI, fd_allocate, i, l, l)
P1(WASI, fd_close, i)
P1(WASI, fd_datasync, i)
P2(WASI, fd_fdstat_get, i, i)
P2(WASI, fd_fdstat_set_flags, i, i)
P3(WASI, fd_fdstat_set_rights, i, l, l)
P2(WASI, fd_filestat_get, i, i)
P2(WASI, fd_filestat_set_size, i, l)
P4(WASI, fd_filestat_set_times, i, l, l, i)
P5(WASI, fd_pread, i, i, i, l, i)
P2(WASI, fd_prestat_get, i, i)
P3(WASI, fd_prestat_dir_name, i, i, i)
P5(WASI, fd_pwrite, i, i, i, l, i)
P4(WASI, fd_read, i, i, i, i)
P5(WASI, fd_readdir, i, i, i, l, i)
P2(WASI, fd_renumber, i, i)
P4(WASI, fd_seek, i, l, i, i)
P1(WASI, fd_sync, i)
P2(WASI, fd_tell, i, i)
P4(WASI, fd_write, i, i, i, i)
P3(WASI, path_create_directory, i, i, i)
P5(WASI, path_filestat_get, i, i, i, i, i)
P7(WASI, path_filestat_set_times, i, i, i, i, l, l, i)
P7(WASI, path_link, i, i, i, i, i, i, i)
P9(WASI, path_open, i, i, i, i, i, l, l, i, i)
P6(WASI, path_readlink, i, i, i, i, i, i)
P3(WASI, path_remove_directory, i, i, i)
P6(WASI, path_rename, i, i, i, i, i, i)
P5(WASI, path_symlink, i, i, i, i, i)
P3(WASI, path_unlink_file, i, i, i)
P4(WASI, poll_oneoff, i, i, i, i)
P1(WASI, proc_raise, i)
P2(WASI, random_get, i, i)
P3(WASI, sock_accept, i, i, i)
P6(WASI, sock_recv, i, i, i, i, i, i)
P5(WASI, sock_send, i, i, i, i, i)
P2(WASI, sock_shutdown, i, i)

WASI(sched_yield) i import_sched_yield(void);
EXPORT(sched_yield) i call_sched_yield(void) { return import_sched_yield(); }
WASI(proc_exit) void import_proc_exit(i);
EXPORT(proc_exit) void call_proc_exit(i a) { import_proc_exit(a); }

P5(NN, load, i, i, i, i, i)
P3(NN, load_by_name, i, i, i)
P2(NN, init_execution_context, i, i)
P3(NN, set_input, i, i, i)
P1(NN, compute, i)
P5(NN, get_output, i, i, i, i, i)
