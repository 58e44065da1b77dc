/* What the benchmarks ask. */
#ifndef BENCH_PROMPTS_H
#define BENCH_PROMPTS_H

#include "session.h"

/* A varied prompt (short questions, code, long instructions, other scripts); the list is cycled. */
const char *varied_prompt(size_t index);

/* One of the short questions that batching is usually measured with; the list is cycled. */
const char *short_question(size_t index);

enum { SHORT_QUESTIONS = 5 };

/* A long system prompt, several hundred tokens with any tokenizer. */
extern const char *const system_prompt;

/* `count` made-up token ids that are ordinary text tokens in most vocabularies. The same `seed` gives
 * the same ids. Free with free(). */
uint32_t *synthetic_tokens(const session *self, size_t count, uint64_t seed);

#endif
