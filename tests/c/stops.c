/* Stop strings: what ends an answer is not in it, and the event says which it was.
 *
 * runs-on: mock */
#include "model.h"

static quire_string string_of(const char *text) {
    quire_string string = {text, strlen(text)};
    return string;
}

static void refused(const quire_engine *engine, const quire_string *stops, size_t count, quire_status status,
                    const char *names) {
    quire_request_options request = request_for(4);
    quire_error *error = NULL;
    uint64_t id = 0;
    request.stop_strings = stops;
    request.stop_string_count = count;
    CHECK_FAILS(quire_engine_submit(engine, &request, &id, &error), error, status, names);
    CHECK_EQUAL(id, 0);
}

static void bad_ones_are_refused(const quire_engine *engine) {
    size_t megabyte = 1 << 20;
    char *long_text = malloc(megabyte);
    CHECK(long_text != NULL);
    memset(long_text, 'x', megabyte);
    quire_string many[65];
    for (size_t i = 0; i < 65; i++) {
        many[i] = string_of("stop");
    }
    const quire_string empty[] = {string_of("ok"), {NULL, 0}};
    const quire_string nothing[] = {{NULL, 3}};
    const quire_string huge[] = {{long_text, megabyte}};
    const quire_string no_text[] = {string_of("\xff")};
    refused(engine, empty, 2, QUIRE_INVALID_ARGUMENT, "stop_strings[1]");
    refused(engine, nothing, 1, QUIRE_INVALID_ARGUMENT, "stop_strings[0]");
    refused(engine, huge, 1, QUIRE_INVALID_ARGUMENT, "stop_strings[0]");
    refused(engine, no_text, 1, QUIRE_INVALID_UTF8, "stop_strings[0]");
    refused(engine, many, 65, QUIRE_INVALID_ARGUMENT, "stop_strings");
    refused(engine, NULL, 2, QUIRE_INVALID_ARGUMENT, "stop_strings");
    free(long_text);
}

static void the_answer_ends_before_it(const quire_engine *engine) {
    answer whole = wait_for_answer(engine, submit_for(engine, 40));
    CHECK(whole.text_len > 12);
    /* From a character's start to another's. */
    size_t from = 8;
    size_t to = 12;
    while ((whole.text[from] & 0xc0) == 0x80) {
        from++;
    }
    while ((whole.text[to] & 0xc0) == 0x80) {
        to++;
    }
    const quire_string stops[] = {string_of("never said"), {whole.text + from, to - from}};
    quire_request_options request = request_for(40);
    request.stop_strings = stops;
    request.stop_string_count = 2;
    uint64_t id = submit(engine, &request);
    size_t length = 0;
    for (bool more = true; more;) {
        quire_event *event = NULL;
        quire_error *error = NULL;
        CHECK_OK(quire_engine_wait(engine, -1, &event, &error), error);
        CHECK_EQUAL(event->request, id);
        CHECK(memcmp(event->text, whole.text + length, event->text_len) == 0);
        length += event->text_len;
        more = event->kind == QUIRE_EVENT_DELTA;
        if (!more) {
            CHECK_EQUAL(event->kind, QUIRE_EVENT_FINISHED);
            CHECK_EQUAL(event->finish_reason, QUIRE_FINISH_STOP_STRING);
            CHECK_EQUAL(event->stop_string, 1);
        }
        quire_event_free(event);
    }
    CHECK(length <= from);
    answer_clear(&whole);
}

/* A program built before there were stop strings still runs. */
static void an_older_struct_has_none(const quire_engine *engine) {
    quire_request_options request = request_for(7);
    request.stop_strings = (const quire_string *)(uintptr_t)1;
    request.stop_string_count = 99;
    request.struct_size = offsetof(quire_request_options, stop_strings);
    answer result = wait_for_answer(engine, submit(engine, &request));
    CHECK_EQUAL(result.finish_reason, QUIRE_FINISH_LENGTH);
    answer_clear(&result);
}

int main(void) {
    test_guard_against_hanging();
    quire_engine *engine = engine_for(new_model(NULL));
    bad_ones_are_refused(engine);
    the_answer_ends_before_it(engine);
    an_older_struct_has_none(engine);
    check_engine_works(engine);
    check_pages_are_back(engine);
    release(engine);
    return 0;
}
