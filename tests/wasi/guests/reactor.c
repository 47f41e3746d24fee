/* A reactor: no main; state lives between calls of its exports. */
#include <stdio.h>
#include <string.h>

static int calls;
static char log_path[128];

__attribute__((constructor)) static void prepare(void) { strcpy(log_path, "/data/log"); }

__attribute__((export_name("note"))) int note(int value) {
  FILE *file = fopen(log_path, "a");
  if (!file) return -1;
  fprintf(file, "%d: %d\n", ++calls, value);
  fclose(file);
  return calls;
}
