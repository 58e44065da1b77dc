/* Events taken with poll and wait: order, joining of unread deltas, tags, timeouts, refusals.
 *
 * runs-on: mock mlx */
#include "model.h"

#include <pthread.h>
#include <sched.h>

static void polling_takes_what_waiting_would(const char *model) {
    quire_engine *engine = engine_for(model);
    answer waited = wait_for_answer(engine, submit_for(engine, 40));
    answer polled = {0};
    polled.request = submit_for(engine, 40);
    while (polled.terminals == 0) {
        quire_event *event = NULL;
        quire_error *error = NULL;
        CHECK_OK(quire_engine_poll(engine, &event, &error), error);
        if (event == NULL) {
            sched_yield();
            continue;
        }
        answer_add(&polled, event);
        quire_event_free(event);
    }
    CHECK_EQUAL(polled.token_count, 40);
    CHECK_EQUAL(polled.text_len, waited.text_len);
    CHECK(memcmp(polled.text, waited.text, waited.text_len) == 0);
    answer_clear(&polled);
    answer_clear(&waited);
    release(engine);
}

static void nothing_to_take(const char *model) {
    quire_engine *engine = engine_for(model);
    quire_error *error = NULL;
    quire_event *event = (quire_event *)&error; /* must be overwritten */
    CHECK_OK(quire_engine_poll(engine, &event, &error), error);
    CHECK(event == NULL);
    CHECK_FAILS(quire_engine_wait(engine, 0, &event, &error), error, QUIRE_TIMEOUT, "");
    CHECK_FAILS(quire_engine_wait(engine, 3, &event, &error), error, QUIRE_TIMEOUT, "");
    CHECK_EQUAL(quire_engine_wait(engine, 1, &event, NULL), QUIRE_TIMEOUT);
    CHECK(event == NULL);
    quire_event_free(NULL);
    release(engine);
}

/* One terminal event each, deltas before it, every event with its request's tag. */
static void each_request_ends_once(const char *model) {
    enum { REQUESTS = 50 };
    quire_engine *engine = engine_for(model);
    answer answers[REQUESTS];
    memset(answers, 0, sizeof answers);
    for (uint32_t i = 0; i < REQUESTS; i++) {
        quire_request_options request = request_for(1 + i % 7);
        request.tag = &answers[i];
        answers[i].request = submit(engine, &request);
    }
    for (size_t ended = 0; ended < REQUESTS;) {
        quire_event *event = NULL;
        quire_error *error = NULL;
        CHECK_OK(quire_engine_wait(engine, -1, &event, &error), error);
        answer_add(event->tag, event);
        ended += event->kind != QUIRE_EVENT_DELTA;
        quire_event_free(event);
    }
    for (uint32_t i = 0; i < REQUESTS; i++) {
        CHECK_EQUAL(answers[i].end, QUIRE_EVENT_FINISHED);
        CHECK_EQUAL(answers[i].token_count, 1 + i % 7);
        CHECK_EQUAL(answers[i].generated_tokens, 1 + i % 7);
        CHECK_EQUAL(answers[i].prompt_tokens, 5);
        answer_clear(&answers[i]);
    }
    quire_error *error = NULL;
    quire_event *event = NULL;
    CHECK_OK(quire_engine_poll(engine, &event, &error), error);
    CHECK(event == NULL);
    release(engine);
}

/* Who does not read finds all that was said in one delta, and then the end. */
static void unread_deltas_are_joined(const char *model) {
    quire_engine *engine = engine_for(model);
    quire_error *error = NULL;
    answer result = {0};
    result.request = submit_for(engine, 300);
    CHECK_OK(quire_engine_shutdown(engine, QUIRE_SHUTDOWN_DRAIN, -1, &error), error);
    quire_event *event = NULL;
    CHECK_OK(quire_engine_poll(engine, &event, &error), error);
    CHECK(event != NULL);
    CHECK_EQUAL(event->token_count, 300);
    answer_add(&result, event);
    quire_event_free(event);
    CHECK_OK(quire_engine_poll(engine, &event, &error), error);
    CHECK(event != NULL);
    CHECK_EQUAL(event->kind, QUIRE_EVENT_FINISHED);
    answer_add(&result, event);
    quire_event_free(event);
    CHECK_FAILS(quire_engine_poll(engine, &event, &error), error, QUIRE_SHUT_DOWN, "");
    answer_clear(&result);
    release(engine);
}

