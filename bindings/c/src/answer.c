#include "answer.h"

static void append(growing_text *self, const char *bytes, size_t length) {
    self->bytes = reallocate(self->bytes, self->length + length + 1, 1);
    memcpy(self->bytes + self->length, bytes, length);
    self->length += length;
    self->bytes[self->length] = '\0';
}

static char *copy_of(const char *bytes, size_t length) {
    growing_text text = {0};
    append(&text, bytes, length);
    return text.bytes;
}

static void keep(answer *self, const quire_event *event) {
    if (event->kind == QUIRE_EVENT_TOOL_CALL) {
        self->calls = reallocate(self->calls, self->call_count + 1, sizeof *self->calls);
        self->calls[self->call_count++] = (tool_call){
            copy_of(event->tool_name, event->tool_name_len),
            copy_of(event->text, event->text_len),
        };
    } else if (event->kind == QUIRE_EVENT_REASONING) {
        append(&self->reasoning, event->text, event->text_len);
    } else if (event->kind == QUIRE_EVENT_DELTA) {
        append(&self->text, event->text, event->text_len);
    }
}

static void print(answer *self, const quire_event *event) {
    if (event->kind == QUIRE_EVENT_TOOL_CALL) {
        printf("%s%s %s\n", self->spoken ? "\n" : "", event->tool_name, event->text);
        fflush(stdout);
    } else if (event->kind == QUIRE_EVENT_REASONING && !self->quiet) {
        fwrite(event->text, 1, event->text_len, stderr);
    } else if (event->kind == QUIRE_EVENT_DELTA && event->text_len > 0) {
        self->spoken = true;
        fwrite(event->text, 1, event->text_len, stdout);
        fflush(stdout);
    }
}

void answer_add(answer *self, const quire_event *event) {
    logprobs_add(&self->logprobs, event);
    if (self->keep) {
        keep(self, event);
    } else {
        print(self, event);
    }
}

void json_answer(json *writer, const answer *self) {
    const growing_text *text = &self->text;
    json_text(writer, "text", text->bytes == NULL ? "" : text->bytes, text->length);
    if (self->reasoning.length > 0) {
        json_text(writer, "reasoning", self->reasoning.bytes, self->reasoning.length);
    }
    if (self->call_count > 0) {
        json_begin_array(writer, "tool_calls");
        for (size_t i = 0; i < self->call_count; i++) {
            json_begin_object(writer, NULL);
            json_string(writer, "name", self->calls[i].name);
            json_string(writer, "arguments", self->calls[i].arguments);
            json_end_object(writer);
        }
        json_end_array(writer);
    }
    json_logprobs(writer, &self->logprobs);
}

void answer_clear(answer *self) {
    free(self->text.bytes);
    free(self->reasoning.bytes);
    for (size_t i = 0; i < self->call_count; i++) {
        free(self->calls[i].name);
        free(self->calls[i].arguments);
    }
    free(self->calls);
    logprobs_clear(&self->logprobs);
    *self = (answer){0};
}
