/* Every argument that is wrong gets its documented status and a message that names it, and the engine
 * goes on.
 *
 * runs-on: mock mlx */
#include "model.h"

#include <math.h>

static const char *model;

static void null_is_refused_or_harmless(const quire_engine *engine) {
    quire_error *error = NULL;
    quire_engine *created = NULL;
    quire_engine_options options = options_for(model);
    quire_request_options request = request_for(1);
    quire_statistics statistics = statistics_of(engine);
    quire_model_info info = {0};
    quire_event *event = NULL;
    uint64_t id = 0;
    size_t count = 0;
    info.struct_size = sizeof info;

    CHECK_FAILS(quire_engine_options_init(NULL, sizeof options, &error), error, QUIRE_INVALID_ARGUMENT, "options");
    CHECK_FAILS(quire_request_options_init(NULL, sizeof request, &error), error, QUIRE_INVALID_ARGUMENT, "options");
    CHECK_FAILS(quire_engine_create(NULL, &created, &error), error, QUIRE_INVALID_ARGUMENT, "options");
    CHECK_FAILS(quire_engine_create(&options, NULL, &error), error, QUIRE_INVALID_ARGUMENT, "engine");
    CHECK_FAILS(quire_engine_shutdown(NULL, QUIRE_SHUTDOWN_CANCEL, 0, &error), error, QUIRE_INVALID_ARGUMENT, "engine");
    CHECK_FAILS(quire_engine_submit(NULL, &request, &id, &error), error, QUIRE_INVALID_ARGUMENT, "engine");
    CHECK_FAILS(quire_engine_submit(engine, NULL, &id, &error), error, QUIRE_INVALID_ARGUMENT, "options");
    CHECK_FAILS(quire_engine_submit(engine, &request, NULL, &error), error, QUIRE_INVALID_ARGUMENT, "request");
    CHECK_FAILS(quire_engine_cancel(NULL, 1, &error), error, QUIRE_INVALID_ARGUMENT, "engine");
    CHECK_FAILS(quire_engine_cancel_all(NULL, &error), error, QUIRE_INVALID_ARGUMENT, "engine");
    CHECK_FAILS(quire_engine_poll(NULL, &event, &error), error, QUIRE_INVALID_ARGUMENT, "engine");
    CHECK_FAILS(quire_engine_poll(engine, NULL, &error), error, QUIRE_INVALID_ARGUMENT, "event");
    CHECK_FAILS(quire_engine_wait(NULL, 0, &event, &error), error, QUIRE_INVALID_ARGUMENT, "engine");
    CHECK_FAILS(quire_engine_wait(engine, 0, NULL, &error), error, QUIRE_INVALID_ARGUMENT, "event");
    CHECK_FAILS(quire_engine_statistics(NULL, &statistics, &error), error, QUIRE_INVALID_ARGUMENT, "engine");
    CHECK_FAILS(quire_engine_statistics(engine, NULL, &error), error, QUIRE_INVALID_ARGUMENT, "statistics");
    CHECK_FAILS(quire_engine_model_info(NULL, &info, &error), error, QUIRE_INVALID_ARGUMENT, "engine");
    CHECK_FAILS(quire_engine_model_info(engine, NULL, &error), error, QUIRE_INVALID_ARGUMENT, "info");
    CHECK_FAILS(quire_engine_tokenize(NULL, "a", 1, 0, NULL, 0, &count, &error), error, QUIRE_INVALID_ARGUMENT,
                "engine");
    CHECK_FAILS(quire_engine_tokenize(engine, NULL, 1, 0, NULL, 0, &count, &error), error, QUIRE_INVALID_ARGUMENT,
                "text");
    CHECK_FAILS(quire_engine_tokenize(engine, "a", 1, 0, NULL, 1, &count, &error), error, QUIRE_INVALID_ARGUMENT,
                "tokens");
    CHECK_FAILS(quire_engine_tokenize(engine, "a", 1, 0, NULL, 0, NULL, &error), error, QUIRE_INVALID_ARGUMENT,
                "token_count");
    CHECK_FAILS(quire_engine_detokenize(NULL, some_tokens, 1, 0, NULL, 0, &count, &error), error,
                QUIRE_INVALID_ARGUMENT, "engine");
    CHECK_FAILS(quire_engine_detokenize(engine, NULL, 1, 0, NULL, 0, &count, &error), error,
                QUIRE_INVALID_ARGUMENT, "tokens");
    CHECK_FAILS(quire_engine_detokenize(engine, some_tokens, 1, 0, NULL, 1, &count, &error), error,
                QUIRE_INVALID_ARGUMENT, "text");
    CHECK_FAILS(quire_engine_detokenize(engine, some_tokens, 1, 0, NULL, 0, NULL, &error), error,
                QUIRE_INVALID_ARGUMENT, "text_len");
    CHECK(created == NULL && event == NULL);

    /* These take NULL for nothing to do. */
    CHECK_OK(quire_engine_release(NULL, &error), error);
    quire_event_free(NULL);
    quire_error_free(NULL);
    CHECK_EQUAL(quire_error_status(NULL), QUIRE_INVALID_ARGUMENT);
    CHECK_TEXT(quire_error_message(NULL), "");

    /* Nobody has to want the error. */
    CHECK_EQUAL(quire_engine_submit(NULL, &request, &id, NULL), QUIRE_INVALID_ARGUMENT);
    CHECK_EQUAL(quire_engine_options_init(NULL, 0, NULL), QUIRE_INVALID_ARGUMENT);
}

