/* What all guests share that take rows; see rows.h. */
#include "rows.h"

#include <stdlib.h>
#include <string.h>
#include <wasi/api.h>

#include "buffer.h"
#include "model.h"
#include "text_io.h"

#define TOKENS_LOW 8
#define TOKENS_HIGH 65536

static wordpiece_vocab vocab;
static uint32_t is_cased, is_literal;
static buffer request_bytes, slots[ROW_SLOTS];
static buffer statuses, token_counts, number_counts, text_lengths, numbers, texts;
static size_t answered, number_count, text_bytes;
static wasinn_eval_answer answer;

static const row_option SHARED[] = {{"--max-tokens", &max_tokens, TOKENS_LOW, TOKENS_HIGH},
                                    {"--cased", &is_cased, 0, 0},
                                    {"--literal", &is_literal, 0, 0},
                                    {NULL, NULL, 0, 0}};

static const row_option *find_option(const row_option *options, const char *name) {
  while (options->name != NULL && strcmp(options->name, name) != 0) options++;
  return options->name != NULL ? options : NULL;
}

static bool set_option(const row_option *option, const char *given) {
  uint64_t number = 0;
  const char *at = given != NULL ? given : "";
  for (; *at >= '0' && *at <= '9' && number <= option->high; at++) {
    number = number * 10 + (uint64_t)(*at - '0');
  }
  if (given == NULL || at == given || *at != 0 || number < option->low || number > option->high) {
    return fail("%s takes a number from %u to %u, not '%s'", option->name, (unsigned)option->low,
                (unsigned)option->high, given != NULL ? given : "");
  }
  *option->value = (uint32_t)number;
  return true;
}

/* A reactor has no main: it asks for its arguments. */
static bool read_arguments(void) {
  size_t count, size;
  if (__wasi_args_sizes_get(&count, &size) != 0) return fail("the host tells no arguments");
  uint8_t **arguments = calloc(count + 1, sizeof *arguments), *bytes = malloc(size + 1);
  if (arguments == NULL || bytes == NULL || __wasi_args_get(arguments, bytes) != 0) {
    return fail("cannot read the arguments");
  }
  for (size_t i = 1; i < count; i++) {
    const char *name = (const char *)arguments[i];
    const row_option *option = find_option(guest_options, name);
    if (option == NULL) option = find_option(SHARED, name);
    if (option == NULL) return fail("unknown argument '%s'", name);
    if (option->high == 0) {
      *option->value = 1;
    } else if (!set_option(option, i + 1 < count ? (const char *)arguments[++i] : NULL)) {
      return false;
    }
  }
  free(arguments);
  free(bytes);
  return true;
}

uint32_t wasinn_eval_open(uint32_t version) {
  if (version != WASINN_EVAL_VERSION) {
    return fail("the host asks for version %u, this is %u", (unsigned)version, WASINN_EVAL_VERSION),
           1;
  }
  static text words; /* the vocabulary points into it */
  if (!read_arguments() || !read_file("/model/vocab.txt", &words)) return 1;
  const char *why = wordpiece_open(&vocab, words.bytes, words.length);
  if (why != NULL) return fail("/model/vocab.txt: %s", why), 1;
  vocab.cased = is_cased != 0;
  vocab.literal = is_literal != 0;
  return model_open(&vocab) ? 0 : 1;
}

void *wasinn_eval_request(uint32_t size) { return reserve(&request_bytes, size, 1); }

const wasinn_eval_answer *wasinn_eval_rows(const wasinn_eval_request_header *request,
                                           uint32_t size) {
  (void)size;
  answered = number_count = text_bytes = 0;
  if (request->rows > 0 && !guest_rows(request)) return NULL;
  answer = (wasinn_eval_answer){request->rows,       statuses.bytes, token_counts.bytes,
                                number_counts.bytes, numbers.bytes,  text_lengths.bytes,
                                texts.bytes};
  return &answer;
}

