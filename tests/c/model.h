/* Test models, engines on them, and answers collected from events.
 *
 * QUIRE_TEST_DATA names a folder that holds "mock-model": a tiny model directory with a tokenizer whose
 * tokens are bytes. Each test works on a copy, which it may damage, in a temporary directory that is
 * removed when the program ends. In the build without MLX the "mock" object of config.json steers the
 * mock that runs in the model's place. */
#ifndef QUIRE_TEST_MODEL_H
#define QUIRE_TEST_MODEL_H

#include "test.h"

#include <dirent.h>
#include <sys/stat.h>

enum { PATH_SIZE = 1024, MAX_MODELS = 128, END_OF_SEQUENCE = 256, VOCABULARY = 258 };

static char model_directories[MAX_MODELS][PATH_SIZE];
static size_t model_count = 0;

static inline char *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL);
    CHECK(fseek(file, 0, SEEK_END) == 0);
    long length = ftell(file);
    CHECK(length >= 0);
    rewind(file);
    char *bytes = malloc((size_t)length + 1);
    CHECK(bytes != NULL);
    CHECK_EQUAL(fread(bytes, 1, (size_t)length, file), length);
    fclose(file);
    bytes[length] = '\0';
    if (size != NULL) {
        *size = (size_t)length;
    }
    return bytes;
}

static inline void write_file(const char *path, const char *bytes, size_t size) {
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL);
    CHECK_EQUAL(fwrite(bytes, 1, size, file), size);
    CHECK(fclose(file) == 0);
}

static inline void join_path(char *path, const char *directory, const char *name) {
    int length = snprintf(path, PATH_SIZE, "%s/%s", directory, name);
    CHECK(length > 0 && length < PATH_SIZE);
}

/* Calls `visit` with the path and name of each file in a directory. */
static inline void each_file(const char *directory, void (*visit)(void *user, const char *path, const char *name),
                             void *user) {
    DIR *files = opendir(directory);
    if (files == NULL) {
        fprintf(test_output(), "cannot open %s: is QUIRE_TEST_DATA set?\n", directory);
        exit(1);
    }
    for (struct dirent *entry; (entry = readdir(files)) != NULL;) {
        if (entry->d_name[0] != '.') {
            char path[PATH_SIZE];
            join_path(path, directory, entry->d_name);
            visit(user, path, entry->d_name);
        }
    }
    closedir(files);
}

static inline void remove_one(void *user, const char *path, const char *name) {
    (void)user;
    (void)name;
    remove(path);
}

static inline void remove_models(void) {
    for (size_t i = 0; i < model_count; i++) {
        each_file(model_directories[i], remove_one, NULL);
        rmdir(model_directories[i]);
    }
}

static inline void copy_one(void *user, const char *path, const char *name) {
    char target[PATH_SIZE];
    size_t size;
    char *bytes = read_file(path, &size);
    join_path(target, user, name);
    write_file(target, bytes, size);
    free(bytes);
}

/* An empty temporary directory. */
static inline const char *new_directory(void) {
    CHECK(model_count < MAX_MODELS);
    const char *root = getenv("TMPDIR");
    char *directory = model_directories[model_count];
    join_path(directory, root == NULL ? "/tmp" : root, "quire-test-XXXXXX");
    CHECK(mkdtemp(directory) != NULL);
    if (model_count++ == 0) {
        atexit(remove_models);
    }
    return directory;
}

/* Replaces the first occurrence of `from` in a file of a directory; it must be there. */
static inline void replace_in_file(const char *directory, const char *name, const char *from, const char *to) {
    char path[PATH_SIZE];
    size_t size;
    join_path(path, directory, name);
    char *bytes = read_file(path, &size);
    char *found = NULL;
    for (size_t i = 0; found == NULL && i + strlen(from) <= size; i++) {
        found = memcmp(bytes + i, from, strlen(from)) == 0 ? bytes + i : NULL;
    }
    CHECK(found != NULL);
    size_t before = (size_t)(found - bytes);
    size_t after = size - before - strlen(from);
    char *changed = malloc(before + strlen(to) + after + 1);
    CHECK(changed != NULL);
    memcpy(changed, bytes, before);
    memcpy(changed + before, to, strlen(to));
    memcpy(changed + before + strlen(to), found + strlen(from), after);
    write_file(path, changed, before + strlen(to) + after);
    free(changed);
    free(bytes);
}

/* A copy of the test model; `mock` is the JSON object for the mock, NULL for its defaults. */
static inline const char *new_model(const char *mock) {
    char source[PATH_SIZE];
    const char *data = getenv("QUIRE_TEST_DATA");
    join_path(source, data == NULL ? "tests/data" : data, "mock-model");
    const char *directory = new_directory();
    each_file(source, copy_one, (void *)(uintptr_t)directory);
    if (mock != NULL) {
        char object[256];
        snprintf(object, sizeof object, "\"mock\": %s", mock);
        replace_in_file(directory, "config.json", "\"mock\": {}", object);
    }
    return directory;
}

/* A model whose answers last long enough to be caught in the middle. */
static inline const char *slow_model(void) { return new_model("{\"step_micros\": 1000}"); }

static inline quire_engine_options options_for(const char *model) {
    quire_engine_options options;
    quire_error *error = NULL;
    CHECK_OK(quire_engine_options_init(&options, sizeof options, &error), error);
    options.model = model;
    options.model_len = strlen(model);
    return options;
}

static inline quire_engine *engine_from(const quire_engine_options *options) {
    quire_engine *engine = NULL;
    quire_error *error = NULL;
    CHECK_OK(quire_engine_create(options, &engine, &error), error);
    CHECK(engine != NULL);
    return engine;
}

