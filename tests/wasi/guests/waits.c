/* Waits for as long as it is let: argv[1] says how. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
  char byte;
  if (argc != 2) return 2;
  if (!strcmp(argv[1], "sleep")) return sleep(3600) != 0;
  if (!strcmp(argv[1], "read")) return read(0, &byte, 1) != 1;
  if (!strcmp(argv[1], "poll")) {
    struct pollfd wait = {0, POLLIN, 0};
    return poll(&wait, 1, -1) != 1;
  }
  if (!strcmp(argv[1], "write")) {
    static char data[1 << 16];
    for (;;)
      if (write(1, data, sizeof data) < 0) return 1;
  }
  return 3;
}
