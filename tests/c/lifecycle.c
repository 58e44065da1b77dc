/* Engines from creation to release: requests in text and tokens, draining, cancelling, and what is refused
 * after shutdown.
 *
 * runs-on: mock mlx */
#include "model.h"

#include <pthread.h>

static void tokens_and_text_are_answered(const char *model) {
    quire_engine *engine = engine_for(model);
    check_engine_works(engine);

    quire_request_options request = request_for(12);
    request.prompt_tokens = NULL;
    request.prompt_token_count = 0;
    request.prompt = "Grüße";
    request.prompt_len = strlen(request.prompt);
    answer result = wait_for_answer(engine, submit(engine, &request));
    CHECK_EQUAL(result.end, QUIRE_EVENT_FINISHED);
    CHECK_EQUAL(result.token_count, 12);
    CHECK_EQUAL(result.generated_tokens, 12);
    CHECK(result.prompt_tokens >= 7);
    answer_clear(&result);
    check_pages_are_back(engine);
    release(engine);
}

static void ids_are_new_each_time(const char *model) {
    quire_engine *engine = engine_for(model);
    uint64_t last = 0;
    for (int i = 0; i < 10; i++) {
        uint64_t id = submit_for(engine, 1);
        CHECK(id != last);
        answer result = wait_for_answer(engine, id);
        answer_clear(&result);
        last = id;
    }
    release(engine);
}

/* The prompt and everything else is copied: the caller's memory may change at once. */
static void a_request_is_copied(const char *model) {
    quire_engine *engine = engine_for(model);
    uint32_t tokens[4] = {1, 2, 3, 4};
    char salt[4] = {'s', 'a', 'l', 't'};
    quire_request_options request = request_for(20);
    request.prompt_tokens = tokens;
    request.prompt_token_count = 4;
    request.cache_salt = salt;
    request.cache_salt_len = sizeof salt;
    answer untouched = wait_for_answer(engine, submit(engine, &request));
    uint64_t id = submit(engine, &request);
    memset(tokens, 0xff, sizeof tokens);
    memset(salt, 0, sizeof salt);
    memset(&request, 0, sizeof request);
    answer changed = wait_for_answer(engine, id);
    CHECK_EQUAL(changed.end, QUIRE_EVENT_FINISHED);
    CHECK_EQUAL(changed.text_len, untouched.text_len);
    CHECK(memcmp(changed.text, untouched.text, changed.text_len) == 0);
    answer_clear(&untouched);
    answer_clear(&changed);
    release(engine);
}

static void two_engines_live_side_by_side(const char *model) {
    quire_engine *first = engine_for(model);
    quire_engine *second = engine_for(model);
    check_engine_works(second);
    check_engine_works(first);
    release(first);
    check_engine_works(second);
    release(second);
    quire_engine *third = engine_for(model);
    check_engine_works(third);
    release(third);
}

/* After shutdown: nothing is accepted, and SHUT_DOWN follows the last event. */
static void check_is_shut_down(quire_engine *engine) {
    quire_error *error = NULL;
    quire_event *event = NULL;
    uint64_t id = 77;
    quire_request_options request = request_for(1);
    CHECK_FAILS(quire_engine_submit(engine, &request, &id, &error), error, QUIRE_SHUT_DOWN, "shut down");
    CHECK_EQUAL(id, 77);
    CHECK_FAILS(quire_engine_poll(engine, &event, &error), error, QUIRE_SHUT_DOWN, "shut down");
    CHECK_FAILS(quire_engine_wait(engine, -1, &event, &error), error, QUIRE_SHUT_DOWN, "shut down");
    CHECK_FAILS(quire_engine_wait(engine, 1000, &event, &error), error, QUIRE_SHUT_DOWN, "shut down");
    CHECK(event == NULL);
    CHECK_OK(quire_engine_cancel_all(engine, &error), error);
    check_pages_are_back(engine);
    CHECK_OK(quire_engine_shutdown(engine, QUIRE_SHUTDOWN_CANCEL, 0, &error), error);
    CHECK_OK(quire_engine_shutdown(engine, QUIRE_SHUTDOWN_DRAIN, -1, &error), error);
}

