/* One answer as it streams: printed at once, or kept for a JSON object. */
#ifndef BENCH_ANSWER_H
#define BENCH_ANSWER_H

#include "json.h"
#include "logprobs.h"

/* Text that grows. */
typedef struct growing_text {
    char *bytes;
    size_t length;
} growing_text;

typedef struct tool_call {
    char *name;
    char *arguments; /* a JSON object */
} tool_call;

typedef struct answer {
    bool keep;   /* rather than print */
    bool quiet;  /* do not print reasoning, which goes to stderr */
    bool spoken; /* text has been printed */
    growing_text text;
    growing_text reasoning;
    tool_call *calls;
    size_t call_count;
    logprob_list logprobs;
} answer;

/* Takes one event of the answer's request. */
void answer_add(answer *self, const quire_event *event);

/* What was kept, as members of the object that the writer is in. */
void json_answer(json *writer, const answer *self);

void answer_clear(answer *self);

#endif