static inline quire_engine *engine_for(const char *model) {
    quire_engine_options options = options_for(model);
    return engine_from(&options);
}

static inline void release(quire_engine *engine) {
    quire_error *error = NULL;
    CHECK_OK(quire_engine_release(engine, &error), error);
}

static const uint32_t some_tokens[] = {10, 20, 30, 40, 50};

/* A request for exactly `max_tokens` tokens after a short prompt of token ids. */
static inline quire_request_options request_for(uint32_t max_tokens) {
    quire_request_options request;
    quire_error *error = NULL;
    CHECK_OK(quire_request_options_init(&request, sizeof request, &error), error);
    request.prompt_tokens = some_tokens;
    request.prompt_token_count = sizeof some_tokens / sizeof some_tokens[0];
    request.max_tokens = max_tokens;
    request.ignore_eos = 1;
    return request;
}

static inline uint64_t submit(const quire_engine *engine, const quire_request_options *request) {
    uint64_t id = 0;
    quire_error *error = NULL;
    CHECK_OK(quire_engine_submit(engine, request, &id, &error), error);
    CHECK(id != 0);
    return id;
}

static inline uint64_t submit_for(const quire_engine *engine, uint32_t max_tokens) {
    quire_request_options request = request_for(max_tokens);
    return submit(engine, &request);
}

/* What has come of one request. */
typedef struct answer {
    uint64_t request;
    char *text;
    size_t text_len;
    size_t token_count;
    size_t deltas;
    size_t terminals;
    quire_event_kind end; /* kind of the terminal event, 0 before it */
    quire_finish_reason finish_reason;
    quire_status status;
    uint32_t stop_token;
    uint32_t prompt_tokens;
    uint32_t cached_tokens;
    uint32_t generated_tokens;
} answer;

static inline void answer_clear(answer *self) {
    free(self->text);
    memset(self, 0, sizeof *self);
}

/* Books an event, checking what must hold for every event. */
static inline void answer_add(answer *self, const quire_event *event) {
    CHECK_EQUAL(event->struct_size, sizeof *event);
    CHECK_EQUAL(event->request, self->request);
    CHECK_EQUAL(self->terminals, 0);
    CHECK(event->text != NULL && event->message != NULL);
    CHECK_EQUAL(event->text[event->text_len], '\0');
    if (event->kind == QUIRE_EVENT_DELTA) {
        CHECK(event->token_count > 0 || event->text_len > 0);
        CHECK_EQUAL(event->finish_reason, QUIRE_FINISH_NONE);
        CHECK_EQUAL(event->status, QUIRE_OK);
        self->text = realloc(self->text, self->text_len + event->text_len + 1);
        CHECK(self->text != NULL);
        memcpy(self->text + self->text_len, event->text, event->text_len + 1);
        self->text_len += event->text_len;
        self->token_count += event->token_count;
        self->deltas++;
        return;
    }
    CHECK(event->kind == QUIRE_EVENT_FINISHED || event->kind == QUIRE_EVENT_CANCELLED ||
          event->kind == QUIRE_EVENT_FAILED);
    CHECK_EQUAL(event->status != QUIRE_OK, event->kind == QUIRE_EVENT_FAILED);
    CHECK_EQUAL(event->message[0] != '\0', event->kind == QUIRE_EVENT_FAILED);
    CHECK_EQUAL(event->finish_reason != QUIRE_FINISH_NONE, event->kind == QUIRE_EVENT_FINISHED);
    CHECK(event->queue_ns <= event->total_ns);
    CHECK(event->first_token_ns <= event->total_ns);
    self->terminals++;
    self->end = event->kind;
    self->finish_reason = event->finish_reason;
    self->status = event->status;
    self->stop_token = event->stop_token;
    self->prompt_tokens = event->prompt_tokens;
    self->cached_tokens = event->cached_tokens;
    self->generated_tokens = event->generated_tokens;
}

/* Takes events until this request, the only one, has ended. */
static inline answer wait_for_answer(const quire_engine *engine, uint64_t request) {
    answer result = {0};
    result.request = request;
    while (result.terminals == 0) {
        quire_event *event = NULL;
        quire_error *error = NULL;
        CHECK_OK(quire_engine_wait(engine, -1, &event, &error), error);
        answer_add(&result, event);
        quire_event_free(event);
    }
    return result;
}

/* Runs one request of `max_tokens` tokens and checks that it came out whole: the engine works. */
static inline void check_engine_works(const quire_engine *engine) {
    answer result = wait_for_answer(engine, submit_for(engine, 7));
    CHECK_EQUAL(result.end, QUIRE_EVENT_FINISHED);
    CHECK_EQUAL(result.finish_reason, QUIRE_FINISH_LENGTH);
    CHECK_EQUAL(result.token_count, 7);
    answer_clear(&result);
}

static inline quire_statistics statistics_of(const quire_engine *engine) {
    quire_statistics statistics;
    quire_error *error = NULL;
    memset(&statistics, 0, sizeof statistics);
    statistics.struct_size = sizeof statistics;
    CHECK_OK(quire_engine_statistics(engine, &statistics, &error), error);
    return statistics;
}

/* Every page is free or cached again. */
static inline void check_pages_are_back(const quire_engine *engine) {
    quire_statistics statistics = statistics_of(engine);
    CHECK_EQUAL(statistics.blocks_in_use, 0);
    CHECK_EQUAL(statistics.blocks_free + statistics.blocks_cached, statistics.blocks_total);
}

#endif
