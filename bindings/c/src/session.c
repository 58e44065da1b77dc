#include "session.h"

#include "clock.h"
#include "interrupt.h"
#include "progress.h"

/* How long one wait may take before Ctrl-C is looked for. Events end a wait at once. */
enum { INTERRUPT_CHECK_MS = 50 };

static int32_t on_loading(void *user, float fraction, const char *stage) {
    (void)user;
    progress_live("loading %3.0f %%  %s", (double)fraction * 100.0, stage);
    return interrupted();
}

static void on_log(void *user, quire_log_level level, const char *message, size_t length) {
    static const char *const names[] = {"", "error", "warning", "info", "debug"};
    (void)user;
    fprintf(stderr, "quire: %s: %.*s\n", level >= 1 && level <= 4 ? names[level] : "log", (int)length, message);
}

static int weight_format(const char *name, quire_weight_format *format) {
    static const struct {
        const char *name;
        quire_weight_format format;
    } known[] = {
        {"auto", QUIRE_WEIGHTS_AUTO},
        {"stored", QUIRE_WEIGHTS_AS_STORED},
        {"float32", QUIRE_WEIGHTS_FLOAT32},
    };
    for (size_t i = 0; i < LENGTH_OF(known); i++) {
        if (strcmp(name, known[i].name) == 0) {
            *format = known[i].format;
            return EXIT_OK;
        }
    }
    return usage_error("bench --help", "--weights is '%s', want auto, stored or float32", name);
}

static int fill_engine_options(quire_engine_options *engine, const model_options *options) {
    quire_error *error = NULL;
    quire_status status = quire_engine_options_init(engine, sizeof *engine, &error);
    if (status != QUIRE_OK) {
        return fail_with("engine options", status, error);
    }
    engine->model = options->model;
    engine->model_len = strlen(options->model);
    engine->on_progress = on_loading;
    engine->disable_prefix_sharing = options->no_prefix_sharing;
    engine->cache_bytes = options->cache_mib << 20;
    engine->max_context = options->max_context;
    if (options->max_sequences != 0) {
        engine->max_sequences = options->max_sequences;
    }
    if (options->max_step_tokens != 0) {
        engine->max_step_tokens = options->max_step_tokens;
    }
    if (options->block_tokens != 0) {
        engine->block_tokens = options->block_tokens;
    }
    return weight_format(options->weights, &engine->weight_format);
}

int session_open(session *self, const model_options *options) {
    *self = (session){0};
    if (options->model == NULL) {
        return usage_error("bench --help", "--model is missing");
    }
    if (quire_abi_version() != QUIRE_ABI_VERSION) {
        return fail("library", "its ABI version is %u, this program was built for %u",
                    (unsigned)quire_abi_version(), (unsigned)QUIRE_ABI_VERSION);
    }
    quire_error *error = NULL;
    quire_status status;
    if (options->verbose) {
        status = quire_set_log_callback(on_log, NULL, NULL, QUIRE_LOG_DEBUG, &error);
        if (status != QUIRE_OK) {
            return fail_with("log", status, error);
        }
    }
    quire_engine_options engine;
    int code = fill_engine_options(&engine, options);
    if (code != EXIT_OK) {
        return code;
    }
    uint64_t start = clock_ns();
    status = quire_engine_create(&engine, &self->engine, &error);
    self->load_ns = clock_ns() - start;
    progress_clear();
    if (status == QUIRE_ABORTED && interrupted()) {
        quire_error_free(error);
        return EXIT_INTERRUPTED;
    }
    if (status != QUIRE_OK) {
        return fail_with("loading the model", status, error);
    }
    self->info.struct_size = sizeof self->info;
    status = quire_engine_model_info(self->engine, &self->info, &error);
    if (status != QUIRE_OK) {
        session_close(self);
        return fail_with("model info", status, error);
    }
    progress_note("loaded in %.2f s: %s, %s, on %s", ns_to_s(self->load_ns), self->info.architecture,
                  self->info.quantization, self->info.device);
    return EXIT_OK;
}

