/* The log callback: lines, levels, replacement, and user data released exactly once.
 *
 * runs-on: mock mlx */
#include "model.h"

#include <pthread.h>

typedef struct sink {
    pthread_mutex_t lock;
    int lines[QUIRE_LOG_DEBUG + 1];
    int released;
} sink;

static void sink_init(sink *self) {
    memset(self, 0, sizeof *self);
    pthread_mutex_init(&self->lock, NULL);
}

static void on_log(void *user_data, quire_log_level level, const char *message, size_t length) {
    sink *self = user_data;
    CHECK(level >= QUIRE_LOG_ERROR && level <= QUIRE_LOG_DEBUG);
    CHECK(length > 0);
    CHECK_EQUAL(strlen(message), length);
    pthread_mutex_lock(&self->lock);
    CHECK_EQUAL(self->released, 0);
    self->lines[level]++;
    pthread_mutex_unlock(&self->lock);
}

static void on_release(void *user_data) {
    sink *self = user_data;
    pthread_mutex_lock(&self->lock);
    self->released++;
    pthread_mutex_unlock(&self->lock);
}

static int lines(const sink *self) {
    int sum = 0;
    for (int level = QUIRE_LOG_ERROR; level <= QUIRE_LOG_DEBUG; level++) {
        sum += self->lines[level];
    }
    return sum;
}

static void load_and_run(const char *model) {
    quire_engine *engine = engine_for(model);
    check_engine_works(engine);
    release(engine);
}

int main(void) {
    test_guard_against_hanging();
    const char *model = new_model(NULL);
    sink first;
    sink second;
    quire_error *error = NULL;
    sink_init(&first);
    sink_init(&second);

    CHECK_OK(quire_set_log_callback(on_log, &first, on_release, QUIRE_LOG_DEBUG, &error), error);
    load_and_run(model);
    CHECK(first.lines[QUIRE_LOG_INFO] >= 1); /* a model was loaded */
    CHECK_EQUAL(first.lines[QUIRE_LOG_ERROR], 0);
    CHECK_EQUAL(first.released, 0);

    /* Replaced: the first gets no more; only what is important enough is made. */
    int before = lines(&first);
    CHECK_OK(quire_set_log_callback(on_log, &second, on_release, QUIRE_LOG_ERROR, &error), error);
    CHECK_EQUAL(first.released, 1);
    load_and_run(model);
    CHECK_EQUAL(lines(&first), before);
    CHECK_EQUAL(lines(&second), 0);

    /* A level that is none: refused, the user data released, the callback before it stays. */
    sink refused;
    sink_init(&refused);
    CHECK_FAILS(quire_set_log_callback(on_log, &refused, on_release, 0, &error), error, QUIRE_INVALID_ARGUMENT,
                "max_level");
    CHECK_EQUAL(refused.released, 1);
    CHECK_FAILS(quire_set_log_callback(on_log, &refused, on_release, 5, &error), error, QUIRE_INVALID_ARGUMENT,
                "max_level");
    CHECK_EQUAL(refused.released, 2);
    CHECK_EQUAL(second.released, 0);

    /* Off. */
    CHECK_OK(quire_set_log_callback(NULL, NULL, NULL, QUIRE_LOG_ERROR, &error), error);
    CHECK_EQUAL(second.released, 1);
    load_and_run(model);
    CHECK_EQUAL(lines(&second), 0);
    CHECK_OK(quire_set_log_callback(NULL, NULL, NULL, QUIRE_LOG_ERROR, &error), error);

    /* User data without a callback is released; a callback without a finalizer works. */
    CHECK_OK(quire_set_log_callback(NULL, &refused, on_release, QUIRE_LOG_ERROR, &error), error);
    CHECK_EQUAL(refused.released, 3);
    sink_init(&first);
    CHECK_OK(quire_set_log_callback(on_log, &first, NULL, QUIRE_LOG_INFO, &error), error);
    load_and_run(model);
    CHECK(lines(&first) >= 1);
    CHECK_EQUAL(first.lines[QUIRE_LOG_DEBUG], 0);
    CHECK_OK(quire_set_log_callback(NULL, NULL, NULL, QUIRE_LOG_ERROR, &error), error);
    CHECK_EQUAL(first.released, 0);
    return 0;
}
