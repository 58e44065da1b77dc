#include "logprobs.h"

#include "table.h"

void logprobs_add(logprob_list *self, const quire_event *event) {
    if (event->logprobs == NULL) {
        return;
    }
    size_t count = self->count + event->token_count;
    self->tokens = reallocate(self->tokens, count, sizeof *self->tokens);
    self->chosen = reallocate(self->chosen, count, sizeof *self->chosen);
    memcpy(self->tokens + self->count, event->tokens, event->token_count * sizeof *self->tokens);
    memcpy(self->chosen + self->count, event->logprobs, event->token_count * sizeof *self->chosen);
    self->top_count = event->top_logprob_count;
    if (self->top_count > 0) {
        self->top = reallocate(self->top, count * self->top_count, sizeof *self->top);
        memcpy(self->top + self->count * self->top_count, event->top_logprobs,
               event->token_count * self->top_count * sizeof *self->top);
    }
    self->count = count;
}

void logprobs_clear(logprob_list *self) {
    free(self->tokens);
    free(self->chosen);
    free(self->top);
    *self = (logprob_list){0};
}

/* A token's text on one line: control characters and quotes as escapes. */
static const char *token_text(const session *engine, uint32_t token, char *line, size_t capacity) {
    char text[64];
    size_t length = 0;
    size_t used = 0;
    quire_status status =
        quire_engine_detokenize(engine->engine, &token, 1, 0, text, sizeof text, &length, NULL);
    if (status != QUIRE_OK) {
        snprintf(line, capacity, "%" PRIu32, token);
        return line;
    }
    length = length < sizeof text ? length : sizeof text;
    for (size_t i = 0; i < length && used + 5 < capacity; i++) {
        unsigned char byte = (unsigned char)text[i];
        bool plain = byte >= 0x20 && byte != 0x7f && byte != '"';
        used += (size_t)snprintf(line + used, capacity - used, plain ? "%c" : "\\x%02x", byte);
    }
    line[used] = '\0';
    return line;
}

static void print_top(const session *engine, const quire_token_logprob *top, size_t count, char *line,
                      size_t capacity) {
    size_t used = 0;
    line[0] = '\0';
    for (size_t k = 0; k < count; k++) {
        char text[80];
        int written = snprintf(line + used, capacity - used, "%s\"%s\" %.2f", k == 0 ? "" : "  ",
                               token_text(engine, top[k].token, text, sizeof text), (double)top[k].logprob);
        if (written < 0 || used + (size_t)written >= capacity) {
            return;
        }
        used += (size_t)written;
    }
}

void print_logprobs(const session *engine, const logprob_list *self) {
    if (self->count == 0) {
        return;
    }
    static const char *const headings[] = {"token", "logprob", "<text", "<most likely"};
    table rows = table_new(headings, LENGTH_OF(headings));
    for (size_t i = 0; i < self->count; i++) {
        char text[80];
        char top[1024];
        print_top(engine, self->top + i * self->top_count, self->top_count, top, sizeof top);
        table_cell(&rows, "%" PRIu32, self->tokens[i]);
        table_number(&rows, (double)self->chosen[i], 3);
        table_cell(&rows, "\"%s\"", token_text(engine, self->tokens[i], text, sizeof text));
        table_cell(&rows, "%s", top);
    }
    fputc('\n', stderr);
    table_print(&rows, stderr);
}

void json_logprobs(json *writer, const logprob_list *self) {
    if (self->count == 0) {
        return;
    }
    json_begin_array(writer, "logprobs");
    for (size_t i = 0; i < self->count; i++) {
        json_begin_object(writer, NULL);
        json_integer(writer, "token", self->tokens[i]);
        json_number(writer, "logprob", (double)self->chosen[i]);
        json_begin_array(writer, "top");
        for (size_t k = 0; k < self->top_count; k++) {
            const quire_token_logprob *other = &self->top[i * self->top_count + k];
            json_begin_object(writer, NULL);
            json_integer(writer, "token", other->token);
            json_number(writer, "logprob", (double)other->logprob);
            json_end_object(writer);
        }
        json_end_array(writer);
        json_end_object(writer);
    }
    json_end_array(writer);
}