static void struct_sizes_are_checked(const quire_engine *engine) {
    quire_error *error = NULL;
    quire_engine *created = NULL;
    uint64_t id = 0;
    /* None, less than any version of a struct had, and more than this one has. */
    const size_t sizes[] = {0, 1, sizeof(size_t)};
    const size_t excesses[] = {1, 8, 4096};
    for (size_t i = 0; i < 6; i++) {
        /* Large enough for every size that is claimed. */
        union {
            quire_engine_options engine;
            quire_request_options request;
            quire_statistics statistics;
            quire_model_info info;
            char bytes[8192];
        } any;
        memset(&any, 0, sizeof any);
#define WRONG_SIZE(type) (i < 3 ? sizes[i] : sizeof(type) + excesses[i - 3])
        CHECK_FAILS(quire_engine_options_init(&any.engine, WRONG_SIZE(quire_engine_options), &error), error,
                    QUIRE_INVALID_STRUCT_SIZE, "struct_size");
        CHECK_FAILS(quire_request_options_init(&any.request, WRONG_SIZE(quire_request_options), &error), error,
                    QUIRE_INVALID_STRUCT_SIZE, "struct_size");
        any.engine = options_for(model);
        any.engine.struct_size = WRONG_SIZE(quire_engine_options);
        CHECK_FAILS(quire_engine_create(&any.engine, &created, &error), error, QUIRE_INVALID_STRUCT_SIZE,
                    "struct_size");
        any.request = request_for(1);
        any.request.struct_size = WRONG_SIZE(quire_request_options);
        CHECK_FAILS(quire_engine_submit(engine, &any.request, &id, &error), error, QUIRE_INVALID_STRUCT_SIZE,
                    "struct_size");
        any.statistics.struct_size = WRONG_SIZE(quire_statistics);
        CHECK_FAILS(quire_engine_statistics(engine, &any.statistics, &error), error, QUIRE_INVALID_STRUCT_SIZE,
                    "struct_size");
        any.info.struct_size = WRONG_SIZE(quire_model_info);
        CHECK_FAILS(quire_engine_model_info(engine, &any.info, &error), error, QUIRE_INVALID_STRUCT_SIZE,
                    "struct_size");
#undef WRONG_SIZE
    }
}

#define CHECK_OPTION_REFUSED(statement, expected, names)                                             \
    do {                                                                                             \
        quire_engine_options options = options_for(model);                                           \
        quire_engine *created_ = NULL;                                                               \
        quire_error *error_ = NULL;                                                                  \
        statement;                                                                                   \
        CHECK_FAILS(quire_engine_create(&options, &created_, &error_), error_, expected, names);     \
        CHECK(created_ == NULL);                                                                     \
    } while (0)

