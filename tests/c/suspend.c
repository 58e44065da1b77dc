/* Suspension: no step between suspend and resume; requests are accepted and cancelled meanwhile, and no way of
 * ending an engine waits for a resumption.
 *
 * runs-on: mock mlx */
#include "model.h"

/* Far longer than a step takes. */
enum { A_WHILE_MS = 100 };

static void suspend(const quire_engine *engine) {
    quire_error *error = NULL;
    CHECK_OK(quire_engine_suspend(engine, &error), error);
}

static void resume(const quire_engine *engine) {
    quire_error *error = NULL;
    CHECK_OK(quire_engine_resume(engine, &error), error);
}

/* Takes the events that are there, which must be deltas of this request, and checks that no more come. */
static size_t take_deltas_until_silence(const quire_engine *engine, uint64_t request) {
    size_t tokens = 0;
    for (;;) {
        quire_event *event = NULL;
        quire_status status = quire_engine_wait(engine, A_WHILE_MS, &event, NULL);
        if (status == QUIRE_TIMEOUT) {
            return tokens;
        }
        CHECK_EQUAL(status, QUIRE_OK);
        CHECK_EQUAL(event->kind, QUIRE_EVENT_DELTA);
        CHECK_EQUAL(event->request, request);
        tokens += event->token_count;
        quire_event_free(event);
    }
}

static void wait_for_first_token(const quire_engine *engine) {
    quire_event *event = NULL;
    quire_error *error = NULL;
    CHECK_OK(quire_engine_wait(engine, -1, &event, &error), error);
    CHECK_EQUAL(event->kind, QUIRE_EVENT_DELTA);
    quire_event_free(event);
}

static void nothing_runs_until_resumed(const char *slow) {
    quire_engine *engine = engine_for(slow);
    uint64_t first = submit_for(engine, 8000);
    suspend(engine);
    suspend(engine);
    take_deltas_until_silence(engine, first);
    uint64_t steps = statistics_of(engine).steps;
    uint64_t second = submit_for(engine, 5);
    CHECK_EQUAL(take_deltas_until_silence(engine, first), 0);
    CHECK_EQUAL(statistics_of(engine).steps, steps);
    CHECK_EQUAL(statistics_of(engine).requests_accepted, 2);

    /* Once is enough, however often it was suspended. */
    resume(engine);
    resume(engine);
    for (bool ended = false; !ended;) {
        quire_event *event = NULL;
        quire_error *error = NULL;
        CHECK_OK(quire_engine_wait(engine, -1, &event, &error), error);
        if (event->request == second && event->kind != QUIRE_EVENT_DELTA) {
            CHECK_EQUAL(event->kind, QUIRE_EVENT_FINISHED);
            CHECK_EQUAL(event->generated_tokens, 5);
            ended = true;
        }
        quire_event_free(event);
    }
    CHECK(statistics_of(engine).steps > steps);
    release(engine);
}

static void the_answer_is_the_same(const char *slow) {
    enum { TOKENS = 60 };
    quire_engine *engine = engine_for(slow);
    answer whole = wait_for_answer(engine, submit_for(engine, TOKENS));
    answer result = {0};
    result.request = submit_for(engine, TOKENS);
    while (result.terminals == 0) {
        quire_event *event = NULL;
        quire_error *error = NULL;
        suspend(engine);
        resume(engine);
        CHECK_OK(quire_engine_wait(engine, -1, &event, &error), error);
        answer_add(&result, event);
        quire_event_free(event);
    }
    CHECK_EQUAL(result.token_count, TOKENS);
    CHECK_EQUAL(result.text_len, whole.text_len);
    CHECK(memcmp(result.text, whole.text, whole.text_len) == 0);
    answer_clear(&whole);
    answer_clear(&result);
    release(engine);
}

static void a_request_is_cancelled_meanwhile(const char *slow) {
    quire_engine *engine = engine_for(slow);
    quire_error *error = NULL;
    uint64_t running = submit_for(engine, 5000);
    wait_for_first_token(engine);
    suspend(engine);
    take_deltas_until_silence(engine, running);
    CHECK_OK(quire_engine_cancel(engine, running, &error), error);
    answer result = wait_for_answer(engine, running);
    CHECK_EQUAL(result.end, QUIRE_EVENT_CANCELLED);
    answer_clear(&result);
    check_pages_are_back(engine);
    resume(engine);
    check_engine_works(engine);
    release(engine);
}

static void a_suspended_engine_ends(const char *slow) {
    quire_error *error = NULL;
    quire_engine *engine = engine_for(slow);
    submit_for(engine, 5000);
    suspend(engine);
    release(engine);

    engine = engine_for(slow);
    uint64_t id = submit_for(engine, 20);
    suspend(engine);
    CHECK_OK(quire_engine_shutdown(engine, QUIRE_SHUTDOWN_DRAIN, -1, &error), error);
    answer result = wait_for_answer(engine, id);
    CHECK_EQUAL(result.end, QUIRE_EVENT_FINISHED);
    CHECK_EQUAL(result.token_count, 20);
    answer_clear(&result);
    CHECK_FAILS(quire_engine_suspend(engine, &error), error, QUIRE_SHUT_DOWN, "shut down");
    resume(engine);
    release(engine);

    CHECK_FAILS(quire_engine_suspend(NULL, &error), error, QUIRE_INVALID_ARGUMENT, "engine");
    CHECK_FAILS(quire_engine_resume(NULL, &error), error, QUIRE_INVALID_ARGUMENT, "engine");
}

int main(void) {
    test_guard_against_hanging();
    const char *slow = slow_model();
    nothing_runs_until_resumed(slow);
    the_answer_is_the_same(slow);
    a_request_is_cancelled_meanwhile(slow);
    a_suspended_engine_ends(slow);
    return 0;
}
