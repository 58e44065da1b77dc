/* Prompts of an exact length, as token ids. */
#ifndef BENCH_TOKENS_H
#define BENCH_TOKENS_H

#include "session.h"

typedef struct tokens {
    uint32_t *items;
    size_t count;
} tokens;

/* The tokens of a text, without special tokens around it. If the model has no tokenizer, made-up tokens
 * stand in: about one for four bytes, the same for the same text. */
int tokens_of(const session *engine, const char *text, tokens *result);

/* Cuts or repeats a list, which is not empty, to this length. */
void tokens_resize(tokens *self, size_t count);

/* Adds a copy of `tail` at the end. */
void tokens_append(tokens *self, const tokens *tail);

void tokens_free(tokens *self);

/* `count` made-up ids of ordinary tokens; the same `seed` gives the same ids. */
tokens synthetic_tokens(const session *engine, size_t count, uint64_t seed);

/* Makes a list the prompt of a request; the list must live until the request is submitted. */
void ask_tokens(run *which, const tokens *prompt);

/* Makes a text the prompt of a request; the same. */
void ask_text(run *which, const char *text);

/* Requests share pages only with requests of the same salt; the salt must live until submit. */
void set_salt(run *which, const size_t *salt);

#endif