static void engine_options_are_checked(void) {
    CHECK_OPTION_REFUSED(options.model = NULL, QUIRE_INVALID_ARGUMENT, "model");
    CHECK_OPTION_REFUSED(options.model_len = 0, QUIRE_INVALID_ARGUMENT, "model");
    CHECK_OPTION_REFUSED((options.model = "a\0b", options.model_len = 3), QUIRE_INVALID_ARGUMENT, "model");
    CHECK_OPTION_REFUSED((options.model = "a\xff" "b", options.model_len = 3), QUIRE_INVALID_UTF8, "model");
    CHECK_OPTION_REFUSED(options.model_len = SIZE_MAX, QUIRE_INVALID_ARGUMENT, "model");
    CHECK_OPTION_REFUSED(options.max_sequences = 0, QUIRE_INVALID_ARGUMENT, "max_sequences");
    CHECK_OPTION_REFUSED(options.max_sequences = 4097, QUIRE_INVALID_ARGUMENT, "max_sequences");
    CHECK_OPTION_REFUSED(options.max_waiting = 1000001, QUIRE_INVALID_ARGUMENT, "max_waiting");
    CHECK_OPTION_REFUSED(options.max_step_tokens = 15, QUIRE_INVALID_ARGUMENT, "max_step_tokens");
    CHECK_OPTION_REFUSED(options.max_step_tokens = 32769, QUIRE_INVALID_ARGUMENT, "max_step_tokens");
    CHECK_OPTION_REFUSED(options.block_tokens = 0, QUIRE_INVALID_ARGUMENT, "block_tokens");
    CHECK_OPTION_REFUSED(options.block_tokens = 24, QUIRE_INVALID_ARGUMENT, "block_tokens");
    CHECK_OPTION_REFUSED(options.block_tokens = 2048, QUIRE_INVALID_ARGUMENT, "block_tokens");
    CHECK_OPTION_REFUSED(options.weight_format = -1, QUIRE_INVALID_ARGUMENT, "weight_format");
    CHECK_OPTION_REFUSED(options.weight_format = 3, QUIRE_INVALID_ARGUMENT, "weight_format");
    CHECK_OPTION_REFUSED(options.disable_prefix_sharing = 2, QUIRE_INVALID_ARGUMENT, "disable_prefix_sharing");
}

#define CHECK_REQUEST_REFUSED(statement, expected, names)                                            \
    do {                                                                                             \
        quire_request_options request = request_for(4);                                              \
        uint64_t id_ = 77;                                                                           \
        quire_error *error_ = NULL;                                                                  \
        statement;                                                                                   \
        CHECK_FAILS(quire_engine_submit(engine, &request, &id_, &error_), error_, expected, names);  \
        CHECK_EQUAL(id_, 77);                                                                        \
    } while (0)

static void set_text(quire_request_options *request, const char *text, size_t length) {
    request->prompt_tokens = NULL;
    request->prompt_token_count = 0;
    request->prompt = text;
    request->prompt_len = length;
}

