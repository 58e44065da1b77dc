/* Eight threads submit, cancel and take events at once: every request ends exactly once, whoever takes its
 * end.
 *
 * runs-on: mock mlx */
#include "model.h"

#include <pthread.h>
#include <sched.h>

enum { THREADS = 8, REQUESTS_EACH = 60, REQUESTS = THREADS * REQUESTS_EACH };

typedef struct shared {
    quire_engine *engine;
    pthread_mutex_t lock;
    int terminals[REQUESTS]; /* by tag */
    size_t ended;
} shared;

typedef struct worker {
    shared *all;
    size_t index;
    unsigned random;
} worker;

static unsigned next_random(worker *self) {
    self->random = self->random * 1664525u + 1013904223u;
    return self->random >> 16;
}

static void book_end(shared *all, const quire_event *event) {
    uintptr_t tag = (uintptr_t)event->tag;
    pthread_mutex_lock(&all->lock);
    CHECK(tag < REQUESTS);
    CHECK_EQUAL(all->terminals[tag], 0);
    CHECK(event->kind == QUIRE_EVENT_FINISHED || event->kind == QUIRE_EVENT_CANCELLED);
    all->terminals[tag]++;
    all->ended++;
    pthread_mutex_unlock(&all->lock);
}

static bool all_ended(shared *all) {
    pthread_mutex_lock(&all->lock);
    bool ended = all->ended == REQUESTS;
    pthread_mutex_unlock(&all->lock);
    return ended;
}

/* Takes one event, by polling or by waiting. With several readers a delta may be booked after the end that
 * another reader took, so only the ends are counted here. */
static void take_one(worker *self) {
    quire_event *event = NULL;
    quire_status status = self->index % 2 == 0 ? quire_engine_poll(self->all->engine, &event, NULL)
                                               : quire_engine_wait(self->all->engine, 2, &event, NULL);
    CHECK(status == QUIRE_OK || status == QUIRE_TIMEOUT);
    if (event == NULL) {
        sched_yield();
        return;
    }
    if (event->kind != QUIRE_EVENT_DELTA) {
        book_end(self->all, event);
    }
    quire_event_free(event);
}

static void *work(void *user) {
    worker *self = user;
    uint64_t mine[REQUESTS_EACH];
    for (size_t i = 0; i < REQUESTS_EACH; i++) {
        quire_request_options request = request_for(1 + next_random(self) % 40);
        uint32_t prompt[2] = {(uint32_t)(next_random(self) % 250), (uint32_t)self->index};
        request.prompt_tokens = prompt;
        request.prompt_token_count = 2;
        request.tag = (void *)(uintptr_t)(self->index * REQUESTS_EACH + i);
        mine[i] = submit(self->all->engine, &request);
        if (next_random(self) % 3 == 0) {
            quire_status status = quire_engine_cancel(self->all->engine, mine[next_random(self) % (i + 1)], NULL);
            CHECK(status == QUIRE_OK || status == QUIRE_NOT_FOUND);
        }
        take_one(self);
        if (i % 16 == 0) {
            statistics_of(self->all->engine);
        }
    }
    while (!all_ended(self->all)) {
        take_one(self);
    }
    return NULL;
}

int main(void) {
    test_guard_against_hanging();
    static shared all;
    quire_engine_options options = options_for(new_model("{\"step_micros\": 50}"));
    options.max_sequences = 16;
    options.max_waiting = REQUESTS;
    all.engine = engine_from(&options);
    pthread_mutex_init(&all.lock, NULL);

    pthread_t threads[THREADS];
    worker workers[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        workers[i] = (worker){.all = &all, .index = i, .random = (unsigned)i + 1};
        CHECK_EQUAL(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    }
    for (size_t i = 0; i < REQUESTS; i++) {
        CHECK_EQUAL(all.terminals[i], 1);
    }
    quire_statistics statistics = statistics_of(all.engine);
    CHECK_EQUAL(statistics.requests_accepted, REQUESTS);
    CHECK_EQUAL(statistics.requests_finished + statistics.requests_cancelled, REQUESTS);
    quire_event *event = NULL;
    quire_error *error = NULL;
    CHECK_OK(quire_engine_poll(all.engine, &event, &error), error);
    CHECK(event == NULL);
    check_pages_are_back(all.engine);
    check_engine_works(all.engine);
    release(all.engine);
    return 0;
}
