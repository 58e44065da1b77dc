/* Several prompts at once on one engine, their answers kept apart by tag.
 *
 *     cc many_at_once.c -lquire -o many_at_once
 *     ./many_at_once MODEL "Name three rivers." "Name three mountains."
 */
#include <quire.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct answer {
    const char *prompt;
    char *text;
    size_t length;
} answer;

/* Ends the program if a call failed. */
static void check(quire_status status, quire_error *error) {
    if (status != QUIRE_OK) {
        fprintf(stderr, "%s: %s\n", quire_status_name(status), quire_error_message(error));
        exit(1);
    }
}

/* Adds a delta's text, which is whole UTF-8 characters. */
static void append(answer *self, const quire_event *event) {
    char *longer = realloc(self->text, self->length + event->text_len + 1);
    if (longer == NULL) {
        fputs("out of memory\n", stderr);
        exit(1);
    }
    self->text = longer;
    memcpy(self->text + self->length, event->text, event->text_len + 1);
    self->length += event->text_len;
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fputs("usage: many_at_once MODEL PROMPT...\n", stderr);
        return 2;
    }
    quire_error *error = NULL;
    quire_engine_options options;
    check(quire_engine_options_init(&options, sizeof options, &error), error);
    options.model = argv[1];
    options.model_len = strlen(argv[1]);
    quire_engine *engine = NULL;
    check(quire_engine_create(&options, &engine, &error), error);

    int count = argc - 2;
    answer *answers = calloc((size_t)count, sizeof *answers);
    if (answers == NULL) {
        return 1;
    }
    for (int i = 0; i < count; i++) {
        quire_request_options request;
        uint64_t id;
        answers[i].prompt = argv[i + 2];
        check(quire_request_options_init(&request, sizeof request, &error), error);
        request.prompt = answers[i].prompt;
        request.prompt_len = strlen(request.prompt);
        request.max_tokens = 64;
        request.tag = &answers[i]; /* comes back in each event */
        check(quire_engine_submit(engine, &request, &id, &error), error);
    }

    /* Each request ends with exactly one event that is no delta. */
    for (int ended = 0; ended < count;) {
        quire_event *event = NULL;
        check(quire_engine_wait(engine, -1, &event, &error), error);
        answer *self = event->tag;
        if (event->kind == QUIRE_EVENT_DELTA) {
            append(self, event);
        } else {
            const char *text = self->text == NULL ? "" : self->text;
            printf("> %s\n%s\n\n", self->prompt, event->kind == QUIRE_EVENT_FAILED ? event->message : text);
            ended++;
        }
        quire_event_free(event);
    }
    for (int i = 0; i < count; i++) {
        free(answers[i].text);
    }
    free(answers);
    check(quire_engine_release(engine, &error), error);
    return 0;
}
