/* Events delivered to a callback: on another thread, in order, and what may be called from inside.
 *
 * runs-on: mock mlx */
#include "model.h"

#include <pthread.h>

/* What the callback shares with the test. The lock guards the fields above it. */
typedef struct inbox {
    quire_engine *engine;
    answer answers[8];
    size_t known;
    size_t ended;
    int finalized;
    quire_status inner_status; /* what a call from inside the callback returned */
    pthread_t delivered_on;
    pthread_mutex_t lock;
    pthread_cond_t changed;
} inbox;

static void inbox_init(inbox *self) {
    memset(self, 0, sizeof *self);
    self->inner_status = -1;
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->changed, NULL);
}

static void inbox_destroy(inbox *self) {
    for (size_t i = 0; i < self->known; i++) {
        answer_clear(&self->answers[i]);
    }
    pthread_mutex_destroy(&self->lock);
    pthread_cond_destroy(&self->changed);
}

/* Books an event; true at the first one of its request. Call with the lock held. */
static bool book(inbox *self, const quire_event *event) {
    CHECK_EQUAL(self->finalized, 0);
    size_t at = 0;
    while (at < self->known && self->answers[at].request != event->request) {
        at++;
    }
    CHECK(at < sizeof self->answers / sizeof self->answers[0]);
    bool first = at == self->known;
    if (first) {
        self->answers[at].request = event->request;
        self->known++;
    }
    answer_add(&self->answers[at], event);
    self->ended += event->kind != QUIRE_EVENT_DELTA;
    self->delivered_on = pthread_self();
    pthread_cond_broadcast(&self->changed);
    return first;
}

static void on_event(void *user_data, const quire_event *event) {
    inbox *self = user_data;
    pthread_mutex_lock(&self->lock);
    book(self, event);
    pthread_mutex_unlock(&self->lock);
}

static void on_release(void *user_data) {
    inbox *self = user_data;
    pthread_mutex_lock(&self->lock);
    self->finalized++;
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
}

static quire_engine_options callback_options(const char *model, quire_event_fn function, inbox *self) {
    quire_engine_options options = options_for(model);
    options.on_event = function;
    options.on_event_data = self;
    options.release_on_event_data = on_release;
    return options;
}

/* Creates the engine and puts it where the callback finds it. */
static quire_engine *open_inbox(inbox *self, const char *model, quire_event_fn function) {
    inbox_init(self);
    quire_engine_options options = callback_options(model, function, self);
    self->engine = engine_from(&options);
    return self->engine;
}

static void wait_until_ended(inbox *self, size_t count) {
    pthread_mutex_lock(&self->lock);
    while (self->ended < count) {
        pthread_cond_wait(&self->changed, &self->lock);
    }
    pthread_mutex_unlock(&self->lock);
}

static void wait_until_finalized(inbox *self) {
    pthread_mutex_lock(&self->lock);
    while (self->finalized == 0) {
        pthread_cond_wait(&self->changed, &self->lock);
    }
    pthread_mutex_unlock(&self->lock);
}

static void events_come_on_another_thread(const char *model) {
    inbox box;
    quire_engine *engine = open_inbox(&box, model, on_event);
    quire_error *error = NULL;
    quire_event *event = NULL;
    submit_for(engine, 25);
    submit_for(engine, 30);
    wait_until_ended(&box, 2);
    CHECK(!pthread_equal(box.delivered_on, pthread_self()));
    CHECK_EQUAL(box.answers[0].token_count + box.answers[1].token_count, 55);
    CHECK_FAILS(quire_engine_poll(engine, &event, &error), error, QUIRE_INVALID_STATE, "on_event");
    CHECK_FAILS(quire_engine_wait(engine, -1, &event, &error), error, QUIRE_INVALID_STATE, "on_event");
    CHECK_EQUAL(box.finalized, 0);
    release(engine);
    CHECK_EQUAL(box.finalized, 1);
    inbox_destroy(&box);
}

