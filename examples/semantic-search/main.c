/* semantic-search: which sentences are closest in meaning to a question?
 *
 * A guest that does everything but the neural network itself: it reads a vocabulary and a corpus
 * from the folders it was given, turns text into tokens, asks a BERT-style model through WASI-NN,
 * and ranks sentences by the cosine of their vectors.  --help lists what it can do.
 *
 * Exit status: 0; 1 when something failed (and stderr says what); 2 for a wrong command line.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "encoder.h"
#include "options.h"
#include "text_io.h"
#include "wordpiece.h"

const char guest_name[] = "semantic-search";

/* What every mode needs: the options, the vocabulary, and room for the tokens of one text. */
typedef struct {
  const options *options;
  wordpiece_vocab vocab;
  wordpiece_token *tokens;
  uint32_t *ids;
} session;

static bool out_of_memory(void) { return fail("out of memory"); }

/* [CLS], the tokens of `line` that fit, [SEP]; in session->ids until the next call. */
static token_row tokenize(const session *s, text line) {
  size_t count = wordpiece_tokens(&s->vocab, line.bytes, line.length, s->tokens,
                                  s->options->max_tokens - 2);
  s->ids[0] = s->vocab.special[WORDPIECE_CLS];
  for (size_t i = 0; i < count; i++) s->ids[i + 1] = s->tokens[i].id;
  s->ids[count + 1] = s->vocab.special[WORDPIECE_SEP];
  return (token_row){s->ids, count + 2};
}

/* The same in memory of its own. */
static bool tokenize_copy(const session *s, text line, token_row *row) {
  token_row tokens = tokenize(s, line);
  row->count = tokens.count;
  row->ids = malloc(tokens.count * sizeof *row->ids);
  if (row->ids == NULL) return out_of_memory();
  memcpy(row->ids, tokens.ids, tokens.count * sizeof *row->ids);
  return true;
}

/* --tokenize */

static bool tokenize_lines(const session *s) {
  text line = {NULL, 0};
  size_t room = 0;
  int more;
  while ((more = read_line(stdin, s->options->escapes, &line, &room)) > 0) {
    token_row row = tokenize(s, line);
    for (size_t i = 0; i < row.count; i++) {
      printf(i > 0 ? " %u" : "%u", (unsigned)row.ids[i]);
    }
    putchar('\n');
  }
  free(line.bytes);
  return more == 0;
}

/* --embed */

static bool print_vectors(encoder *e, token_row *rows, size_t count) {
  if (!encoder_run(e, rows, count)) return false;
  for (size_t row = 0; row < count; row++) {
    free(rows[row].ids);
    const float *vector = e->vectors + row * e->hidden;
    /* Nine digits give every float32 back exactly. */
    for (size_t i = 0; i < e->hidden; i++) printf(i > 0 ? " %.9g" : "%.9g", vector[i]);
    putchar('\n');
  }
  return true;
}

static bool embed_lines(const session *s, encoder *e) {
  token_row *rows = calloc(s->options->batch, sizeof *rows);
  if (rows == NULL) return out_of_memory();
  text line = {NULL, 0};
  size_t room = 0, count = 0;
  int more;
  while ((more = read_line(stdin, s->options->escapes, &line, &room)) > 0) {
    if (!tokenize_copy(s, line, &rows[count++])) return false;
    if (count == s->options->batch) {
      if (!print_vectors(e, rows, count)) return false;
      count = 0;
    }
  }
  bool ok = more == 0 && (count == 0 || print_vectors(e, rows, count));
  free(line.bytes);
  free(rows);
  return ok;
}

/* Search */

typedef struct {
  text *sentences;
  float *vectors; /* [count, hidden] */
  size_t count;
} corpus;

static bool is_blank(text line) {
  for (size_t i = 0; i < line.length; i++) {
    if (strchr(" \t\r", line.bytes[i]) == NULL || line.bytes[i] == 0) return false;
  }
  return true;
}

