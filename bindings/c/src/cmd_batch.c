/* bench batch: the same prompts one at a time and many at once. */
#include "common.h"

#include "clock.h"
#include "commands.h"
#include "progress.h"
#include "prompts.h"
#include "report.h"
#include "table.h"
#include "tokens.h"

typedef struct batch_options {
    uint32_t prompts;
    uint32_t prompt_tokens;
    number_list concurrency;
    float min_speedup;
    bool require_equal;
    const char *output;
} batch_options;

/* What one level of concurrency took. */
typedef struct level {
    uint32_t concurrency;
    run *runs;
    double seconds;
    uint64_t output_tokens;
    size_t equal; /* answers with the same tokens as at the first level */
} level;

/* Everything that was measured. */
typedef struct batch {
    session *engine;
    const batch_options *options;
    const sampling_options *sampling;
    size_t requests; /* at each level */
    level levels[ARG_LIST_MAX];
    size_t level_count;
} batch;

static double output_rate(const level *which) { return (double)which->output_tokens / which->seconds; }

static double speedup(const batch *self, size_t index) {
    return output_rate(&self->levels[index]) / output_rate(&self->levels[0]);
}

static void show_done(void *user, run *which, const quire_event *event) {
    size_t *done = user;
    (void)which;
    *done += event->kind != QUIRE_EVENT_DELTA;
    progress_live("%zu requests done", *done);
}

/* Runs every prompt with `concurrency` at a time. Each request has a salt of its own: nobody reuses pages. */
static int measure(const batch *self, size_t level_index, uint32_t concurrency, run *runs) {
    size_t count = self->requests;
    size_t *salts = allocate(count, sizeof *salts);
    tokens *prompts = allocate(count, sizeof *prompts);
    size_t done = 0;
    int code = EXIT_OK;
    for (size_t i = 0; code == EXIT_OK && i < count; i++) {
        code = request_from(self->sampling, &runs[i].request);
        salts[i] = level_index * count + i;
        set_salt(&runs[i], &salts[i]);
        if (self->options->prompt_tokens != 0) {
            prompts[i] = synthetic_tokens(self->engine, self->options->prompt_tokens, i);
            ask_tokens(&runs[i], &prompts[i]);
        } else {
            ask_text(&runs[i], short_question(i));
        }
    }
    if (code == EXIT_OK) {
        code = session_execute(self->engine, runs, count, concurrency, show_done, &done);
    }
    for (size_t i = 0; i < count; i++) {
        tokens_free(&prompts[i]);
    }
    free(prompts);
    free(salts);
    return code;
}

static int measure_level(batch *self, uint32_t concurrency) {
    level *which = &self->levels[self->level_count];
    which->concurrency = concurrency;
    which->runs = allocate(self->requests, sizeof *which->runs);
    int code = measure(self, ++self->level_count, concurrency, which->runs);
    if (code != EXIT_OK) {
        return code;
    }
    uint64_t first = UINT64_MAX;
    uint64_t last = 0;
    for (size_t i = 0; i < self->requests; i++) {
        const run *one = &which->runs[i];
        which->output_tokens += one->output_tokens;
        which->equal += run_equals(one, &self->levels[0].runs[i]);
        first = one->submit_ns < first ? one->submit_ns : first;
        last = one->end_ns > last ? one->end_ns : last;
    }
    which->seconds = ns_to_s(last - first);
    progress_note("%u at a time: %.1f tok/s", concurrency, output_rate(which));
    return EXIT_OK;
}

/* One run at the largest concurrency that is not measured: it makes the backend compile what it needs. */
static int warm_up(batch *self, uint32_t concurrency) {
    run *runs = allocate(self->requests, sizeof *runs);
    int code = measure(self, 0, concurrency, runs);
    runs_free(runs, self->requests);
    return code;
}

static void print_levels(const batch *self) {
    static const char *const headings[] = {"at once",    "requests", "output", "seconds",
                                           "output tok/s", "requests/s", "speed-up", "same answers"};
    table all = table_new(headings, LENGTH_OF(headings));
    for (size_t i = 0; i < self->level_count; i++) {
        const level *which = &self->levels[i];
        table_cell(&all, "%u", which->concurrency);
        table_cell(&all, "%zu", self->requests);
        table_cell(&all, "%" PRIu64, which->output_tokens);
        table_number(&all, which->seconds, 2);
        table_number(&all, output_rate(which), 1);
        table_number(&all, (double)self->requests / which->seconds, 2);
        table_cell(&all, "%.2fx", speedup(self, i));
        table_cell(&all, "%zu of %zu", which->equal, self->requests);
    }
    table_print(&all, stdout);
}

/* Says what was expected and whether it came true. */
static int judge(const batch *self) {
    bool all_met = true;
    const level *last = &self->levels[self->level_count - 1];
    if (self->options->min_speedup > 0.0f) {
        double reached = speedup(self, self->level_count - 1);
        bool met = reached >= (double)self->options->min_speedup;
        printf("  speed-up at %u at once at least %.2fx: %.2fx, %s\n", last->concurrency,
               (double)self->options->min_speedup, reached, verdict(met));
        all_met = met;
    }
    if (self->options->require_equal) {
        bool met = true;
        for (size_t i = 0; i < self->level_count; i++) {
            met = met && self->levels[i].equal == self->requests;
        }
        printf("  the same answers at every level: %s\n", verdict(met));
        all_met = all_met && met;
    }
    return all_met ? EXIT_OK : EXIT_FAILED;
}

