/* bench latency: what streams feel when a long prompt arrives among them. */
#include "common.h"

#include "clock.h"
#include "commands.h"
#include "progress.h"
#include "report.h"
#include "table.h"
#include "tokens.h"

enum { MAX_STREAMS = 64 };

typedef struct latency_options {
    uint32_t streams;
    uint32_t stream_prompt;
    uint32_t prompt_tokens;
    uint32_t before_tokens;
    float max_ratio;
    const char *output;
} latency_options;

/* Times between one stream's deltas, in milliseconds. */
typedef struct gaps {
    double *items;
    size_t count;
    size_t capacity;
} gaps;

typedef struct latency {
    session *engine;
    const latency_options *options;
    run runs[MAX_STREAMS + 1]; /* the streams, then the long prompt */
    uint64_t last_ns[MAX_STREAMS + 1];
    gaps before;
    gaps during;
    bool measuring;       /* every stream has begun */
    bool long_submitted;
} latency;

static void add_gap(gaps *self, double value) {
    if (self->count == self->capacity) {
        self->capacity = self->capacity == 0 ? 1024 : self->capacity * 2;
        self->items = reallocate(self->items, self->capacity, sizeof *self->items);
    }
    self->items[self->count++] = value;
}

static void on_event(void *user, run *which, const quire_event *event) {
    latency *self = user;
    size_t index = (size_t)(which - self->runs);
    if (event->kind != QUIRE_EVENT_DELTA) {
        return;
    }
    uint64_t last = self->last_ns[index];
    self->last_ns[index] = which->last_ns;
    if (index == self->options->streams || last == 0 || !self->measuring) {
        return;
    }
    add_gap(self->long_submitted ? &self->during : &self->before, ns_to_ms(which->last_ns - last));
}

static bool all_streams_have(const latency *self, uint64_t tokens) {
    for (size_t i = 0; i < self->options->streams; i++) {
        if (self->runs[i].delta_tokens < tokens) {
            return false;
        }
    }
    return true;
}

static bool any_stream_done(const latency *self) {
    for (size_t i = 0; i < self->options->streams; i++) {
        if (self->runs[i].done) {
            return true;
        }
    }
    return false;
}

static int step(latency *self) {
    int code = session_step(self->engine, on_event, self);
    if (code == EXIT_OK && self->engine->cancelled) {
        return EXIT_INTERRUPTED;
    }
    if (code == EXIT_OK && any_stream_done(self)) {
        return fail("latency", "a stream ended before the long prompt had its first token; the context of %u tokens "
                               "is too short for --before-tokens and --prompt-tokens",
                    self->engine->info.max_context);
    }
    return code;
}

/* Submits a prompt of made-up tokens. */
static int submit(latency *self, size_t index, uint32_t prompt_tokens, const sampling_options *sampling) {
    run *which = &self->runs[index];
    tokens prompt = synthetic_tokens(self->engine, prompt_tokens, index + 1);
    int code = request_from(sampling, &which->request);
    if (code == EXIT_OK) {
        ask_tokens(which, &prompt);
        code = session_submit(self->engine, which);
    }
    tokens_free(&prompt);
    return code;
}

static int measure(latency *self, sampling_options sampling) {
    const latency_options *options = self->options;
    sampling.ignore_eos = true;
    sampling.max_tokens = self->engine->info.max_context - options->stream_prompt;
    int code = EXIT_OK;
    for (size_t i = 0; code == EXIT_OK && i < options->streams; i++) {
        code = submit(self, i, options->stream_prompt, &sampling);
    }
    /* The first tokens come while others still read their prompts, and kernels are compiled: not counted. */
    while (code == EXIT_OK && !all_streams_have(self, 8)) {
        code = step(self);
    }
    self->measuring = true;
    while (code == EXIT_OK && !all_streams_have(self, 8 + (uint64_t)options->before_tokens)) {
        code = step(self);
        progress_live("before: %zu tokens", self->before.count);
    }
    run *late = &self->runs[options->streams];
    if (code == EXIT_OK) {
        sampling.max_tokens = 1;
        code = submit(self, options->streams, options->prompt_tokens, &sampling);
        self->long_submitted = true;
    }
    while (code == EXIT_OK && !late->done) {
        code = step(self);
        progress_live("during: %zu tokens", self->during.count);
    }
    progress_clear();
    return code;
}

/* Ends what still runs, whatever happened before. */
static int finish(latency *self) {
    quire_engine_cancel_all(self->engine->engine, NULL);
    for (size_t i = 0; i <= self->options->streams; i++) {
        while (self->runs[i].id != 0 && !self->runs[i].done) {
            int code = session_step(self->engine, NULL, NULL);
            if (code != EXIT_OK) {
                return code;
            }
        }
    }
    return EXIT_OK;
}

static void print_row(table *all, const char *name, const stats *values) {
    table_cell(all, "%s", name);
    table_cell(all, "%zu", values->count);
    table_number(all, values->mean, 2);
    table_number(all, values->p50, 2);
    table_number(all, values->p95, 2);
    table_number(all, values->p99, 2);
    table_number(all, values->max, 2);
}

