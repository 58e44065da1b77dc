#include "tokens.h"

/* SplitMix64: a counter, well mixed. */
static uint64_t mixed(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

tokens synthetic_tokens(const session *engine, size_t count, uint64_t seed) {
    /* Special tokens sit at the ends of a vocabulary: stay in its middle. */
    uint32_t first = engine->info.vocab_size / 8;
    uint32_t range = engine->info.vocab_size / 2;
    tokens result = {.items = allocate(count, sizeof *result.items), .count = count};
    for (size_t i = 0; i < count; i++) {
        result.items[i] = first + (uint32_t)(mixed(&seed) % (range == 0 ? 1 : range));
    }
    return result;
}

/* FNV-1a, to seed made-up tokens with a text. */
static uint64_t hash_of(const char *text) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *text != '\0'; text++) {
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
    }
    return hash;
}

int tokens_of(const session *engine, const char *text, tokens *result) {
    size_t length = strlen(text);
    if (!engine->info.has_tokenizer) {
        *result = synthetic_tokens(engine, length / 4 + 1, hash_of(text));
        return EXIT_OK;
    }
    quire_error *error = NULL;
    *result = (tokens){0};
    quire_status status = quire_engine_tokenize(engine->engine, text, length, 0, NULL, 0, &result->count, &error);
    if (status == QUIRE_OK) {
        size_t capacity = result->count;
        result->items = allocate(capacity, sizeof *result->items);
        status = quire_engine_tokenize(engine->engine, text, length, 0, result->items, capacity, &result->count,
                                       &error);
    }
    return status == QUIRE_OK ? EXIT_OK : fail_with("tokenize", status, error);
}

void tokens_resize(tokens *self, size_t count) {
    self->items = reallocate(self->items, count, sizeof *self->items);
    for (size_t i = self->count; i < count; i++) {
        self->items[i] = self->items[i - self->count];
    }
    self->count = count;
}

void tokens_append(tokens *self, const tokens *tail) {
    self->items = reallocate(self->items, self->count + tail->count, sizeof *self->items);
    if (tail->count > 0) {
        memcpy(self->items + self->count, tail->items, tail->count * sizeof *self->items);
    }
    self->count += tail->count;
}

void tokens_free(tokens *self) {
    free(self->items);
    *self = (tokens){0};
}

void ask_tokens(run *which, const tokens *prompt) {
    which->request.prompt_tokens = prompt->items;
    which->request.prompt_token_count = prompt->count;
}

void ask_text(run *which, const char *text) {
    which->request.prompt = text;
    which->request.prompt_len = strlen(text);
}

void set_salt(run *which, const size_t *salt) {
    which->request.cache_salt = (const char *)salt;
    which->request.cache_salt_len = sizeof *salt;
}