/* Release delivers the terminal events of what it cancels, then the finalizer, before it returns. */
static void release_tells_every_end(const char *slow) {
    inbox box;
    quire_engine *engine = open_inbox(&box, slow, on_event);
    for (int i = 0; i < 5; i++) {
        submit_for(engine, 8000);
    }
    release(engine);
    CHECK_EQUAL(box.ended, 5);
    CHECK_EQUAL(box.finalized, 1);
    for (size_t i = 0; i < 5; i++) {
        CHECK_EQUAL(box.answers[i].end, QUIRE_EVENT_CANCELLED);
    }
    inbox_destroy(&box);
}

/* Shutdown returns when every request has had its terminal event. */
static void shutdown_waits_for_every_end(const char *slow) {
    inbox box;
    quire_engine *engine = open_inbox(&box, slow, on_event);
    quire_error *error = NULL;
    submit_for(engine, 10);
    submit_for(engine, 10);
    CHECK_OK(quire_engine_shutdown(engine, QUIRE_SHUTDOWN_DRAIN, -1, &error), error);
    wait_until_ended(&box, 2);
    release(engine);
    CHECK_EQUAL(box.finalized, 1);
    inbox_destroy(&box);
}

/* At the first event of the first request: submits another one, then cancels the first. */
static void submit_and_cancel(void *user_data, const quire_event *event) {
    inbox *self = user_data;
    pthread_mutex_lock(&self->lock);
    bool first = book(self, event) && self->known == 1;
    quire_engine *engine = self->engine;
    pthread_mutex_unlock(&self->lock);
    if (first) {
        quire_error *error = NULL;
        quire_statistics statistics = statistics_of(engine);
        CHECK(statistics.requests_accepted >= 1);
        submit_for(engine, 4);
        CHECK_OK(quire_engine_cancel(engine, event->request, &error), error);
    }
}

static void a_callback_may_submit_and_cancel(const char *slow) {
    inbox box;
    quire_engine *engine = open_inbox(&box, slow, submit_and_cancel);
    pthread_mutex_lock(&box.lock);
    submit_for(engine, 8000);
    pthread_mutex_unlock(&box.lock);
    wait_until_ended(&box, 2);
    CHECK_EQUAL(box.answers[0].end, QUIRE_EVENT_CANCELLED);
    CHECK_EQUAL(box.answers[1].end, QUIRE_EVENT_FINISHED);
    CHECK_EQUAL(box.answers[1].token_count, 4);
    release(engine);
    CHECK_EQUAL(box.finalized, 1);
    inbox_destroy(&box);
}

static void shut_down_inside(void *user_data, const quire_event *event) {
    inbox *self = user_data;
    pthread_mutex_lock(&self->lock);
    if (self->inner_status == -1) {
        quire_error *error = NULL;
        self->inner_status = quire_engine_shutdown(self->engine, QUIRE_SHUTDOWN_CANCEL, -1, &error);
        CHECK_EQUAL(quire_error_status(error), self->inner_status);
        quire_error_free(error);
    }
    book(self, event);
    pthread_mutex_unlock(&self->lock);
}

static void a_callback_may_not_shut_down(const char *model) {
    inbox box;
    inbox_init(&box);
    quire_engine_options options = callback_options(model, shut_down_inside, &box);
    pthread_mutex_lock(&box.lock);
    box.engine = engine_from(&options);
    submit_for(box.engine, 10);
    pthread_mutex_unlock(&box.lock);
    wait_until_ended(&box, 1);
    CHECK_EQUAL(box.inner_status, QUIRE_INVALID_STATE);
    CHECK_EQUAL(box.answers[0].end, QUIRE_EVENT_FINISHED);
    submit_for(box.engine, 3);
    wait_until_ended(&box, 2);
    release(box.engine);
    inbox_destroy(&box);
}

