/* The log-probabilities of an answer, kept as they come. */
#ifndef BENCH_LOGPROBS_H
#define BENCH_LOGPROBS_H

#include "json.h"
#include "session.h"

typedef struct logprob_list {
    uint32_t *tokens;
    float *chosen;
    size_t count;
    quire_token_logprob *top; /* top_count for each token */
    size_t top_count;
} logprob_list;

/* Takes those of an event, if it has any. */
void logprobs_add(logprob_list *self, const quire_event *event);
void logprobs_clear(logprob_list *self);

/* Prints a table on stderr, the tokens as text; nothing if there are none. */
void print_logprobs(const session *engine, const logprob_list *self);

/* Writes them as "logprobs", a list; nothing if there are none. */
void json_logprobs(json *writer, const logprob_list *self);

#endif
