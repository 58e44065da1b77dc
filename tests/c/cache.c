/* The prefix cache saved to a file and loaded by another engine.
 *
 * runs-on: mock mlx */
#include "model.h"

enum { PROMPT = 64 };

static answer ask(const quire_engine *engine) {
    uint32_t tokens[PROMPT];
    for (uint32_t i = 0; i < PROMPT; i++) {
        tokens[i] = (i * 7 + 3) % 200;
    }
    quire_request_options request = request_for(4);
    request.prompt_tokens = tokens;
    request.prompt_token_count = PROMPT;
    return wait_for_answer(engine, submit(engine, &request));
}

static void save(const quire_engine *engine, const char *path) {
    quire_error *error = NULL;
    uint64_t blocks = 0;
    CHECK_OK(quire_engine_save_cache(engine, path, strlen(path), &blocks, &error), error);
    CHECK(blocks >= PROMPT / 16);
}

/* A second engine answers the same, from the first one's pages. */
static void another_engine_starts_warm(const char *model, const char *path) {
    quire_engine *first = engine_for(model);
    answer cold = ask(first);
    save(first, path);
    release(first);

    quire_engine *second = engine_for(model);
    quire_error *error = NULL;
    CHECK_OK(quire_engine_load_cache(second, path, strlen(path), NULL, &error), error);
    answer warm = ask(second);
    CHECK_EQUAL(cold.cached_tokens, 0);
    /* All but the last token, which is computed again. */
    CHECK(warm.cached_tokens >= PROMPT - 16);
    CHECK_TEXT(warm.text, cold.text);
    answer_clear(&cold);
    answer_clear(&warm);
    release(second);
}

static void a_damaged_file_changes_nothing(const char *model, const char *path) {
    size_t size;
    char *bytes = read_file(path, &size);
    bytes[size / 2] ^= 1;
    write_file(path, bytes, size);
    quire_engine *engine = engine_for(model);
    quire_error *error = NULL;
    CHECK_FAILS(quire_engine_load_cache(engine, path, strlen(path), NULL, &error), error, QUIRE_CACHE_INVALID,
                "checksum");
    write_file(path, bytes, 10);
    CHECK_FAILS(quire_engine_load_cache(engine, path, strlen(path), NULL, &error), error, QUIRE_CACHE_INVALID,
                path);
    free(bytes);
    answer cold = ask(engine);
    CHECK_EQUAL(cold.cached_tokens, 0);
    answer_clear(&cold);
    release(engine);
}

static void another_model_is_refused(const char *model, const char *path) {
    quire_engine *engine = engine_for(model);
    answer first = ask(engine);
    answer_clear(&first);
    save(engine, path);
    release(engine);
    const char *other = new_model(NULL);
    replace_in_file(other, "config.json", "10000.0", "20000.0");
    engine = engine_for(other);
    quire_error *error = NULL;
    CHECK_FAILS(quire_engine_load_cache(engine, path, strlen(path), NULL, &error), error, QUIRE_CACHE_INVALID,
                "another model");
    release(engine);
}

static void bad_arguments_are_named(const char *model, const char *path) {
    quire_engine *engine = engine_for(model);
    quire_error *error = NULL;
    CHECK_FAILS(quire_engine_save_cache(NULL, path, strlen(path), NULL, &error), error, QUIRE_INVALID_ARGUMENT,
                "engine");
    CHECK_FAILS(quire_engine_load_cache(NULL, path, strlen(path), NULL, &error), error, QUIRE_INVALID_ARGUMENT,
                "engine");
    CHECK_FAILS(quire_engine_save_cache(engine, NULL, 1, NULL, &error), error, QUIRE_INVALID_ARGUMENT, "path");
    CHECK_FAILS(quire_engine_load_cache(engine, "", 0, NULL, &error), error, QUIRE_INVALID_ARGUMENT, "path");
    CHECK_FAILS(quire_engine_load_cache(engine, "a\0b", 3, NULL, &error), error, QUIRE_INVALID_ARGUMENT, "path");
    CHECK_FAILS(quire_engine_load_cache(engine, "\xff", 1, NULL, &error), error, QUIRE_INVALID_UTF8, "path");
    CHECK_FAILS(quire_engine_load_cache(engine, "/nonexistent/x", 14, NULL, &error), error, QUIRE_IO,
                "/nonexistent/x");
    CHECK_FAILS(quire_engine_save_cache(engine, "/nonexistent/x", 14, NULL, &error), error, QUIRE_IO,
                "/nonexistent/x");
    CHECK_OK(quire_engine_shutdown(engine, QUIRE_SHUTDOWN_CANCEL, 0, &error), error);
    CHECK_FAILS(quire_engine_save_cache(engine, path, strlen(path), NULL, &error), error, QUIRE_SHUT_DOWN,
                "shut down");
    release(engine);
}

int main(void) {
    const char *model = new_model(NULL);
    char path[PATH_SIZE];
    join_path(path, new_directory(), "prefixes");
    another_engine_starts_warm(model, path);
    a_damaged_file_changes_nothing(model, path);
    another_model_is_refused(model, path);
    bad_arguments_are_named(model, path);
    return 0;
}