static void prompts_are_checked(const quire_engine *engine, uint32_t max_context) {
    static uint32_t many[1 << 16];
    const uint32_t outside[] = {1, 2, VOCABULARY};
    const uint32_t far_outside[] = {UINT32_MAX};
    CHECK(max_context < sizeof many / sizeof many[0]);
    CHECK_REQUEST_REFUSED(set_text(&request, NULL, 0), QUIRE_INVALID_ARGUMENT, "prompt");
    CHECK_REQUEST_REFUSED(request.prompt = "both", QUIRE_INVALID_ARGUMENT, "prompt_tokens");
    CHECK_REQUEST_REFUSED((request.prompt = "both", request.prompt_len = 4), QUIRE_INVALID_ARGUMENT, "prompt_tokens");
    CHECK_REQUEST_REFUSED(request.prompt_token_count = 0, QUIRE_INVALID_ARGUMENT, "prompt");
    CHECK_REQUEST_REFUSED(request.prompt_token_count = SIZE_MAX, QUIRE_INVALID_ARGUMENT, "prompt_tokens");
    CHECK_REQUEST_REFUSED(set_text(&request, "caf\xc3", 4), QUIRE_INVALID_UTF8, "byte 3");
    CHECK_REQUEST_REFUSED(set_text(&request, "\xed\xa0\x80", 3), QUIRE_INVALID_UTF8, "byte 0");
    CHECK_REQUEST_REFUSED(set_text(&request, "text", SIZE_MAX), QUIRE_INVALID_ARGUMENT, "prompt");
    CHECK_REQUEST_REFUSED((request.prompt_tokens = outside, request.prompt_token_count = 3), QUIRE_INVALID_ARGUMENT,
                          "prompt_tokens[2]");
    CHECK_REQUEST_REFUSED((request.prompt_tokens = far_outside, request.prompt_token_count = 1),
                          QUIRE_INVALID_ARGUMENT, "prompt_tokens[0]");
    CHECK_REQUEST_REFUSED((request.prompt_tokens = many, request.prompt_token_count = max_context),
                          QUIRE_PROMPT_TOO_LONG, "context");
    CHECK_REQUEST_REFUSED((request.prompt_tokens = many, request.prompt_token_count = max_context + 1),
                          QUIRE_PROMPT_TOO_LONG, "context");
    CHECK_REQUEST_REFUSED(request.max_tokens = max_context, QUIRE_PROMPT_TOO_LONG, "max_tokens");
    CHECK_REQUEST_REFUSED(request.max_tokens = UINT32_MAX, QUIRE_PROMPT_TOO_LONG, "max_tokens");
}

static void settings_are_checked(const quire_engine *engine) {
    const uint32_t outside[] = {3, VOCABULARY};
    CHECK_REQUEST_REFUSED(request.max_tokens = 0, QUIRE_INVALID_ARGUMENT, "max_tokens");
    CHECK_REQUEST_REFUSED(request.temperature = -0.1f, QUIRE_INVALID_ARGUMENT, "temperature");
    CHECK_REQUEST_REFUSED(request.temperature = 100.5f, QUIRE_INVALID_ARGUMENT, "temperature");
    CHECK_REQUEST_REFUSED(request.temperature = NAN, QUIRE_INVALID_ARGUMENT, "temperature");
    CHECK_REQUEST_REFUSED(request.temperature = INFINITY, QUIRE_INVALID_ARGUMENT, "temperature");
    CHECK_REQUEST_REFUSED(request.top_p = 0.0f, QUIRE_INVALID_ARGUMENT, "top_p");
    CHECK_REQUEST_REFUSED(request.top_p = 1.01f, QUIRE_INVALID_ARGUMENT, "top_p");
    CHECK_REQUEST_REFUSED(request.top_p = NAN, QUIRE_INVALID_ARGUMENT, "top_p");
    CHECK_REQUEST_REFUSED(request.min_p = -0.5f, QUIRE_INVALID_ARGUMENT, "min_p");
    CHECK_REQUEST_REFUSED(request.min_p = 1.5f, QUIRE_INVALID_ARGUMENT, "min_p");
    CHECK_REQUEST_REFUSED(request.min_p = NAN, QUIRE_INVALID_ARGUMENT, "min_p");
    CHECK_REQUEST_REFUSED(request.ignore_eos = 2, QUIRE_INVALID_ARGUMENT, "ignore_eos");
    CHECK_REQUEST_REFUSED(request.ignore_eos = -1, QUIRE_INVALID_ARGUMENT, "ignore_eos");
    CHECK_REQUEST_REFUSED((request.stop_tokens = NULL, request.stop_token_count = 1), QUIRE_INVALID_ARGUMENT,
                          "stop_tokens");
    CHECK_REQUEST_REFUSED((request.stop_tokens = outside, request.stop_token_count = 2), QUIRE_INVALID_ARGUMENT,
                          "stop_tokens[1]");
    CHECK_REQUEST_REFUSED((request.cache_salt = NULL, request.cache_salt_len = 1), QUIRE_INVALID_ARGUMENT,
                          "cache_salt");
}

