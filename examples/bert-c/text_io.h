/* Whole files, lines of stdin, escapes, messages. */
#ifndef TEXT_IO_H
#define TEXT_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* What each guest calls itself in messages. */
extern const char guest_name[];

/* Writes "GUEST: MESSAGE" to stderr; always returns false, for `return fail(...)`. */
__attribute__((format(printf, 1, 2))) bool fail(const char *format, ...);

/* Bytes that may hold NULs. */
typedef struct {
  char *bytes;
  size_t length;
} text;

/* Reads a whole file; says why if it can't. */
bool read_file(const char *path, text *out);

/* Reads the next line of `in` without its line feed into `line`, whose memory is reused and grown
   (start with zeros; free(line->bytes) at the end; `room` is its size).  With `escapes`, \n \r \t
   \\ and \xHH (any byte, NUL too) stand for bytes; any other backslash is an error.
   Returns 1, 0 at the end of the input, or -1 after saying what went wrong. */
int read_line(FILE *in, bool escapes, text *line, size_t *room);

/* Flushes stdout; says why if that or an earlier write failed. */
bool finish_output(void);

#endif
