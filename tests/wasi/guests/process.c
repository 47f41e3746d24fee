/* Arguments, environment, clocks, randomness, sleeping, polling, exit status. Deterministic. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static double seconds(clockid_t clock) {
  struct timespec now;
  if (clock_gettime(clock, &now)) exit(9);
  return now.tv_sec + now.tv_nsec * 1e-9;
}

int main(int argc, char **argv) {
  for (int i = 0; i < argc; i++) printf("argv[%d]=%s\n", i, argv[i]);
  for (char **line = environ; *line; line++) printf("env %s\n", *line);
  printf("tty %d %d\n", isatty(0), isatty(1));

  double start = seconds(CLOCK_MONOTONIC);
  struct timespec nap = {0, 30000000};
  printf("nanosleep %d\n", nanosleep(&nap, NULL));
  double slept = seconds(CLOCK_MONOTONIC) - start;
  printf("slept long enough %d, not too long %d\n", slept >= 0.03, slept < 5);
  printf("the year is after 2020 %d\n", seconds(CLOCK_REALTIME) > 1.58e9);

  unsigned char bytes[64] = {0};
  int zeros = 0;
  printf("getentropy %d\n", getentropy(bytes, sizeof bytes));
  for (int i = 0; i < 64; i++) zeros += !bytes[i];
  printf("random %d\n", zeros < 16);

  struct pollfd wait[2] = {{0, POLLIN, 0}, {1, POLLOUT, 0}};
  printf("poll %d, stdout %d\n", poll(wait, 2, 1000) > 0, (wait[1].revents & POLLOUT) != 0);
  char line[64];
  while (fgets(line, sizeof line, stdin)) printf("stdin %s", line);
  fprintf(stderr, "to stderr\n");
  fflush(stdout);
  return argc > 1 ? atoi(argv[1]) : 0;
}
