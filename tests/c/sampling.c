/* Sampling settings and log-probabilities across the ABI, and the request struct of an older header.
 *
 * runs-on: mock mlx */
#include "model.h"

#include <math.h>

static void check_refused(quire_engine *engine, const quire_request_options *request, const char *says) {
    quire_error *error = NULL;
    uint64_t id = 0;
    CHECK_FAILS(quire_engine_submit(engine, request, &id, &error), error, QUIRE_INVALID_ARGUMENT, says);
}

static void settings_out_of_range_are_named(quire_engine *engine) {
    quire_request_options request = request_for(4);
    quire_logit_bias bias = {.token = UINT32_MAX, .bias = 1.0f};
    request.logit_bias = &bias;
    request.logit_bias_count = 1;
    check_refused(engine, &request, "logit_bias[0] is for token 4294967295");
    bias = (quire_logit_bias){.token = 1, .bias = NAN};
    check_refused(engine, &request, "logit_bias[0]");
    request = request_for(4);
    request.min_tokens = 5;
    check_refused(engine, &request, "min_tokens");
    request = request_for(4);
    request.repetition_penalty = -1.0f;
    check_refused(engine, &request, "repetition_penalty");
    request = request_for(4);
    request.top_logprobs = 3;
    check_refused(engine, &request, "top_logprobs");
    request = request_for(4);
    request.logprobs = 2;
    check_refused(engine, &request, "logprobs is 2");
}

/* Every token of every delta comes with its own log-probability and the most likely ones in order. */
static void log_probabilities_come_with_tokens(quire_engine *engine) {
    quire_request_options request = request_for(12);
    request.logprobs = 1;
    request.top_logprobs = 4;
    request.presence_penalty = 0.5f;
    request.penalty_window = 8;
    uint64_t id = submit(engine, &request);
    size_t tokens = 0;
    for (bool ended = false; !ended;) {
        quire_event *event = NULL;
        quire_error *error = NULL;
        CHECK_OK(quire_engine_wait(engine, -1, &event, &error), error);
        CHECK_EQUAL(event->request, id);
        ended = event->kind != QUIRE_EVENT_DELTA;
        if (event->token_count > 0) {
            CHECK(event->logprobs != NULL);
            CHECK_EQUAL(event->top_logprob_count, 4);
        }
        for (size_t i = 0; i < event->token_count; i++) {
            const quire_token_logprob *top = event->top_logprobs + i * event->top_logprob_count;
            CHECK(event->logprobs[i] <= 0.0f);
            CHECK(top[0].logprob >= event->logprobs[i] || top[0].token == event->tokens[i]);
            for (size_t k = 1; k < event->top_logprob_count; k++) {
                CHECK(top[k - 1].logprob >= top[k].logprob);
            }
        }
        tokens += event->token_count;
        quire_event_free(event);
    }
    CHECK_EQUAL(tokens, 12);
}

/* Several answers to one prompt: consecutive ids, each with its own events and index. */
static void answers_come_side_by_side(quire_engine *engine) {
    enum { ANSWERS = 3 };
    quire_request_options request = request_for(9);
    request.n = ANSWERS;
    check_refused(engine, &request, "temperature is 0");
    request.temperature = 1.0f;
    uint64_t first = submit(engine, &request);
    size_t tokens[ANSWERS] = {0};
    for (size_t ended = 0; ended < ANSWERS;) {
        quire_event *event = NULL;
        quire_error *error = NULL;
        CHECK_OK(quire_engine_wait(engine, -1, &event, &error), error);
        CHECK(event->request - first < ANSWERS);
        CHECK_EQUAL(event->answer_index, event->request - first);
        tokens[event->answer_index] += event->token_count;
        ended += event->kind != QUIRE_EVENT_DELTA;
        quire_event_free(event);
    }
    for (size_t i = 0; i < ANSWERS; i++) {
        CHECK_EQUAL(tokens[i], 9);
    }
}

/* A program built with the first header passes a shorter struct: what it lacks is at its default. */
static void an_older_struct_is_understood(quire_engine *engine) {
    quire_request_options request = request_for(7);
    answer now = wait_for_answer(engine, submit(engine, &request));
    memset((char *)&request + offsetof(quire_request_options, n), 0xff,
           sizeof request - offsetof(quire_request_options, n));
    request.struct_size = offsetof(quire_request_options, n);
    answer then = wait_for_answer(engine, submit(engine, &request));
    CHECK_EQUAL(then.token_count, 7);
    CHECK_EQUAL(then.text_len, now.text_len);
    CHECK(memcmp(then.text, now.text, now.text_len) == 0);
    answer_clear(&now);
    answer_clear(&then);
}

int main(void) {
    test_guard_against_hanging();
    quire_engine *engine = engine_for(new_model(NULL));
    settings_out_of_range_are_named(engine);
    log_probabilities_come_with_tokens(engine);
    answers_come_side_by_side(engine);
    an_older_struct_is_understood(engine);
    release(engine);
    return 0;
}
