/* Loading progress: on the calling thread, rising from 0 to 1, and able to stop the load.
 *
 * runs-on: mock mlx */
#include "model.h"

#include <pthread.h>

typedef struct progress {
    pthread_t caller;
    int calls;
    float last;
    int stop_at; /* the call that asks to stop; 0: none */
} progress;

static int32_t on_progress(void *user_data, float fraction, const char *stage) {
    progress *self = user_data;
    CHECK(pthread_equal(self->caller, pthread_self()));
    CHECK(fraction >= 0.0f && fraction <= 1.0f);
    CHECK(fraction >= self->last);
    CHECK(stage != NULL);
    self->last = fraction;
    self->calls++;
    return self->calls == self->stop_at;
}

int main(void) {
    test_guard_against_hanging();
    const char *model = new_model(NULL);
    progress whole = {.caller = pthread_self()};
    quire_engine_options options = options_for(model);
    options.on_progress = on_progress;
    options.on_progress_data = &whole;
    quire_engine *engine = engine_from(&options);
    CHECK(whole.calls >= 2);
    CHECK(whole.last == 1.0f);
    int calls = whole.calls;
    check_engine_works(engine);
    CHECK_EQUAL(whole.calls, calls);
    release(engine);

    /* Stopped at any call, nothing is left behind. */
    for (int stop_at = 1; stop_at <= calls; stop_at++) {
        progress stopped = {.caller = pthread_self(), .stop_at = stop_at};
        quire_error *error = NULL;
        engine = NULL;
        options.on_progress_data = &stopped;
        CHECK_FAILS(quire_engine_create(&options, &engine, &error), error, QUIRE_ABORTED, "");
        CHECK(engine == NULL);
        CHECK_EQUAL(stopped.calls, stop_at);
    }
    return 0;
}
