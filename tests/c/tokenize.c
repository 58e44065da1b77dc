/* Text to token ids and back, in pieces of any size, with and without a tokenizer.
 *
 * runs-on: mock mlx */
#include "model.h"

static void text_survives_the_round_trip(const quire_engine *engine) {
    static const char *const texts[] = {
        "a", "Hello, world!", "  two leading spaces", "line\nbreak\ttab",
        "Grüße 世界 👩‍🚀",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        quire_error *error = NULL;
        size_t count = 0;
        size_t length = 0;
        uint32_t tokens[256];
        char text[256];
        CHECK_OK(quire_engine_tokenize(engine, texts[i], strlen(texts[i]), 0, NULL, 0, &count, &error), error);
        CHECK(count > 0 && count <= 256);
        size_t again = 0;
        CHECK_OK(quire_engine_tokenize(engine, texts[i], strlen(texts[i]), 0, tokens, 256, &again, &error), error);
        CHECK_EQUAL(again, count);
        CHECK_OK(quire_engine_detokenize(engine, tokens, count, 1, NULL, 0, &length, &error), error);
        CHECK_EQUAL(length, strlen(texts[i]));
        CHECK_OK(quire_engine_detokenize(engine, tokens, count, 1, text, sizeof text, &length, &error), error);
        CHECK(memcmp(text, texts[i], length) == 0);
    }
}

/* No more than the capacity is written, and the count is of the whole. */
static void capacity_is_kept(const quire_engine *engine) {
    quire_error *error = NULL;
    uint32_t tokens[8] = {0, 0, 0, 9999, 0, 0, 0, 0};
    size_t count = 0;
    CHECK_OK(quire_engine_tokenize(engine, "abcdef", 6, 0, tokens, 3, &count, &error), error);
    CHECK_EQUAL(count, 6);
    CHECK_EQUAL(tokens[3], 9999);

    CHECK_OK(quire_engine_tokenize(engine, "abcdef", 6, 0, tokens, 8, &count, &error), error);
    CHECK_EQUAL(count, 6);
    char text[8] = "xxxxxxx";
    size_t length = 0;
    CHECK_OK(quire_engine_detokenize(engine, tokens, 6, 0, text, 4, &length, &error), error);
    CHECK_EQUAL(length, 6);
    CHECK_TEXT(text, "abcdxxx");
}

static void nothing_is_nothing(const quire_engine *engine) {
    quire_error *error = NULL;
    size_t count = 99;
    CHECK_OK(quire_engine_tokenize(engine, "", 0, 0, NULL, 0, &count, &error), error);
    CHECK_EQUAL(count, 0);
    size_t length = 99;
    CHECK_OK(quire_engine_detokenize(engine, some_tokens, 0, 0, NULL, 0, &length, &error), error);
    CHECK_EQUAL(length, 0);
}

/* What is no UTF-8 comes as U+FFFD, never as broken text. */
static void broken_characters_are_replaced(const quire_engine *engine) {
    quire_error *error = NULL;
    uint32_t tokens[8];
    char text[16];
    size_t count = 0;
    size_t length = 0;
    CHECK_OK(quire_engine_tokenize(engine, "\xc3\xbc", 2, 0, tokens, 8, &count, &error), error);
    CHECK_EQUAL(count, 2); /* the test tokenizer's tokens are bytes */
    CHECK_OK(quire_engine_detokenize(engine, tokens, 1, 0, text, sizeof text, &length, &error), error);
    CHECK_EQUAL(length, 3);
    CHECK(memcmp(text, "\xef\xbf\xbd", 3) == 0);
    CHECK_OK(quire_engine_detokenize_reference(engine, tokens, 1, 0, text, sizeof text, &length, &error), error);
    CHECK_EQUAL(length, 3);
    CHECK(memcmp(text, "\xef\xbf\xbd", 3) == 0);
    CHECK_FAILS(quire_engine_detokenize_reference(engine, NULL, 1, 0, text, sizeof text, &length, &error), error,
                QUIRE_INVALID_ARGUMENT, "tokens");
}

