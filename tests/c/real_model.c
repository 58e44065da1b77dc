/* What an application relies on, with a real model: text streams as whole characters; an answer is the same
 * alone, among others and from a warm cache; a seed repeats a sampled answer.
 *
 * runs-on: mlx */
#include "model.h"

enum { ANSWERS = 6, ANSWER_TOKENS = 16 };

static const char *const prompts[ANSWERS] = {
    "The capital of France is", "def fibonacci(n):\n", "Q: What is 17 + 25?\nA:",
    "日本の首都は", "Here is a list of emoji: 😀 👩‍🚀 🎉", "  Once upon a time, in a café in Zürich,",
};

/* Whether text is whole, well-formed UTF-8; deltas hold no half characters, so each must be. */
static bool is_utf8(const char *text, size_t length) {
    const unsigned char *bytes = (const unsigned char *)text;
    for (size_t i = 0; i < length;) {
        size_t size = bytes[i] < 0x80 ? 1 : bytes[i] < 0xc2 ? 0 : bytes[i] < 0xe0 ? 2 : bytes[i] < 0xf0 ? 3 : 4;
        if (size == 0 || bytes[i] > 0xf4 || size > length - i) {
            return false;
        }
        for (size_t k = 1; k < size; k++) {
            if ((bytes[i + k] & 0xc0) != 0x80) {
                return false;
            }
        }
        i += size;
    }
    return true;
}

static quire_request_options request_text(const char *prompt) {
    quire_request_options request = request_for(ANSWER_TOKENS);
    request.prompt_tokens = NULL;
    request.prompt_token_count = 0;
    request.prompt = prompt;
    request.prompt_len = strlen(prompt);
    return request;
}

/* Takes events until `count` answers, each its request's tag, have ended. */
static void collect(const quire_engine *engine, size_t count) {
    for (size_t ended = 0; ended < count;) {
        quire_event *event = NULL;
        quire_error *error = NULL;
        CHECK_OK(quire_engine_wait(engine, -1, &event, &error), error);
        CHECK(is_utf8(event->text, event->text_len));
        answer_add(event->tag, event);
        ended += event->kind != QUIRE_EVENT_DELTA;
        quire_event_free(event);
    }
}

static void ask(const quire_engine *engine, quire_request_options *request, answer *into) {
    request->tag = into;
    into->request = submit(engine, request);
}

static void check_same(const answer *left, const answer *right) {
    CHECK_EQUAL(left->end, QUIRE_EVENT_FINISHED);
    CHECK_EQUAL(right->end, QUIRE_EVENT_FINISHED);
    CHECK_EQUAL(left->token_count, ANSWER_TOKENS);
    CHECK_TEXT(left->text, right->text);
}

static void alone_together_and_warm(const quire_engine *engine) {
    static answer alone[ANSWERS];
    static answer together[ANSWERS];
    static answer warm[ANSWERS];
    for (size_t i = 0; i < ANSWERS; i++) {
        quire_request_options request = request_text(prompts[i]);
        request.cache_salt = "alone";
        request.cache_salt_len = 5;
        ask(engine, &request, &alone[i]);
        collect(engine, 1);
        CHECK_EQUAL(alone[i].cached_tokens, 0);
    }
    for (size_t i = 0; i < ANSWERS; i++) {
        quire_request_options request = request_text(prompts[i]);
        ask(engine, &request, &together[i]);
    }
    collect(engine, ANSWERS);
    for (size_t i = 0; i < ANSWERS; i++) {
        quire_request_options request = request_text(prompts[i]);
        ask(engine, &request, &warm[i]);
        collect(engine, 1);
        CHECK(warm[i].cached_tokens > 0);
        check_same(&alone[i], &together[i]);
        check_same(&alone[i], &warm[i]);
        answer_clear(&alone[i]);
        answer_clear(&together[i]);
        answer_clear(&warm[i]);
    }
}

static void a_seed_repeats_an_answer(const quire_engine *engine) {
    static answer first;
    static answer second;
    static answer other;
    quire_request_options request = request_text(prompts[5]);
    request.temperature = 0.9f;
    request.top_k = 40;
    request.top_p = 0.95f;
    request.seed = 7;
    ask(engine, &request, &first);
    collect(engine, 1);
    ask(engine, &request, &second);
    request.seed = 8;
    ask(engine, &request, &other);
    collect(engine, 2);
    check_same(&first, &second);
    CHECK(strcmp(first.text, other.text) != 0);
    answer_clear(&first);
    answer_clear(&second);
    answer_clear(&other);
}

int main(int argc, char **argv) {
    test_guard_against_hanging();
    CHECK_EQUAL(argc, 2);
    quire_engine *engine = engine_for(argv[1]);
    alone_together_and_warm(engine);
    a_seed_repeats_an_answer(engine);
    check_pages_are_back(engine);
    release(engine);
    return 0;
}