static int write_result(const batch *self, const char *model) {
    json writer;
    int code = report_open(&writer, self->options->output, "batch");
    if (code != EXIT_OK || writer.file == NULL) {
        return code;
    }
    code = json_session(&writer, self->engine, model);
    json_begin_array(&writer, "levels");
    for (size_t i = 0; i < self->level_count; i++) {
        const level *which = &self->levels[i];
        json_begin_object(&writer, NULL);
        json_integer(&writer, "concurrency", which->concurrency);
        json_integer(&writer, "requests", self->requests);
        json_integer(&writer, "output_tokens", which->output_tokens);
        json_number(&writer, "seconds", which->seconds);
        json_number(&writer, "output_tokens_per_s", output_rate(which));
        json_number(&writer, "requests_per_s", (double)self->requests / which->seconds);
        json_number(&writer, "speedup", speedup(self, i));
        json_integer(&writer, "same_answers", which->equal);
        json_begin_array(&writer, "runs");
        for (size_t r = 0; r < self->requests; r++) {
            json_begin_object(&writer, NULL);
            json_run(&writer, &which->runs[r]);
            json_end_object(&writer);
        }
        json_end_array(&writer);
        json_end_object(&writer);
    }
    json_end_array(&writer);
    int closed = report_close(&writer, self->options->output);
    return code == EXIT_OK ? closed : code;
}

static uint32_t largest(const number_list *list) {
    uint32_t result = 0;
    for (size_t i = 0; i < list->count; i++) {
        result = list->items[i] > result ? list->items[i] : result;
    }
    return result;
}

static int run_batch(session *engine, const char *model, const batch_options *options,
                     const sampling_options *sampling) {
    uint32_t most = largest(&options->concurrency);
    batch self = {
        .engine = engine,
        .options = options,
        .sampling = sampling,
        .requests = options->prompts > most ? options->prompts : most,
    };
    int code = warm_up(&self, most);
    for (size_t i = 0; code == EXIT_OK && i < options->concurrency.count; i++) {
        code = measure_level(&self, options->concurrency.items[i]);
    }
    if (code == EXIT_OK) {
        print_heading(engine, model, "Requests at once");
        putchar('\n');
        print_levels(&self);
        putchar('\n');
        code = print_memory(engine, stdout);
    }
    if (code == EXIT_OK) {
        code = write_result(&self, model);
    }
    if (code == EXIT_OK) {
        code = judge(&self);
    }
    for (size_t i = 0; i < self.level_count; i++) {
        runs_free(self.levels[i].runs, self.requests);
    }
    return code == EXIT_OK ? finish_output() : code;
}

int command_batch(int argc, char **argv) {
    batch_options options = {.prompts = SHORT_QUESTIONS};
    model_options model;
    sampling_options sampling;
    const arg own[] = {
        {.name = "prompts", .kind = ARG_U32, .value = &options.prompts, .placeholder = "N", .min = 1, .max = 10000,
         .help = "how many requests (default 5); at least as many as run at once; five short questions are cycled"},
        {.name = "concurrency", .kind = ARG_NUMBERS, .value = &options.concurrency, .placeholder = "LIST", .min = 1,
         .max = 4096, .help = "how many at once, as in 1,2,4,8,16 (default: 1, then all); speed-ups are relative to "
                              "the first"},
        {.name = "prompt-tokens", .kind = ARG_U32, .value = &options.prompt_tokens, .placeholder = "N", .min = 1,
         .max = UINT32_MAX, .help = "use made-up prompts of exactly N tokens"},
        {.name = "min-speedup", .kind = ARG_FLOAT, .value = &options.min_speedup, .placeholder = "X", .min = 0,
         .max = 10000, .help = "fail if the last level's speed-up is less than X"},
        {.name = "require-equal", .kind = ARG_FLAG, .value = &options.require_equal,
         .help = "fail if any answer differs from the first level's (only fair without sampling)"},
        {.name = "output", .kind = ARG_TEXT, .value = &options.output, .placeholder = "FILE",
         .help = "write all figures to FILE as JSON too"},
    };
    const arg_group groups[] = {
        {.title = "This benchmark", .args = own, .count = LENGTH_OF(own)},
        sampling_group(&sampling, 50),
        model_group(&model),
    };
    const command_line line = {
        .usage = "bench batch --model MODEL [options]",
        .description =
            "Runs the same requests one at a time and many at once and prints tokens and requests per second\n"
            "at each level, counted from the first submit to the last end, and how many answers have the\n"
            "same tokens as at the first level. No request reuses cached pages of another.",
        .help_hint = "bench batch --help",
        .groups = groups,
        .group_count = LENGTH_OF(groups),
    };
    int code;
    if (!parse_arguments(&line, argc, argv, &code)) {
        return code;
    }
    if (options.concurrency.count == 0) {
        options.concurrency = (number_list){.items = {1, options.prompts}, .count = options.prompts > 1 ? 2 : 1};
    }
    session engine;
    code = report_check(options.output);
    if (code == EXIT_OK) {
        code = session_open(&engine, &model);
    }
    if (code == EXIT_OK) {
        code = run_batch(&engine, model.model, &options, &sampling);
        session_close(&engine);
    }
    return code;
}
