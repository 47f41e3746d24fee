/* Files through wasi-libc as ordinary programs use them. Prints what it finds; every line must be
 * the same on every runtime. The directory to work in is argv[1]. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int compare(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list(const char *path) {
  char *names[512];
  int count = 0;
  DIR *dir = opendir(path);
  if (!dir) {
    printf("opendir %s: %s\n", path, strerror(errno));
    return;
  }
  struct dirent *entry;
  while ((entry = readdir(dir)))
    if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
      names[count++] = strdup(entry->d_name);
  closedir(dir);
  qsort(names, count, sizeof *names, compare);
  printf("%s: %d entries:", path, count);
  for (int i = 0; i < count && i < 5; i++) printf(" %s", names[i]);
  puts("");
}

static void say(const char *what, int result) {
  printf("%s: %s\n", what, result < 0 ? strerror(errno) : "ok");
}

int main(int argc, char **argv) {
  struct stat status;
  char buffer[64];
  if (argc != 2) return 2;
  say("chdir", chdir(argv[1]));

  FILE *file = fopen("hello.txt", "w");
  fprintf(file, "first %d\nsecond %s\n", 1, "line");
  fclose(file);
  file = fopen("hello.txt", "a+");
  fputs("third\n", file);
  rewind(file);
  while (fgets(buffer, sizeof buffer, file)) printf("read: %s", buffer);
  fclose(file);
  say("stat", stat("hello.txt", &status));
  printf("size %lld, regular %d, links %d\n", (long long)status.st_size,
         S_ISREG(status.st_mode), (int)status.st_nlink);

  int fd = open("hello.txt", O_RDWR);
  printf("seek %lld\n", (long long)lseek(fd, -6, SEEK_END));
  ssize_t count = read(fd, buffer, sizeof buffer);
  printf("read %zd\n", count);
  printf("pread %zd %.5s\n", pread(fd, buffer, 5, 8), buffer);
  say("pwrite", pwrite(fd, "FIRST", 5, 0) == 5 ? 0 : -1);
  say("ftruncate", ftruncate(fd, 10));
  say("fstat", fstat(fd, &status));
  printf("size %lld\n", (long long)status.st_size);
  struct timespec times[2] = {{100, 5}, {200, 7}};
  say("futimens", futimens(fd, times));
  fstat(fd, &status);
  printf("mtime %lld.%09ld\n", (long long)status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
  close(fd);
  say("read closed", (int)read(fd, buffer, 1));

  say("mkdir", mkdir("sub", 0777));
  say("mkdir again", mkdir("sub", 0777));
  say("rename", rename("hello.txt", "sub/moved.txt"));
  say("open gone", open("hello.txt", O_RDONLY));
  say("symlink", symlink("sub/moved.txt", "link"));
  count = readlink("link", buffer, sizeof buffer - 1);
  buffer[count] = 0;
  printf("readlink %s\n", buffer);
  say("lstat", lstat("link", &status));
  printf("is a link %d\n", S_ISLNK(status.st_mode));
  file = fopen("link", "r");
  printf("through the link: %s", fgets(buffer, sizeof buffer, file));
  puts("");
  fclose(file);
  say("link", link("sub/moved.txt", "hard"));
  stat("hard", &status);
  printf("links %d\n", (int)status.st_nlink);
  say("absolute symlink", symlink("/etc/passwd", "out") < 0 ? 0 : -1);
  say("rmdir full", rmdir("sub"));
  say("unlink directory", unlink("sub"));

  say("mkdir many", mkdir("many", 0777));
  for (int i = 0; i < 300; i++) {
    snprintf(buffer, sizeof buffer, "many/entry-with-a-longer-name-%03d", i);
    close(open(buffer, O_CREAT | O_WRONLY, 0666));
  }
  list("many");
  list("sub");
  list(".");
  list("missing");
  for (int i = 0; i < 300; i++) {
    snprintf(buffer, sizeof buffer, "many/entry-with-a-longer-name-%03d", i);
    if (unlink(buffer)) return 3;
  }
  say("rmdir many", rmdir("many"));
  say("excl", open("hard", O_CREAT | O_EXCL | O_WRONLY, 0666));
  say("write a directory", open("sub", O_WRONLY));
  say("access", access("hard", R_OK | W_OK));
  say("access missing", access("nothing", F_OK));
  list(".");
  return 0;
}