/* Splits `all` into its lines; blank ones are left out. */
static bool split_sentences(text all, corpus *c) {
  size_t lines = 1;
  for (size_t i = 0; i < all.length; i++) lines += all.bytes[i] == '\n';
  c->count = 0;
  c->sentences = calloc(lines, sizeof *c->sentences);
  if (c->sentences == NULL) return out_of_memory();
  char *at = all.bytes, *end = all.bytes + all.length;
  while (at < end) {
    char *stop = memchr(at, '\n', (size_t)(end - at));
    if (stop == NULL) stop = end;
    text line = {at, (size_t)(stop - at)};
    while (line.length > 0 && line.bytes[line.length - 1] == '\r') line.length--;
    if (!is_blank(line)) c->sentences[c->count++] = line;
    at = stop + (stop < end);
  }
  return true;
}

typedef struct {
  token_row row;
  size_t sentence;
} pending;

static int by_length(const void *a, const void *b) {
  const pending *x = a, *y = b;
  if (x->row.count != y->row.count) return x->row.count < y->row.count ? -1 : 1;
  return x->sentence < y->sentence ? -1 : x->sentence > y->sentence;
}

/* Vectors of all sentences.  Batches are made of sentences of similar length, as every row of a
   batch is padded to the longest. */
static bool embed_corpus(const session *s, encoder *e, corpus *c) {
  size_t batch = s->options->batch;
  pending *all = calloc(c->count, sizeof *all);
  token_row *rows = calloc(batch, sizeof *rows);
  if (all == NULL || rows == NULL) return out_of_memory();
  for (size_t i = 0; i < c->count; i++) {
    all[i].sentence = i;
    if (!tokenize_copy(s, c->sentences[i], &all[i].row)) return false;
  }
  qsort(all, c->count, sizeof *all, by_length);

  for (size_t start = 0; start < c->count; start += batch) {
    size_t count = c->count - start < batch ? c->count - start : batch;
    for (size_t i = 0; i < count; i++) rows[i] = all[start + i].row;
    if (!encoder_run(e, rows, count)) return false;
    if (c->vectors == NULL) {
      c->vectors = calloc(c->count, e->hidden * sizeof *c->vectors);
      if (c->vectors == NULL) return out_of_memory();
    }
    for (size_t i = 0; i < count; i++) {
      memcpy(c->vectors + all[start + i].sentence * e->hidden, e->vectors + i * e->hidden,
             e->hidden * sizeof *c->vectors);
      free(all[start + i].row.ids);
    }
  }
  free(all);
  free(rows);
  return true;
}

typedef struct {
  double score;
  size_t sentence;
} answer;

/* Prints the query and its closest sentences, best first; of equal ones the earlier first. */
static bool answer_query(const session *s, encoder *e, const corpus *c, text query,
                         answer *best) {
  token_row row = tokenize(s, query);
  if (!encoder_run(e, &row, 1)) return false;
  size_t top = s->options->top < c->count ? s->options->top : c->count, found = 0;
  for (size_t i = 0; i < c->count; i++) {
    const float *vector = c->vectors + i * e->hidden;
    double score = 0;
    for (size_t k = 0; k < e->hidden; k++) score += (double)vector[k] * e->vectors[k];
    if (found == top && score <= best[top - 1].score) continue;
    size_t at = found < top ? found++ : top - 1;
    for (; at > 0 && best[at - 1].score < score; at--) best[at] = best[at - 1];
    best[at] = (answer){score, i};
  }

  fwrite(query.bytes, 1, query.length, stdout);
  putchar('\n');
  int width = snprintf(NULL, 0, "%zu", top);
  for (size_t i = 0; i < found; i++) {
    text sentence = c->sentences[best[i].sentence];
    printf("  %*zu  %7.4f  ", width, i + 1, best[i].score);
    fwrite(sentence.bytes, 1, sentence.length, stdout);
    putchar('\n');
  }
  return finish_output();
}

