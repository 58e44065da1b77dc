/* Events on a thread of the engine's own: the program's main thread is free, and may change its mind.
 *
 *     cc callback.c -lquire -lpthread -o callback
 *     ./callback MODEL "Once upon a time"        (Return ends the answer early)
 */
#include <pthread.h>
#include <quire.h>
#include <stdio.h>
#include <string.h>

/* What the callback shares with the main thread. */
typedef struct session {
    pthread_mutex_t lock;
    int tokens;
    int ended;
} session;

/* Called on the engine's dispatcher thread, one event at a time. The event is gone when it returns. */
static void on_event(void *user_data, const quire_event *event) {
    session *self = user_data;
    pthread_mutex_lock(&self->lock);
    self->tokens += (int)event->token_count;
    self->ended |= event->kind != QUIRE_EVENT_DELTA;
    pthread_mutex_unlock(&self->lock);
    fputs(event->text, stdout);
    if (event->kind == QUIRE_EVENT_FAILED) {
        fputs(event->message, stdout);
    }
    if (event->kind != QUIRE_EVENT_DELTA) {
        puts("\n[press Return]");
    }
    fflush(stdout);
}

/* Called once, after the last event: nobody will touch the session any more. */
static void on_release(void *user_data) {
    session *self = user_data;
    printf("[%d tokens]\n", self->tokens);
    pthread_mutex_destroy(&self->lock);
}

static int report(quire_status status, quire_error *error) {
    fprintf(stderr, "%s: %s\n", quire_status_name(status), quire_error_message(error));
    quire_error_free(error);
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fputs("usage: callback MODEL PROMPT\n", stderr);
        return 2;
    }
    static session self = {.lock = PTHREAD_MUTEX_INITIALIZER};
    quire_error *error = NULL;
    quire_engine_options options;
    quire_engine_options_init(&options, sizeof options, NULL);
    options.model = argv[1];
    options.model_len = strlen(argv[1]);
    options.on_event = on_event;
    options.on_event_data = &self;
    options.release_on_event_data = on_release;
    quire_engine *engine = NULL;
    quire_status status = quire_engine_create(&options, &engine, &error);
    if (status != QUIRE_OK) {
        return report(status, error);
    }

    quire_request_options request;
    uint64_t id = 0;
    quire_request_options_init(&request, sizeof request, NULL);
    request.prompt = argv[2];
    request.prompt_len = strlen(argv[2]);
    request.temperature = 0.7f;
    request.top_p = 0.95f;
    status = quire_engine_submit(engine, &request, &id, &error);
    if (status != QUIRE_OK) {
        quire_engine_release(engine, NULL);
        return report(status, error);
    }
    getchar();
    /* QUIRE_NOT_FOUND if the answer has ended meanwhile: harmless. */
    quire_engine_cancel(engine, id, NULL);
    /* Every event, and then on_release, comes before this returns. */
    quire_engine_release(engine, NULL);
    return self.ended ? 0 : 1;
}
