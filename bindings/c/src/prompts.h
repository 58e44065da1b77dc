/* What the benchmarks ask. */
#ifndef BENCH_PROMPTS_H
#define BENCH_PROMPTS_H

#include "common.h"

/* A varied prompt (short questions, code, long instructions, other scripts); the list is cycled. */
const char *varied_prompt(size_t index);

/* One of the short questions that batching is usually measured with; the list is cycled. */
const char *short_question(size_t index);

enum { SHORT_QUESTIONS = 5 };

/* A system prompt of some 290 tokens with the usual tokenizers. */
extern const char *const system_prompt;

/* Something a visitor asks the assistant that the system prompt describes; the list is cycled. */
const char *visitor_question(size_t index);

#endif