static bool search(const session *s, encoder *e) {
  const options *o = s->options;
  text file;
  corpus c = {NULL, NULL, 0};
  if (!read_file(o->corpus, &file) || !split_sentences(file, &c)) return false;
  if (c.count == 0) return fail("'%s' holds no sentences", o->corpus);
  answer *best = calloc(o->top < c.count ? o->top : c.count, sizeof *best);
  if (best == NULL) return out_of_memory();
  if (!embed_corpus(s, e, &c)) return false;

  bool ok = true;
  for (int i = 0; ok && i < o->query_count; i++) {
    ok = answer_query(s, e, &c, (text){o->queries[i], strlen(o->queries[i])}, best);
  }
  if (o->query_count == 0) {
    text line = {NULL, 0};
    size_t room = 0;
    int more = 1;
    while (ok && (more = read_line(stdin, o->escapes, &line, &room)) > 0) {
      if (!is_blank(line)) ok = answer_query(s, e, &c, line, best);
    }
    ok = ok && more == 0;
    free(line.bytes);
  }
  free(best);
  free(c.vectors);
  free(c.sentences);
  free(file.bytes);
  return ok;
}

/* --bench */

#define BENCH_TOKENS 16
#define BENCH_WARM_UP 5

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int by_value(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

static bool bench(const session *s, encoder *e) {
  static char sentence[] =
      "A sentence of many plain words that is cut to the number of tokens this measurement wants.";
  token_row row = tokenize(s, (text){sentence, sizeof sentence - 1});
  if (row.count < BENCH_TOKENS) {
    return fail("with this vocabulary the sample has %zu tokens, not %d", row.count, BENCH_TOKENS);
  }
  row.ids[BENCH_TOKENS - 1] = s->vocab.special[WORDPIECE_SEP];
  row.count = BENCH_TOKENS;
  uint64_t *times = calloc(s->options->bench, sizeof *times);
  if (times == NULL) return out_of_memory();
  for (int i = 0; i < BENCH_WARM_UP; i++) {
    if (!encoder_run(e, &row, 1)) return false;
  }
  for (size_t i = 0; i < s->options->bench; i++) {
    uint64_t start = now_ns();
    if (!encoder_run(e, &row, 1)) return false;
    times[i] = now_ns() - start;
  }
  qsort(times, s->options->bench, sizeof *times, by_value);
  printf("%llu\n", (unsigned long long)times[s->options->bench / 2]);
  free(times);
  return true;
}

static bool run(session *s) {
  if (s->options->mode == MODE_TOKENIZE) return tokenize_lines(s);
  encoder e;
  if (!encoder_open(&e, s->options->model, s->vocab.special[WORDPIECE_PAD])) return false;
  bool ok = s->options->mode == MODE_EMBED   ? embed_lines(s, &e)
            : s->options->mode == MODE_BENCH ? bench(s, &e)
                                             : search(s, &e);
  encoder_close(&e);
  return ok;
}

int main(int argc, char **argv) {
  options o;
  if (!parse_options(argc, argv, &o)) return 2;
  if (o.mode == MODE_HELP) {
    print_help();
    return finish_output() ? 0 : 1;
  }
  session s = {.options = &o};
  text vocabulary;
  if (!read_file(o.vocab, &vocabulary)) return 1;
  const char *problem = wordpiece_open(&s.vocab, vocabulary.bytes, vocabulary.length);
  if (problem != NULL) {
    fail("'%s' is no vocabulary for this: %s", o.vocab, problem);
    return 1;
  }
  s.vocab.literal = o.literal;
  s.tokens = malloc(o.max_tokens * sizeof *s.tokens);
  s.ids = malloc(o.max_tokens * sizeof *s.ids);
  if (s.tokens == NULL || s.ids == NULL) {
    out_of_memory();
    return 1;
  }
  bool ok = run(&s);
  ok = finish_output() && ok;
  free(s.ids);
  free(s.tokens);
  wordpiece_close(&s.vocab);
  free(vocabulary.bytes);
  return ok ? 0 : 1;
}
