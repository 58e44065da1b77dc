#include <quire.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
    quire_engine_options options;
    quire_engine_options_init(&options, sizeof options, NULL);
    options.model = argc > 1 ? argv[1] : "model.gguf";
    options.model_len = strlen(options.model);
    quire_engine *engine = NULL;
    quire_error *error = NULL;
    quire_status status = quire_engine_create(&options, &engine, &error);
    if (status == QUIRE_OK) {
        quire_request_options request;
        quire_request_options_init(&request, sizeof request, NULL);
        request.prompt = "The capital of France is";
        request.prompt_len = strlen(request.prompt);
        status = quire_engine_submit(engine, &request, &(uint64_t){0}, &error);
    }
    for (int more = 1; more && status == QUIRE_OK;) {
        quire_event *event = NULL;
        if ((status = quire_engine_wait(engine, -1, &event, &error)) != QUIRE_OK) break;
        fputs(event->kind == QUIRE_EVENT_FAILED ? event->message : event->text, stdout);
        more = event->kind == QUIRE_EVENT_DELTA;
        quire_event_free(event);
    }
    puts(quire_error_message(error));
    quire_error_free(error);
    return quire_engine_release(engine, NULL) == QUIRE_OK ? status : 1;
}