bool need_columns(const wasinn_eval_request_header *request, uint32_t least, uint32_t most) {
  if (request->columns >= least && request->columns <= most) return true;
  if (least == most) {
    return fail("a row has %u text(s) here, got %u", (unsigned)least, (unsigned)request->columns);
  }
  return fail("a row has %u or %u texts here, got %u", (unsigned)least, (unsigned)most,
              (unsigned)request->columns);
}

bool row_read(const wasinn_eval_request_header *request, size_t field, unsigned slot, size_t most,
              row_text *text) {
  text->text = (const char *)request + request->fields[field].offset;
  text->length = request->fields[field].length;
  size_t room = text->length < most ? text->length : most;
  wordpiece_token *tokens = reserve(&slots[slot], room, sizeof *tokens);
  if (tokens == NULL) return false;
  text->tokens = tokens;
  text->count = wordpiece_tokens(&vocab, text->text, text->length, tokens, room);
  return true;
}

void cut_longest_first(size_t *a, size_t *b, size_t most) {
  if (*a + *b <= most) return;
  bool is_a_longer = *a > *b;
  size_t shorter = is_a_longer ? *b : *a, longer;
  /* The shorter one stays whole if what is left is no less; else they share, and of an odd number
     the longer one gets the one more. */
  longer = shorter > most ? shorter : most - shorter > shorter ? most - shorter : shorter;
  if (shorter + longer > most) {
    shorter = most / 2;
    longer = shorter + most % 2;
  }
  *a = is_a_longer ? longer : shorter;
  *b = is_a_longer ? shorter : longer;
}

bool row_add(const wasinn_eval_request_header *request, size_t field, size_t columns,
             row_seen *seen) {
  row_text a, b = {0};
  size_t room = max_tokens - 1 - columns;
  /* One more than fits tells whether something is cut; of a pair, each length counts. */
  if (!row_read(request, field, 0, columns == 1 ? room + 1 : SIZE_MAX, &a)) return false;
  if (columns == 2 && !row_read(request, field + 1, 1, SIZE_MAX, &b)) return false;
  size_t a_count = a.count, b_count = b.count;
  seen->is_cut = a_count + b_count > room;
  if (columns == 2) {
    cut_longest_first(&a_count, &b_count, room);
  } else if (seen->is_cut) {
    a_count = room;
  }
  seen->tokens = (uint32_t)(1 + columns + a_count + b_count);
  return batch_add(a.tokens, a_count, columns == 2 ? b.tokens : NULL, b_count);
}

/* Appends to one of the answer's arrays. */
static bool append(buffer *to, size_t *used, const void *from, size_t count, size_t size) {
  char *bytes = reserve(to, *used + count, size);
  if (bytes == NULL) return false;
  if (count > 0) memcpy(bytes + *used * size, from, count * size);
  *used += count;
  return true;
}

static bool append_word(buffer *to, uint32_t word) {
  size_t used = answered;
  return append(to, &used, &word, 1, sizeof word);
}

static bool answer_any(uint32_t status, uint32_t seen_tokens, const float *row_numbers,
                       size_t count, const char *text, size_t length) {
  bool is_done = append_word(&statuses, status) && append_word(&token_counts, seen_tokens) &&
                 append_word(&number_counts, (uint32_t)count) &&
                 append_word(&text_lengths, (uint32_t)length) &&
                 append(&numbers, &number_count, row_numbers, count, sizeof *row_numbers) &&
                 append(&texts, &text_bytes, text, length, 1);
  answered++;
  return is_done;
}

bool answer_row(row_seen seen, const float *row_numbers, size_t count, const char *text,
                size_t length) {
  uint32_t status = seen.is_cut ? WASINN_EVAL_TRUNCATED : WASINN_EVAL_OK;
  return answer_any(status, seen.tokens, row_numbers, count, text, length);
}

bool answer_failed(row_seen seen, const char *why) {
  return answer_any(WASINN_EVAL_FAILED, seen.tokens, NULL, 0, why, strlen(why));
}