static void other_arguments_are_checked(const quire_engine *engine) {
    quire_error *error = NULL;
    size_t count = 0;
    const uint32_t outside[] = {VOCABULARY};
    CHECK_FAILS(quire_engine_shutdown(engine, 0, 0, &error), error, QUIRE_INVALID_ARGUMENT, "mode");
    CHECK_FAILS(quire_engine_shutdown(engine, 3, 0, &error), error, QUIRE_INVALID_ARGUMENT, "mode");
    CHECK_FAILS(quire_engine_shutdown(engine, -1, 0, &error), error, QUIRE_INVALID_ARGUMENT, "mode");
    CHECK_FAILS(quire_engine_tokenize(engine, "a\xff", 2, 0, NULL, 0, &count, &error), error, QUIRE_INVALID_UTF8,
                "byte 1");
    CHECK_FAILS(quire_engine_tokenize(engine, "a", 1, 2, NULL, 0, &count, &error), error, QUIRE_INVALID_ARGUMENT,
                "add_special");
    CHECK_FAILS(quire_engine_detokenize(engine, some_tokens, 1, 2, NULL, 0, &count, &error), error,
                QUIRE_INVALID_ARGUMENT, "skip_special");
    CHECK_FAILS(quire_engine_detokenize(engine, outside, 1, 0, NULL, 0, &count, &error), error,
                QUIRE_INVALID_ARGUMENT, "258");
}

/* The edges of the documented ranges are inside. */
static void limits_are_allowed(const quire_engine *engine, uint32_t max_context) {
    static uint32_t many[1 << 16];
    quire_request_options request = request_for(1);
    request.prompt_tokens = many;
    request.prompt_token_count = max_context - 1;
    request.temperature = 100.0f;
    request.top_k = UINT32_MAX;
    request.min_p = 1.0f;
    request.priority = INT32_MIN;
    request.timeout_ms = UINT64_MAX;
    answer result = wait_for_answer(engine, submit(engine, &request));
    CHECK_EQUAL(result.end, QUIRE_EVENT_FINISHED);
    CHECK_EQUAL(result.token_count, 1);
    answer_clear(&result);
}

/* A prompt that is empty after tokenizing, or that needs a tokenizer where there is none. */
static void empty_text_is_refused_or_answered(const quire_engine *engine) {
    quire_error *error = NULL;
    quire_request_options request = request_for(1);
    uint64_t id = 0;
    set_text(&request, "", 0);
    quire_status status = quire_engine_submit(engine, &request, &id, &error);
    if (status == QUIRE_OK) {
        /* The tokenizer puts a begin-of-sequence token in front, so that there is something to go on from. */
        answer result = wait_for_answer(engine, id);
        CHECK(result.prompt_tokens >= 1);
        answer_clear(&result);
    } else {
        CHECK_FAILS(status, error, QUIRE_INVALID_ARGUMENT, "prompt");
    }
}

int main(void) {
    test_guard_against_hanging();
    model = new_model(NULL);
    quire_engine *engine = engine_for(model);
    quire_model_info info = {0};
    quire_error *error = NULL;
    info.struct_size = sizeof info;
    CHECK_OK(quire_engine_model_info(engine, &info, &error), error);

    null_is_refused_or_harmless(engine);
    struct_sizes_are_checked(engine);
    engine_options_are_checked();
    prompts_are_checked(engine, info.max_context);
    settings_are_checked(engine);
    other_arguments_are_checked(engine);
    empty_text_is_refused_or_answered(engine);
    limits_are_allowed(engine, info.max_context);
    CHECK_EQUAL(statistics_of(engine).requests_failed, 0);
    check_pages_are_back(engine);
    check_engine_works(engine);
    release(engine);
    return 0;
}
