/* A conversation of a system message and a question, in JSON. */
#ifndef BENCH_CHAT_H
#define BENCH_CHAT_H

#include "common.h"

/* Points `chat` at a conversation; `system` may be NULL. Returns its JSON, which the caller frees after use. */
char *chat_from(quire_chat *chat, const char *system, const char *question, size_t question_len);

#endif
