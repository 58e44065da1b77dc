/* Cancelling: before, during and after, unknown and doubled ids, everything at once.
 *
 * runs-on: mock mlx */
#include "model.h"

static void before_anything_came(const char *slow) {
    quire_engine *engine = engine_for(slow);
    quire_error *error = NULL;
    uint64_t id = submit_for(engine, 8000);
    CHECK_OK(quire_engine_cancel(engine, id, &error), error);
    answer result = wait_for_answer(engine, id);
    CHECK_EQUAL(result.end, QUIRE_EVENT_CANCELLED);
    CHECK(result.token_count < 8000);
    answer_clear(&result);
    check_pages_are_back(engine);
    check_engine_works(engine);
    release(engine);
}

static void in_the_middle(const char *slow) {
    quire_engine *engine = engine_for(slow);
    quire_error *error = NULL;
    answer result = {0};
    result.request = submit_for(engine, 8000);
    while (result.terminals == 0) {
        quire_event *event = NULL;
        CHECK_OK(quire_engine_wait(engine, -1, &event, &error), error);
        answer_add(&result, event);
        if (event->kind == QUIRE_EVENT_DELTA && result.deltas == 3) {
            CHECK_OK(quire_engine_cancel(engine, result.request, &error), error);
        }
        quire_event_free(event);
    }
    CHECK_EQUAL(result.end, QUIRE_EVENT_CANCELLED);
    CHECK(result.token_count >= 3 && result.token_count < 8000);
    CHECK(result.generated_tokens >= result.token_count);
    answer_clear(&result);
    check_pages_are_back(engine);
    check_engine_works(engine);
    release(engine);
}

static void in_the_middle_of_a_prompt(void) {
    enum { PROMPT = 4000 };
    /* 250 steps that take 5 seconds: whoever cancels after the second is in time. */
    quire_engine_options options = options_for(new_model("{\"step_micros\": 20000}"));
    options.max_sequences = 4;
    options.max_step_tokens = 16;
    quire_engine *engine = engine_from(&options);
    quire_error *error = NULL;
    uint32_t *tokens = calloc(PROMPT, sizeof *tokens);
    CHECK(tokens != NULL);
    quire_request_options request = request_for(10);
    request.prompt_tokens = tokens;
    request.prompt_token_count = PROMPT;
    uint64_t id = submit(engine, &request);
    free(tokens);
    for (uint64_t start = statistics_of(engine).steps; statistics_of(engine).steps < start + 2;) {
    }
    CHECK_OK(quire_engine_cancel(engine, id, &error), error);
    answer result = wait_for_answer(engine, id);
    CHECK_EQUAL(result.end, QUIRE_EVENT_CANCELLED);
    CHECK_EQUAL(result.token_count, 0);
    CHECK_EQUAL(result.prompt_tokens, PROMPT);
    answer_clear(&result);
    check_pages_are_back(engine);
    release(engine);
}

static void while_waiting(const char *slow) {
    quire_engine_options options = options_for(slow);
    options.max_sequences = 1;
    quire_engine *engine = engine_from(&options);
    quire_error *error = NULL;
    uint64_t running = submit_for(engine, 8000);
    quire_event *event = NULL;
    CHECK_OK(quire_engine_wait(engine, -1, &event, &error), error);
    quire_event_free(event);
    uint64_t waiting = submit_for(engine, 8000);
    CHECK_OK(quire_engine_cancel(engine, waiting, &error), error);
    for (bool ended = false; !ended;) {
        CHECK_OK(quire_engine_wait(engine, -1, &event, &error), error);
        if (event->request == waiting) {
            CHECK_EQUAL(event->kind, QUIRE_EVENT_CANCELLED);
            CHECK_EQUAL(event->generated_tokens, 0);
            ended = true;
        } else {
            CHECK_EQUAL(event->kind, QUIRE_EVENT_DELTA);
        }
        quire_event_free(event);
    }
    CHECK_OK(quire_engine_cancel(engine, running, &error), error);
    answer rest = wait_for_answer(engine, running);
    CHECK_EQUAL(rest.end, QUIRE_EVENT_CANCELLED);
    answer_clear(&rest);
    release(engine);
}

static void unknown_and_ended_and_doubled_ids(const char *model, const char *slow) {
    quire_error *error = NULL;
    quire_engine *engine = engine_for(model);
    CHECK_FAILS(quire_engine_cancel(engine, 0, &error), error, QUIRE_NOT_FOUND, "0");
    CHECK_FAILS(quire_engine_cancel(engine, 12345, &error), error, QUIRE_NOT_FOUND, "12345");
    CHECK_FAILS(quire_engine_cancel(engine, UINT64_MAX, &error), error, QUIRE_NOT_FOUND, "18446744073709551615");
    uint64_t id = submit_for(engine, 3);
    answer result = wait_for_answer(engine, id);
    CHECK_EQUAL(result.end, QUIRE_EVENT_FINISHED);
    answer_clear(&result);
    CHECK_FAILS(quire_engine_cancel(engine, id, &error), error, QUIRE_NOT_FOUND, "");
    check_engine_works(engine);
    release(engine);

    engine = engine_for(slow);
    id = submit_for(engine, 8000);
    CHECK_OK(quire_engine_cancel(engine, id, &error), error);
    CHECK_FAILS(quire_engine_cancel(engine, id, &error), error, QUIRE_NOT_FOUND, "");
    result = wait_for_answer(engine, id);
    CHECK_EQUAL(result.end, QUIRE_EVENT_CANCELLED);
    answer_clear(&result);
    release(engine);
}

static void everything_at_once(const char *slow) {
    enum { REQUESTS = 200 };
    quire_engine *engine = engine_for(slow);
    quire_error *error = NULL;
    CHECK_OK(quire_engine_cancel_all(engine, &error), error);
    static answer answers[REQUESTS];
    for (size_t i = 0; i < REQUESTS; i++) {
        quire_request_options request = request_for(8000);
        request.tag = &answers[i];
        answers[i].request = submit(engine, &request);
    }
    CHECK_OK(quire_engine_cancel_all(engine, &error), error);
    for (size_t ended = 0; ended < REQUESTS;) {
        quire_event *event = NULL;
        CHECK_OK(quire_engine_wait(engine, -1, &event, &error), error);
        answer_add(event->tag, event);
        ended += event->kind != QUIRE_EVENT_DELTA;
        quire_event_free(event);
    }
    for (size_t i = 0; i < REQUESTS; i++) {
        CHECK_EQUAL(answers[i].end, QUIRE_EVENT_CANCELLED);
        answer_clear(&answers[i]);
    }
    CHECK_EQUAL(statistics_of(engine).requests_cancelled, REQUESTS);
    check_pages_are_back(engine);
    check_engine_works(engine);
    release(engine);
}

int main(void) {
    test_guard_against_hanging();
    const char *model = new_model(NULL);
    const char *slow = slow_model();
    before_anything_came(slow);
    in_the_middle(slow);
    in_the_middle_of_a_prompt();
    while_waiting(slow);
    unknown_and_ended_and_doubled_ids(model, slow);
    everything_at_once(slow);
    return 0;
}
