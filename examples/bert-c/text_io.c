/* Files, lines and messages; see text_io.h. */
#include "text_io.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

bool fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fflush(stdout);
  fprintf(stderr, "%s: ", guest_name);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  return false;
}

bool read_file(const char *path, text *out) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) {
    return fail("cannot open '%s': %s (is its folder given to the guest?)", path, strerror(errno));
  }
  size_t room = 1 << 16;
  char *bytes = malloc(room);
  size_t length = 0;
  while (bytes != NULL) {
    length += fread(bytes + length, 1, room - length, file);
    if (length < room) break;
    char *grown = room > SIZE_MAX / 2 ? NULL : realloc(bytes, room * 2);
    if (grown == NULL) free(bytes);
    bytes = grown;
    room *= 2;
  }
  bool bad = ferror(file);
  int error = errno;
  fclose(file);
  if (bytes == NULL) return fail("cannot read '%s': out of memory", path);
  if (bad) {
    free(bytes);
    return fail("cannot read '%s': %s", path, strerror(error));
  }
  *out = (text){bytes, length};
  return true;
}

static int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/* Replaces the escapes in place. */
static bool unescape(text *line) {
  char *to = line->bytes;
  for (size_t i = 0; i < line->length; i++) {
    char c = line->bytes[i];
    if (c == '\\') {
      size_t left = line->length - i - 1;
      char kind = left > 0 ? line->bytes[i + 1] : 0;
      int high = kind == 'x' && left > 2 ? hex_value(line->bytes[i + 2]) : -1;
      int low = high >= 0 ? hex_value(line->bytes[i + 3]) : -1;
      if (kind == 'n') c = '\n', i += 1;
      else if (kind == 'r') c = '\r', i += 1;
      else if (kind == 't') c = '\t', i += 1;
      else if (kind == '\\') i += 1;
      else if (low >= 0) c = (char)(high << 4 | low), i += 3;
      else return fail("bad escape at byte %zu of a line: use \\n \\r \\t \\\\ or \\xHH", i);
    }
    *to++ = c;
  }
  line->length = (size_t)(to - line->bytes);
  return true;
}

int read_line(FILE *in, bool escapes, text *line, size_t *room) {
  errno = 0;
  ssize_t length = getline(&line->bytes, room, in);
  if (length < 0) {
    if (feof(in) && errno == 0) return 0;
    fail("cannot read standard input: %s", strerror(errno));
    return -1;
  }
  line->length = (size_t)length;
  if (line->length > 0 && line->bytes[line->length - 1] == '\n') line->length--;
  return !escapes || unescape(line) ? 1 : -1;
}

bool finish_output(void) {
  if (fflush(stdout) == 0 && !ferror(stdout)) return true;
  return fail("cannot write to standard output: %s", strerror(errno));
}