static void release_inside(void *user_data, const quire_event *event) {
    inbox *self = user_data;
    pthread_mutex_lock(&self->lock);
    book(self, event);
    quire_engine *engine = self->engine;
    self->engine = NULL;
    pthread_mutex_unlock(&self->lock);
    if (engine != NULL) {
        release(engine);
    }
}

/* The rest, finalizer included, happens after the callback has returned. */
static void a_callback_may_release_its_engine(const char *slow) {
    inbox box;
    inbox_init(&box);
    quire_engine_options options = callback_options(slow, release_inside, &box);
    pthread_mutex_lock(&box.lock);
    box.engine = engine_from(&options);
    submit_for(box.engine, 8000);
    submit_for(box.engine, 8000);
    pthread_mutex_unlock(&box.lock);
    wait_until_finalized(&box);
    CHECK_EQUAL(box.finalized, 1);
    CHECK_EQUAL(box.ended, 2);
    for (size_t i = 0; i < 2; i++) {
        CHECK_EQUAL(box.answers[i].end, QUIRE_EVENT_CANCELLED);
    }
    inbox_destroy(&box);
}

static int32_t abort_loading(void *user_data, float fraction, const char *stage) {
    (void)user_data;
    (void)fraction;
    (void)stage;
    return 1;
}

/* The user data is released once, also when there never was an engine. */
static void the_finalizer_runs_when_create_fails(const char *model) {
    inbox box;
    quire_engine *engine = NULL;
    quire_error *error = NULL;

    inbox_init(&box);
    quire_engine_options options = callback_options("/nonexistent/model", on_event, &box);
    CHECK_FAILS(quire_engine_create(&options, &engine, &error), error, QUIRE_MODEL_NOT_FOUND, "/nonexistent/model");
    CHECK_EQUAL(box.finalized, 1);

    options = callback_options(model, on_event, &box);
    options.on_progress = abort_loading;
    CHECK_FAILS(quire_engine_create(&options, &engine, &error), error, QUIRE_ABORTED, "");
    CHECK_EQUAL(box.finalized, 2);

    options = callback_options(model, on_event, &box);
    options.block_tokens = 3;
    CHECK_FAILS(quire_engine_create(&options, &engine, &error), error, QUIRE_INVALID_ARGUMENT, "block_tokens");
    CHECK_EQUAL(box.finalized, 3);

    options = callback_options(model, on_event, &box);
    options.model = NULL;
    CHECK_FAILS(quire_engine_create(&options, &engine, &error), error, QUIRE_INVALID_ARGUMENT, "model");
    CHECK_EQUAL(box.finalized, 4);

    options = callback_options(model, on_event, &box);
    CHECK_FAILS(quire_engine_create(&options, NULL, &error), error, QUIRE_INVALID_ARGUMENT, "engine");
    CHECK_EQUAL(box.finalized, 5);
    CHECK(engine == NULL);
    inbox_destroy(&box);
}

/* User data without a callback is released too; a callback without a finalizer works. */
static void the_halves_work_alone(const char *model) {
    inbox box;
    inbox_init(&box);
    quire_engine_options options = callback_options(model, NULL, &box);
    quire_engine *engine = engine_from(&options);
    check_engine_works(engine);
    release(engine);
    CHECK_EQUAL(box.finalized, 1);
    inbox_destroy(&box);

    inbox_init(&box);
    options = callback_options(model, on_event, &box);
    options.release_on_event_data = NULL;
    engine = engine_from(&options);
    submit_for(engine, 5);
    wait_until_ended(&box, 1);
    release(engine);
    inbox_destroy(&box);
}

int main(void) {
    test_guard_against_hanging();
    const char *model = new_model(NULL);
    const char *slow = slow_model();
    events_come_on_another_thread(model);
    release_tells_every_end(slow);
    shutdown_waits_for_every_end(slow);
    a_callback_may_submit_and_cancel(slow);
    a_callback_may_not_shut_down(model);
    a_callback_may_release_its_engine(slow);
    the_finalizer_runs_when_create_fails(model);
    the_halves_work_alone(model);
    return 0;
}