/* The text of the deltas is the text of their tokens. */
static void text_goes_with_its_tokens(const char *model) {
    quire_engine *engine = engine_for(model);
    uint32_t tokens[64];
    size_t count = 0;
    answer result = {0};
    result.request = submit_for(engine, 64);
    while (result.terminals == 0) {
        quire_event *event = NULL;
        quire_error *error = NULL;
        CHECK_OK(quire_engine_wait(engine, -1, &event, &error), error);
        CHECK(count + event->token_count <= 64);
        for (size_t i = 0; i < event->token_count; i++) {
            tokens[count++] = event->tokens[i];
        }
        answer_add(&result, event);
        quire_event_free(event);
    }
    char text[1024];
    size_t length = 0;
    quire_error *error = NULL;
    CHECK_EQUAL(count, 64);
    CHECK_OK(quire_engine_detokenize(engine, tokens, count, 1, text, sizeof text, &length, &error), error);
    CHECK(length <= sizeof text);
    CHECK_EQUAL(length, result.text_len);
    CHECK(memcmp(text, result.text, length) == 0);
    answer_clear(&result);
    release(engine);
}

/* A stop token ends the answer, is told, and stays out of it. */
static void a_stop_token_is_told(const char *model) {
    quire_engine *engine = engine_for(model);
    quire_error *error = NULL;
    quire_event *event = NULL;
    uint64_t id = submit_for(engine, 1);
    CHECK_OK(quire_engine_wait(engine, -1, &event, &error), error);
    CHECK_EQUAL(event->request, id);
    CHECK_EQUAL(event->token_count, 1);
    uint32_t first = event->tokens[0];
    quire_event_free(event);
    CHECK_OK(quire_engine_wait(engine, -1, &event, &error), error);
    quire_event_free(event);

    quire_request_options request = request_for(50);
    request.stop_tokens = &first;
    request.stop_token_count = 1;
    answer result = wait_for_answer(engine, submit(engine, &request));
    CHECK_EQUAL(result.end, QUIRE_EVENT_FINISHED);
    CHECK_EQUAL(result.finish_reason, QUIRE_FINISH_STOP_TOKEN);
    CHECK_EQUAL(result.stop_token, first);
    CHECK_EQUAL(result.token_count, 0);
    CHECK_EQUAL(result.generated_tokens, 1);
    answer_clear(&result);
    release(engine);
}

static void *shut_down(void *engine) {
    quire_error *error = NULL;
    CHECK_OK(quire_engine_shutdown(engine, QUIRE_SHUTDOWN_CANCEL, -1, &error), error);
    return NULL;
}

/* A thread that waits without end is woken by shutdown. */
static void shutdown_ends_a_wait(const char *model) {
    quire_engine *engine = engine_for(model);
    quire_error *error = NULL;
    quire_event *event = NULL;
    pthread_t other;
    CHECK_EQUAL(pthread_create(&other, NULL, shut_down, engine), 0);
    CHECK_FAILS(quire_engine_wait(engine, -1, &event, &error), error, QUIRE_SHUT_DOWN, "");
    CHECK_EQUAL(pthread_join(other, NULL), 0);
    release(engine);
}

/* A request that is late fails with its own status. */
static void a_deadline_fails_a_request(const char *slow) {
    quire_engine *engine = engine_for(slow);
    quire_request_options request = request_for(8000);
    request.timeout_ms = 5;
    answer result = wait_for_answer(engine, submit(engine, &request));
    CHECK_EQUAL(result.end, QUIRE_EVENT_FAILED);
    CHECK_EQUAL(result.status, QUIRE_DEADLINE_EXCEEDED);
    answer_clear(&result);
    check_engine_works(engine);
    release(engine);
}

/* Requests whose end was not taken count against the limit. */
static void a_full_queue_refuses(const char *model) {
    quire_engine_options options = options_for(model);
    options.max_sequences = 1;
    options.max_waiting = 1;
    quire_engine *engine = engine_from(&options);
    quire_error *error = NULL;
    uint64_t id = 0;
    quire_request_options request = request_for(1);
    submit(engine, &request);
    submit(engine, &request);
    CHECK_FAILS(quire_engine_submit(engine, &request, &id, &error), error, QUIRE_QUEUE_FULL, "");
    CHECK_EQUAL(id, 0);
    for (bool ended = false; !ended;) {
        quire_event *event = NULL;
        CHECK_OK(quire_engine_wait(engine, -1, &event, &error), error);
        ended = event->kind != QUIRE_EVENT_DELTA;
        quire_event_free(event);
    }
    submit(engine, &request);
    release(engine);
}

int main(void) {
    test_guard_against_hanging();
    const char *model = new_model(NULL);
    const char *slow = slow_model();
    polling_takes_what_waiting_would(model);
    nothing_to_take(model);
    each_request_ends_once(model);
    unread_deltas_are_joined(model);
    text_goes_with_its_tokens(model);
    a_stop_token_is_told(model);
    shutdown_ends_a_wait(model);
    a_deadline_fails_a_request(slow);
    a_full_queue_refuses(model);
    return 0;
}