/* A streaming detokenizer gives the same text, piece by piece, in whole characters. */
static void streaming_gives_the_same(const quire_engine *engine) {
    static const char text[] = "Gr\xc3\xbc\xc3\x9f""e \xe4\xb8\x96";
    quire_error *error = NULL;
    quire_detokenizer *detokenizer = NULL;
    uint32_t tokens[32];
    char streamed[64];
    size_t count = 0;
    size_t length = 0;
    const char *piece = NULL;
    size_t piece_len = 0;
    CHECK_OK(quire_engine_tokenize(engine, text, strlen(text), 0, tokens, 32, &count, &error), error);
    CHECK_OK(quire_detokenizer_create(engine, 0, &detokenizer, &error), error);
    for (size_t i = 0; i < count; i++) {
        CHECK_OK(quire_detokenizer_push(detokenizer, &tokens[i], 1, &piece, &piece_len, &error), error);
        CHECK_EQUAL(piece[piece_len], '\0');
        CHECK(piece_len == 0 || (piece[0] & 0xc0) != 0x80);
        memcpy(streamed + length, piece, piece_len);
        length += piece_len;
    }
    CHECK_EQUAL(length, strlen(text));
    CHECK(memcmp(streamed, text, length) == 0);
    CHECK_OK(quire_detokenizer_finish(detokenizer, &piece, &piece_len, &error), error);
    CHECK_EQUAL(piece_len, 0);
    /* What stays incomplete is U+FFFD. */
    CHECK_OK(quire_detokenizer_push(detokenizer, &tokens[2], 1, &piece, &piece_len, &error), error);
    CHECK_EQUAL(piece_len, 0);
    CHECK_OK(quire_detokenizer_finish(detokenizer, &piece, &piece_len, &error), error);
    CHECK_TEXT(piece, "\xef\xbf\xbd");
    CHECK_FAILS(quire_detokenizer_push(NULL, tokens, 1, &piece, &piece_len, &error), error, QUIRE_INVALID_ARGUMENT,
                "detokenizer");
    CHECK_FAILS(quire_detokenizer_push(detokenizer, NULL, 1, &piece, &piece_len, &error), error,
                QUIRE_INVALID_ARGUMENT, "tokens");
    CHECK_FAILS(quire_detokenizer_create(NULL, 0, &detokenizer, &error), error, QUIRE_INVALID_ARGUMENT, "engine");
    CHECK_FAILS(quire_detokenizer_create(engine, 2, &detokenizer, &error), error, QUIRE_INVALID_ARGUMENT,
                "skip_special");
    quire_detokenizer_free(detokenizer);
    quire_detokenizer_free(NULL);
}

static void special_tokens_can_be_left_out(const quire_engine *engine) {
    quire_error *error = NULL;
    const uint32_t special[] = {END_OF_SEQUENCE};
    size_t kept = 0;
    size_t left_out = 99;
    CHECK_OK(quire_engine_detokenize(engine, special, 1, 0, NULL, 0, &kept, &error), error);
    CHECK_OK(quire_engine_detokenize(engine, special, 1, 1, NULL, 0, &left_out, &error), error);
    CHECK(kept > 0);
    CHECK_EQUAL(left_out, 0);
}

/* Without a tokenizer, token ids still work and text is refused. */
static void a_model_without_a_tokenizer(void) {
    const char *model = new_model(NULL);
    char path[PATH_SIZE];
    join_path(path, model, "tokenizer.json");
    CHECK_EQUAL(remove(path), 0);
    join_path(path, model, "tokenizer_config.json");
    remove(path); /* not every tokenizer has one */
    quire_engine *engine = engine_for(model);
    quire_error *error = NULL;
    quire_model_info info;
    memset(&info, 0, sizeof info);
    info.struct_size = sizeof info;
    CHECK_OK(quire_engine_model_info(engine, &info, &error), error);
    CHECK_EQUAL(info.has_tokenizer, 0);

    size_t count = 99;
    CHECK_FAILS(quire_engine_tokenize(engine, "a", 1, 0, NULL, 0, &count, &error), error, QUIRE_TOKENIZER_MISSING,
                "tokenizer");
    CHECK_FAILS(quire_engine_detokenize(engine, some_tokens, 1, 0, NULL, 0, &count, &error), error,
                QUIRE_TOKENIZER_MISSING, "tokenizer");
    CHECK_EQUAL(count, 99);
    quire_request_options request = request_for(4);
    request.prompt_tokens = NULL;
    request.prompt_token_count = 0;
    request.prompt = "text";
    request.prompt_len = 4;
    uint64_t id = 0;
    CHECK_FAILS(quire_engine_submit(engine, &request, &id, &error), error, QUIRE_TOKENIZER_MISSING, "tokenizer");
    answer result = wait_for_answer(engine, submit_for(engine, 9));
    CHECK_EQUAL(result.end, QUIRE_EVENT_FINISHED);
    CHECK_EQUAL(result.token_count, 9);
    CHECK_EQUAL(result.text_len, 0);
    answer_clear(&result);
    release(engine);
}

int main(void) {
    test_guard_against_hanging();
    quire_engine *engine = engine_for(new_model(NULL));
    text_survives_the_round_trip(engine);
    capacity_is_kept(engine);
    nothing_is_nothing(engine);
    broken_characters_are_replaced(engine);
    streaming_gives_the_same(engine);
    special_tokens_can_be_left_out(engine);
    release(engine);
    a_model_without_a_tokenizer();
    return 0;
}
