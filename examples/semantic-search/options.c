/* The command line of semantic-search; see options.h. */
#include "options.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "text_io.h"

void print_help(void) {
  fputs(
      "usage: semantic-search --vocab FILE --model NAME --corpus FILE [OPTIONS] [QUERY...]\n"
      "       semantic-search --vocab FILE --tokenize [OPTIONS]\n"
      "       semantic-search --vocab FILE --model NAME --embed | --bench N [OPTIONS]\n"
      "\n"
      "Finds the sentences of the corpus (one a line) that are closest in meaning to each query.\n"
      "Queries are the arguments, or the lines of standard input if there are none.\n"
      "\n"
      "  --vocab FILE      vocabulary of the model, one token a line\n"
      "  --model NAME      name under which the host knows the model (WASI-NN load_by_name)\n"
      "  --corpus FILE     sentences to search\n"
      "  --top K           answers for each query (3)\n"
      "  --batch N         sentences in one inference, 1 to 1024 (16)\n"
      "  --max-tokens N    longer texts are cut to this many tokens, 3 to 65536 (128)\n"
      "  --literal         \"[SEP]\" and the like in a text are text, not special tokens\n"
      "  --escapes         lines of standard input may hold \\n \\r \\t \\\\ \\xHH\n"
      "  --tokenize        print the token ids of each line of standard input\n"
      "  --embed           print the vector of each line of standard input\n"
      "  --bench N         run N inferences of 16 tokens, print the median time in nanoseconds\n"
      "  --help            print this\n",
      stdout);
}

static bool parse_number(const char *name, const char *value, size_t low, size_t high,
                         size_t *out) {
  uint64_t number = 0;
  const char *at = value;
  for (; *at >= '0' && *at <= '9' && number <= high; at++) {
    number = number * 10 + (uint64_t)(*at - '0');
  }
  if (at == value || *at != 0 || number < low || number > high) {
    return fail("%s takes a number from %zu to %zu, not '%s'", name, low, high, value);
  }
  *out = (size_t)number;
  return true;
}

static bool set_mode(options *o, enum mode mode) {
  if (o->mode != MODE_SEARCH) return fail("give only one of --tokenize, --embed and --bench");
  o->mode = mode;
  return true;
}

static bool set_flag(options *o, const char *name, bool *known) {
  *known = true;
  if (strcmp(name, "--tokenize") == 0) return set_mode(o, MODE_TOKENIZE);
  if (strcmp(name, "--embed") == 0) return set_mode(o, MODE_EMBED);
  if (strcmp(name, "--escapes") == 0) return o->escapes = true;
  if (strcmp(name, "--literal") == 0) return o->literal = true;
  *known = false;
  return true;
}

static bool set_value(options *o, const char *name, const char *value, bool *known) {
  *known = true;
  if (strcmp(name, "--vocab") == 0) return o->vocab = value, true;
  if (strcmp(name, "--model") == 0) return o->model = value, true;
  if (strcmp(name, "--corpus") == 0) return o->corpus = value, true;
  if (strcmp(name, "--top") == 0) return parse_number(name, value, 1, 1000000, &o->top);
  if (strcmp(name, "--batch") == 0) return parse_number(name, value, 1, 1024, &o->batch);
  if (strcmp(name, "--max-tokens") == 0) {
    return parse_number(name, value, 3, 65536, &o->max_tokens);
  }
  if (strcmp(name, "--bench") == 0) {
    return set_mode(o, MODE_BENCH) && parse_number(name, value, 1, 10000000, &o->bench);
  }
  *known = false;
  return true;
}

static bool check_complete(const options *o) {
  if (o->vocab == NULL) return fail("--vocab FILE is missing (--help lists the options)");
  if (o->mode != MODE_TOKENIZE && o->model == NULL) return fail("--model NAME is missing");
  if (o->mode == MODE_SEARCH && o->corpus == NULL) return fail("--corpus FILE is missing");
  if (o->mode != MODE_SEARCH && o->query_count > 0) {
    return fail("unexpected argument '%s': only a search takes queries", o->queries[0]);
  }
  return true;
}

bool parse_options(int argc, char **argv, options *o) {
  *o = (options){.mode = MODE_SEARCH, .top = 3, .batch = 16, .max_tokens = 128};
  int at = 1;
  for (; at < argc && argv[at][0] == '-' && argv[at][1] != 0; at++) {
    char *name = argv[at];
    if (strcmp(name, "--") == 0) {
      at++;
      break;
    }
    if (strcmp(name, "--help") == 0) {
      o->mode = MODE_HELP;
      return true;
    }
    bool known;
    if (!set_flag(o, name, &known)) return false;
    if (known) continue;
    /* --name=value or --name value */
    char *equals = strchr(name, '=');
    if (equals != NULL) *equals = 0;
    const char *value = equals != NULL ? equals + 1 : at + 1 < argc ? argv[at + 1] : NULL;
    if (!set_value(o, name, value != NULL ? value : "", &known)) return false;
    if (!known) return fail("unknown option '%s' (--help lists the options)", name);
    if (value == NULL) return fail("%s needs a value", name);
    if (equals == NULL) at++;
  }
  o->queries = argv + at;
  o->query_count = argc - at;
  return check_complete(o);
}
