/* Tries to reach what lies outside of its directory, as a program would: prints each answer and
 * exits with the number of attempts that worked, which must be 0. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int successes;

static void attempt(const char *what, int result) {
  if (result >= 0) successes++;
  printf("%s: %s\n", what, result >= 0 ? "IT WORKED" : strerror(errno));
}

int main(void) {
  struct stat status;
  char buffer[256];
  attempt("open ..", open("/data/../outside/canary", O_RDONLY));
  attempt("open absolute", open("/etc/passwd", O_RDONLY));
  attempt("open deep ..", open("/data/d/../../outside/canary", O_RDONLY));
  attempt("create outside", open("/data/../outside/new", O_CREAT | O_WRONLY, 0666));
  attempt("stat ..", stat("/data/../outside/canary", &status));
  attempt("mkdir ..", mkdir("/data/../outside/new", 0777));
  attempt("rename out", rename("/data/mine", "/data/../outside/taken"));
  attempt("rename in", rename("/data/../outside/canary", "/data/taken"));
  attempt("link in", link("/data/../outside/canary", "/data/taken"));
  attempt("unlink", unlink("/data/../outside/canary"));
  attempt("symlink absolute", symlink("/etc/passwd", "/data/absolute"));
  if (symlink("../outside/canary", "/data/relative")) return 99;
  attempt("open through own link", open("/data/relative", O_RDONLY));
  attempt("write through own link", open("/data/relative", O_WRONLY | O_TRUNC));
  attempt("stat through own link", stat("/data/relative", &status));
  attempt("open through host link", open("/data/hostlink/canary", O_RDONLY));
  attempt("create through host link", open("/data/hostlink/new", O_CREAT | O_WRONLY, 0666));
  attempt("trailing slash", open("/data/hostlink/", O_RDONLY | O_DIRECTORY));
  attempt("read the host link", (int)readlink("/data/absolute-hostlink", buffer, sizeof buffer));
  attempt("write to read-only", open("/ro/f", O_WRONLY));
  attempt("truncate read-only", open("/ro/f", O_RDONLY | O_TRUNC));
  attempt("create in read-only", open("/ro/new", O_CREAT | O_RDWR, 0666));
  attempt("unlink in read-only", unlink("/ro/f"));
  attempt("link out of read-only", link("/ro/f", "/data/stolen"));
  attempt("rename out of read-only", rename("/ro/f", "/data/stolen"));
  attempt("access read-only", access("/ro/f", W_OK));
  printf("%d worked\n", successes);
  return successes;
}
