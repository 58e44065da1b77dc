/* Faults on the engine's thread, injected by the mock: what is in flight fails with its status and a
 * message, what waits and what comes later is answered. Without the mock these faults cannot be made, and the
 * program counts as skipped. */
#include "model.h"

typedef struct fault {
    const char *mock;
    quire_status status;
} fault;

static bool is_mock(const quire_engine *engine) {
    quire_model_info info;
    quire_error *error = NULL;
    memset(&info, 0, sizeof info);
    info.struct_size = sizeof info;
    CHECK_OK(quire_engine_model_info(engine, &info, &error), error);
    return strstr(info.device, "mock") != NULL;
}

static bool survives(const fault *injected) {
    enum { REQUESTS = 3 };
    quire_engine *engine = engine_for(new_model(injected->mock));
    if (!is_mock(engine)) {
        release(engine);
        return false;
    }
    answer answers[REQUESTS];
    memset(answers, 0, sizeof answers);
    for (size_t i = 0; i < REQUESTS; i++) {
        quire_request_options request = request_for(100);
        request.tag = &answers[i];
        answers[i].request = submit(engine, &request);
    }
    size_t failed = 0;
    for (size_t ended = 0; ended < REQUESTS;) {
        quire_event *event = NULL;
        quire_error *error = NULL;
        CHECK_OK(quire_engine_wait(engine, -1, &event, &error), error);
        answer_add(event->tag, event);
        ended += event->kind != QUIRE_EVENT_DELTA;
        failed += event->kind == QUIRE_EVENT_FAILED;
        quire_event_free(event);
    }
    /* Whoever was submitted before step 5 was in flight then; the first one always was. */
    CHECK(failed >= 1);
    CHECK_EQUAL(answers[0].end, QUIRE_EVENT_FAILED);
    for (size_t i = 0; i < REQUESTS; i++) {
        CHECK(answers[i].end == QUIRE_EVENT_FINISHED || answers[i].status == injected->status);
        answer_clear(&answers[i]);
    }
    CHECK_EQUAL(statistics_of(engine).requests_failed, failed);
    check_pages_are_back(engine);
    check_engine_works(engine);
    release(engine);
    return true;
}

int main(void) {
    test_guard_against_hanging();
    const fault faults[] = {
        {"{\"panic_at_step\": 5}", QUIRE_INTERNAL},
        {"{\"fail_at_step\": 5}", QUIRE_DEVICE_ERROR},
    };
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        if (!survives(&faults[i])) {
            puts("panic: not the mock build, nothing to inject");
            return 77;
        }
    }
    return 0;
}
