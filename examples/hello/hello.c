/* hello: the smallest guest that touches everything a command has.
 *
 * Arguments are worked through from left to right:
 *
 *     --env NAME         print an environment variable
 *     --read FILE        copy a file to standard output
 *     --write FILE TEXT  make a file, or replace what it holds
 *     --exit CODE        leave at once with this exit status (0 to 255)
 *     anything else      is printed
 *
 * It uses system calls only, no stdio: that keeps the module under 20 kB.
 * Exit status without --exit: 0; 1 when a file or variable could not be had; 2 for wrong use.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool write_all(int fd, const char *bytes, size_t length) {
  while (length > 0) {
    ssize_t written = write(fd, bytes, length);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    bytes += written;
    length -= (size_t)written;
  }
  return true;
}

static bool put(int fd, const char *text) { return write_all(fd, text, strlen(text)); }

/* Prints three texts in a row and a line feed. */
static bool say(int fd, const char *a, const char *b, const char *c) {
  return put(fd, a) && put(fd, b) && put(fd, c) && put(fd, "\n");
}

static bool fail(const char *doing, const char *what) {
  const char *why = strerror(errno);
  put(STDERR_FILENO, "hello: cannot ");
  put(STDERR_FILENO, doing);
  put(STDERR_FILENO, " '");
  say(STDERR_FILENO, what, "': ", why);
  return false;
}

static bool print_variable(const char *name) {
  const char *value = getenv(name);
  if (value == NULL) {
    say(STDERR_FILENO, "hello: the variable '", name, "' is not set");
    return false;
  }
  return say(STDOUT_FILENO, name, "=", value);
}

static bool print_file(const char *path) {
  int fd = open(path, O_RDONLY);
  if (fd < 0) return fail("open", path);
  char buffer[4096];
  ssize_t got;
  while ((got = read(fd, buffer, sizeof buffer)) > 0) {
    if (!write_all(STDOUT_FILENO, buffer, (size_t)got)) {
      close(fd);
      return fail("print", path);
    }
  }
  bool ok = got == 0 || fail("read", path);
  close(fd);
  return ok;
}

static bool write_file(const char *path, const char *contents) {
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
  if (fd < 0) return fail("make", path);
  bool ok = put(fd, contents) || fail("write", path);
  if (close(fd) < 0) ok = fail("close", path);
  return ok;
}

/* The number in `text`, or -1 if it is not one from 0 to 255. */
static int exit_code(const char *text) {
  int code = 0;
  if (*text == 0) return -1;
  for (; *text != 0; text++) {
    if (*text < '0' || *text > '9') return -1;
    code = code * 10 + (*text - '0');
    if (code > 255) return -1;
  }
  return code;
}

int main(int argc, char **argv) {
  if (!put(STDOUT_FILENO, "Hello from WebAssembly\n")) return 1;
  bool ok = true;
  for (int i = 1; i < argc; i++) {
    int left = argc - i - 1;
    if (strcmp(argv[i], "--env") == 0 && left >= 1) {
      ok &= print_variable(argv[++i]);
    } else if (strcmp(argv[i], "--read") == 0 && left >= 1) {
      ok &= print_file(argv[++i]);
    } else if (strcmp(argv[i], "--write") == 0 && left >= 2) {
      ok &= write_file(argv[i + 1], argv[i + 2]);
      i += 2;
    } else if (strcmp(argv[i], "--exit") == 0 && left >= 1) {
      int code = exit_code(argv[++i]);
      if (code >= 0) return code;
      say(STDERR_FILENO, "hello: --exit takes a number from 0 to 255, not '", argv[i], "'");
      return 2;
    } else if (strncmp(argv[i], "--", 2) == 0) {
      say(STDERR_FILENO, "hello: '", argv[i], "' is no option, or something is missing behind it");
      return 2;
    } else {
      ok &= say(STDOUT_FILENO, "argument: ", argv[i], "");
    }
  }
  return ok ? 0 : 1;
}
