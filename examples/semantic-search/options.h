/* The command line of semantic-search. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

enum mode { MODE_SEARCH, MODE_TOKENIZE, MODE_EMBED, MODE_BENCH, MODE_HELP };

typedef struct {
  enum mode mode;
  const char *vocab, *model, *corpus;
  size_t top, batch, max_tokens, bench;
  bool escapes, literal;
  char **queries; /* what is left after the options */
  int query_count;
} options;

/* Reads the command line; says what is wrong with it and returns false if something is. */
bool parse_options(int argc, char **argv, options *out);

/* Prints the help text to stdout. */
void print_help(void);

#endif