static void draining_finishes_what_runs(const char *model) {
    quire_engine *engine = engine_for(model);
    quire_error *error = NULL;
    uint64_t id = submit_for(engine, 30);
    CHECK_OK(quire_engine_shutdown(engine, QUIRE_SHUTDOWN_DRAIN, -1, &error), error);
    answer result = wait_for_answer(engine, id);
    CHECK_EQUAL(result.end, QUIRE_EVENT_FINISHED);
    CHECK_EQUAL(result.token_count, 30);
    answer_clear(&result);
    check_is_shut_down(engine);
    release(engine);
}

static void a_deadline_cuts_a_drain_short(const char *model) {
    quire_engine *engine = engine_for(model);
    quire_error *error = NULL;
    uint64_t id = submit_for(engine, 8000);
    CHECK_OK(quire_engine_shutdown(engine, QUIRE_SHUTDOWN_DRAIN, 1, &error), error);
    answer result = wait_for_answer(engine, id);
    CHECK_EQUAL(result.end, QUIRE_EVENT_CANCELLED);
    CHECK(result.token_count < 8000);
    answer_clear(&result);
    check_is_shut_down(engine);
    release(engine);
}

static void cancelling_ends_what_runs(const char *model) {
    quire_engine *engine = engine_for(model);
    quire_error *error = NULL;
    uint64_t id = submit_for(engine, 8000);
    CHECK_OK(quire_engine_shutdown(engine, QUIRE_SHUTDOWN_CANCEL, -1, &error), error);
    answer result = wait_for_answer(engine, id);
    CHECK_EQUAL(result.end, QUIRE_EVENT_CANCELLED);
    answer_clear(&result);
    check_is_shut_down(engine);
    release(engine);
}

static void *drain_for_ever(void *engine) {
    quire_error *error = NULL;
    CHECK_OK(quire_engine_shutdown(engine, QUIRE_SHUTDOWN_DRAIN, -1, &error), error);
    return NULL;
}

static void the_stricter_shutdown_holds(const char *model) {
    quire_engine *engine = engine_for(model);
    quire_error *error = NULL;
    uint64_t id = submit_for(engine, 8000);
    pthread_t patient;
    CHECK_EQUAL(pthread_create(&patient, NULL, drain_for_ever, engine), 0);
    CHECK_OK(quire_engine_shutdown(engine, QUIRE_SHUTDOWN_CANCEL, -1, &error), error);
    CHECK_EQUAL(pthread_join(patient, NULL), 0);
    answer result = wait_for_answer(engine, id);
    CHECK_EQUAL(result.end, QUIRE_EVENT_CANCELLED);
    answer_clear(&result);
    release(engine);
}

static void release_needs_no_farewell(const char *model) {
    quire_error *error = NULL;
    CHECK_OK(quire_engine_release(NULL, &error), error);
    quire_engine *idle = engine_for(model);
    release(idle);
    quire_engine *busy = engine_for(model);
    for (int i = 0; i < 20; i++) {
        submit_for(busy, 8000);
    }
    release(busy);
}

/* An event outlives its engine. */
static void an_event_outlives_its_engine(const char *model) {
    quire_engine *engine = engine_for(model);
    quire_error *error = NULL;
    quire_event *event = NULL;
    submit_for(engine, 3);
    CHECK_OK(quire_engine_wait(engine, -1, &event, &error), error);
    release(engine);
    CHECK_EQUAL(event->kind, QUIRE_EVENT_DELTA);
    CHECK(event->token_count > 0);
    CHECK_EQUAL(event->text[event->text_len], '\0');
    quire_event_free(event);
}

int main(void) {
    test_guard_against_hanging();
    const char *model = new_model(NULL);
    const char *slow = slow_model();
    tokens_and_text_are_answered(model);
    ids_are_new_each_time(model);
    a_request_is_copied(model);
    two_engines_live_side_by_side(model);
    draining_finishes_what_runs(slow);
    a_deadline_cuts_a_drain_short(slow);
    cancelling_ends_what_runs(slow);
    the_stricter_shutdown_holds(slow);
    release_needs_no_farewell(slow);
    an_event_outlives_its_engine(model);
    return 0;
}