void session_close(session *self) {
    quire_engine_release(self->engine, NULL);
    self->engine = NULL;
}

int session_submit(session *self, run *which) {
    quire_error *error = NULL;
    which->request.tag = which;
    which->submit_ns = clock_ns();
    quire_status status = quire_engine_submit(self->engine, &which->request, &which->id, &error);
    return status == QUIRE_OK ? EXIT_OK : fail_with("submit", status, error);
}

static void book_delta(run *which, const quire_event *event, uint64_t now) {
    if (which->first_ns == 0) {
        which->first_ns = now;
        which->first_delta_tokens = (uint32_t)event->token_count;
    }
    which->last_ns = now;
    if (event->token_count > 0) {
        which->tokens = reallocate(which->tokens, which->delta_tokens + event->token_count, sizeof *which->tokens);
        memcpy(which->tokens + which->delta_tokens, event->tokens, event->token_count * sizeof *which->tokens);
        which->delta_tokens += event->token_count;
    }
}

static int book_end(run *which, const quire_event *event, uint64_t now) {
    which->end_ns = now;
    which->done = true;
    which->prompt_tokens = event->prompt_tokens;
    which->cached_tokens = event->cached_tokens;
    which->output_tokens = event->generated_tokens;
    which->finish_reason = event->finish_reason;
    which->cancelled = event->kind == QUIRE_EVENT_CANCELLED;
    if (event->kind != QUIRE_EVENT_FAILED) {
        return EXIT_OK;
    }
    return fail("request", "%s (%s)", event->message, quire_status_name(event->status));
}

int session_step(session *self, run_observer observe, void *user) {
    quire_event *event = NULL;
    quire_error *error = NULL;
    quire_status status = QUIRE_TIMEOUT;
    while (status == QUIRE_TIMEOUT) {
        if (interrupted() && !self->cancelled) {
            self->cancelled = true;
            quire_engine_cancel_all(self->engine, NULL);
        }
        quire_error_free(error);
        error = NULL;
        status = quire_engine_wait(self->engine, INTERRUPT_CHECK_MS, &event, &error);
    }
    if (status != QUIRE_OK) {
        return fail_with("waiting for an event", status, error);
    }
    uint64_t now = clock_ns();
    run *which = event->tag;
    int code = EXIT_OK;
    if (event->kind == QUIRE_EVENT_DELTA || event->kind == QUIRE_EVENT_REASONING ||
        event->kind == QUIRE_EVENT_TOOL_CALL) {
        book_delta(which, event, now);
    } else {
        code = book_end(which, event, now);
    }
    if (observe != NULL) {
        observe(user, which, event);
    }
    quire_event_free(event);
    return code;
}

static size_t count_done(const run *runs, size_t count) {
    size_t done = 0;
    for (size_t i = 0; i < count; i++) {
        done += runs[i].done;
    }
    return done;
}

int session_execute(session *self, run *runs, size_t count, size_t concurrency, run_observer observe,
                    void *user) {
    size_t submitted = 0;
    size_t done = 0;
    int result = EXIT_OK;
    while (done < submitted || (submitted < count && result == EXIT_OK)) {
        if (submitted < count && submitted - done < concurrency && result == EXIT_OK) {
            result = session_submit(self, &runs[submitted]);
            submitted += result == EXIT_OK;
            continue;
        }
        int code = session_step(self, observe, user);
        size_t ended = count_done(runs, submitted);
        if (code != EXIT_OK) {
            result = code;
            if (ended == done) {
                return code; /* not a request's failure: no event could be taken at all */
            }
        }
        done = ended;
        if (interrupted()) {
            result = EXIT_INTERRUPTED;
        }
    }
    return result;
}

int session_statistics(const session *self, quire_statistics *statistics) {
    quire_error *error = NULL;
    *statistics = (quire_statistics){.struct_size = sizeof *statistics};
    quire_status status = quire_engine_statistics(self->engine, statistics, &error);
    return status == QUIRE_OK ? EXIT_OK : fail_with("statistics", status, error);
}