static int report(const latency *self, const char *model) {
    static const char *const headings[] = {"<Time between tokens (ms)", "tokens", "mean", "p50", "p95", "p99", "max"};
    const latency_options *options = self->options;
    const run *late = &self->runs[options->streams];
    stats before = stats_of(self->before.items, self->before.count);
    stats during = stats_of(self->during.items, self->during.count);
    double ratio = during.p99 / before.p99;
    bool met = during.count > 0 && ratio <= (double)options->max_ratio;
    print_heading(self->engine, model, "Streams while a long prompt arrives");
    putchar('\n');
    table all = table_new(headings, LENGTH_OF(headings));
    print_row(&all, "before", &before);
    print_row(&all, "during the long prompt", &during);
    table_print(&all, stdout);
    printf("\n  %u streams; a prompt of %u tokens had its first token after %.0f ms (%.1f tok/s)\n", options->streams,
           late->prompt_tokens, run_ttft_ms(late), run_processing_rate(late));
    printf("  p99 during at most %.2f times p99 before: %.2f times, %s\n", (double)options->max_ratio, ratio,
           verdict(met));
    int code = print_memory(self->engine, stdout);
    json writer;
    int opened = report_open(&writer, options->output, "latency");
    if (opened == EXIT_OK && writer.file != NULL) {
        json_session(&writer, self->engine, model);
        json_integer(&writer, "streams", options->streams);
        json_stats(&writer, "before_ms", &before);
        json_stats(&writer, "during_ms", &during);
        json_number(&writer, "ratio", ratio);
        json_number(&writer, "max_ratio", (double)options->max_ratio);
        json_bool(&writer, "met", met);
        json_begin_object(&writer, "long_prompt");
        json_run(&writer, late);
        json_end_object(&writer);
        opened = report_close(&writer, options->output);
    }
    return code != EXIT_OK ? code : opened != EXIT_OK ? opened : met ? finish_output() : EXIT_FAILED;
}

static int run_latency(session *engine, const char *model, const latency_options *options,
                       const sampling_options *sampling) {
    uint32_t context = engine->info.max_context;
    if (options->prompt_tokens >= context || options->stream_prompt >= context) {
        return fail("latency", "the model's context of %u tokens is too short for --prompt-tokens", context);
    }
    latency *self = allocate(1, sizeof *self);
    self->engine = engine;
    self->options = options;
    int code = measure(self, *sampling);
    int ended = finish(self);
    code = code == EXIT_OK ? ended : code;
    if (code == EXIT_OK) {
        code = report(self, model);
    }
    for (size_t i = 0; i <= options->streams; i++) {
        run_clear(&self->runs[i]);
    }
    free(self->before.items);
    free(self->during.items);
    free(self);
    return code;
}

int command_latency(int argc, char **argv) {
    latency_options options = {
        .streams = 8, .stream_prompt = 32, .prompt_tokens = 4000, .before_tokens = 100, .max_ratio = 2.0f};
    model_options model;
    sampling_options sampling;
    const arg own[] = {
        {.name = "streams", .kind = ARG_U32, .value = &options.streams, .placeholder = "N", .min = 1,
         .max = MAX_STREAMS, .help = "how many requests are streaming (default 8)"},
        {.name = "prompt-tokens", .kind = ARG_U32, .value = &options.prompt_tokens, .placeholder = "N", .min = 1,
         .max = UINT32_MAX, .help = "length of the prompt that arrives (default 4000)"},
        {.name = "before-tokens", .kind = ARG_U32, .value = &options.before_tokens, .placeholder = "N", .min = 2,
         .max = 100000, .help = "tokens of each stream that are measured before it arrives (default 100)"},
        {.name = "max-ratio", .kind = ARG_FLOAT, .value = &options.max_ratio, .placeholder = "X", .min = 0,
         .max = 1e6, .help = "fail if the p99 grows more than X times (default 2)"},
        {.name = "output", .kind = ARG_TEXT, .value = &options.output, .placeholder = "FILE",
         .help = "write all figures to FILE as JSON too"},
    };
    sampling_group(&sampling, 1);
    const arg_group groups[] = {
        {.title = "This benchmark", .args = own, .count = LENGTH_OF(own)},
        model_group(&model),
    };
    const command_line line = {
        .usage = "bench latency --model MODEL [options]",
        .description =
            "Lets some requests stream, then sends a long prompt, and compares the time between the streams'\n"
            "tokens before and while that prompt is computed. The exit code is 1 if the 99th percentile\n"
            "grows more than --max-ratio times.",
        .help_hint = "bench latency --help",
        .groups = groups,
        .group_count = LENGTH_OF(groups),
    };
    int code;
    if (!parse_arguments(&line, argc, argv, &code)) {
        return code;
    }
    session engine;
    code = report_check(options.output);
    if (code == EXIT_OK) {
        code = session_open(&engine, &model);
    }
    if (code == EXIT_OK) {
        code = run_latency(&engine, model.model, &options, &sampling);
        session_close(&engine);
    }
    return code;
}
