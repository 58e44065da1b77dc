/* bench: prompts one after another, the way one user sees the model. */
#include "common.h"

#include "clock.h"
#include "commands.h"
#include "progress.h"
#include "prompts.h"
#include "report.h"
#include "table.h"
#include "tokens.h"

typedef struct single_options {
    uint32_t prompts;
    uint32_t warmup;
    uint32_t prompt_tokens;
    const char *output;
} single_options;

/* What was measured, ready to be printed twice: as tables and as JSON. */
typedef struct single_result {
    const run *runs;
    size_t count;
    double seconds; /* from the first submit to the last end */
    uint64_t input_tokens;
    uint64_t output_tokens;
    stats ttft_ms;
    stats tpot_ms;
    stats generation;
    stats processing;
    stats latency_ms;
} single_result;

/* What a run asks, kept while it runs. */
typedef struct question {
    tokens made_up; /* a prompt of exact length; empty for text */
    size_t salt;
} question;

/* Sets the `index`-th prompt of the list. A `salt` of its own keeps a run from reusing the pages of an
 * earlier run with the same prompt. */
static void ask(run *which, question *from, const session *engine, const single_options *options, size_t index,
                size_t salt) {
    from->salt = salt;
    set_salt(which, &from->salt);
    if (options->prompt_tokens != 0) {
        from->made_up = synthetic_tokens(engine, options->prompt_tokens, index);
        ask_tokens(which, &from->made_up);
    } else {
        ask_text(which, varied_prompt(index));
    }
}

static void show_tokens(void *user, run *which, const quire_event *event) {
    if (event->kind == QUIRE_EVENT_DELTA) {
        progress_live("%s: %" PRIu64 " tokens", (const char *)user, which->delta_tokens);
    }
}

/* Runs warm-up and measured prompts; the first `warmup` of `runs` are the warm-up's. */
static int measure(session *engine, const single_options *options, const sampling_options *sampling, run *runs,
                   question *questions) {
    size_t total = (size_t)options->warmup + options->prompts;
    for (size_t i = 0; i < total; i++) {
        bool warming = i < options->warmup;
        size_t number = warming ? i + 1 : i + 1 - options->warmup;
        char label[64];
        snprintf(label, sizeof label, "%s %zu of %u", warming ? "warm-up" : "run", number,
                 warming ? options->warmup : options->prompts);
        int code = request_from(sampling, &runs[i].request);
        if (code != EXIT_OK) {
            return code;
        }
        ask(&runs[i], &questions[i], engine, options, number - 1, i);
        code = session_execute(engine, &runs[i], 1, 1, show_tokens, label);
        if (code != EXIT_OK) {
            return code;
        }
        progress_note("%s: %u input, %u output tokens in %.1f ms", label, runs[i].prompt_tokens,
                      runs[i].output_tokens, run_latency_ms(&runs[i]));
    }
    return EXIT_OK;
}

static stats each(const run *runs, size_t count, double (*figure)(const run *)) {
    double *values = allocate(count, sizeof *values);
    for (size_t i = 0; i < count; i++) {
        values[i] = figure(&runs[i]);
    }
    stats result = stats_of(values, count);
    free(values);
    return result;
}

static single_result summarize(const run *runs, size_t count) {
    single_result result = {
        .runs = runs,
        .count = count,
        .seconds = ns_to_s(runs[count - 1].end_ns - runs[0].submit_ns),
        .ttft_ms = each(runs, count, run_ttft_ms),
        .tpot_ms = each(runs, count, run_tpot_ms),
        .generation = each(runs, count, run_generation_rate),
        .processing = each(runs, count, run_processing_rate),
        .latency_ms = each(runs, count, run_latency_ms),
    };
    for (size_t i = 0; i < count; i++) {
        result.input_tokens += runs[i].prompt_tokens;
        result.output_tokens += runs[i].output_tokens;
    }
    return result;
}

static void print_runs(const single_result *result) {
    static const char *const headings[] = {"#", "input", "output", "TTFT ms", "TPOT ms", "generation tok/s"};
    table runs = table_new(headings, LENGTH_OF(headings));
    for (size_t i = 0; i < result->count; i++) {
        const run *which = &result->runs[i];
        table_cell(&runs, "%zu", i + 1);
        table_cell(&runs, "%u", which->prompt_tokens);
        table_cell(&runs, "%u", which->output_tokens);
        table_number(&runs, run_ttft_ms(which), 1);
        table_number(&runs, run_tpot_ms(which), 2);
        table_number(&runs, run_generation_rate(which), 1);
    }
    table_print(&runs, stdout);
}

static void summary_row(table *summary, const char *name, const stats *values, int decimals) {
    table_cell(summary, "%s", name);
    table_number(summary, values->mean, decimals);
    table_number(summary, values->p50, decimals);
    table_number(summary, values->p95, decimals);
    table_number(summary, values->p99, decimals);
}

static double total_throughput(const single_result *result) {
    return (double)(result->input_tokens + result->output_tokens) / result->seconds;
}

/* Answers of different lengths are hard to compare; most readers do not know why they differ. */
static void hint_at_short_answers(const single_result *result) {
    size_t ended_early = 0;
    for (size_t i = 0; i < result->count; i++) {
        ended_early += result->runs[i].finish_reason == QUIRE_FINISH_END_OF_SEQUENCE;
    }
    if (ended_early > 0) {
        progress_note("%zu of %zu answers ended with an end-of-sequence token; --ignore-eos makes all equally long",
                      ended_early, result->count);
    }
}

static int print_result(const session *engine, const char *model, const single_result *result) {
    static const char *const headings[] = {"<", "mean", "p50", "p95", "p99"};
    print_heading(engine, model, "Prompts one after another");
    putchar('\n');
    print_runs(result);
    putchar('\n');
    table summary = table_new(headings, LENGTH_OF(headings));
    summary_row(&summary, "TTFT (ms)", &result->ttft_ms, 1);
    summary_row(&summary, "TPOT (ms)", &result->tpot_ms, 2);
    summary_row(&summary, "generation (tok/s)", &result->generation, 1);
    summary_row(&summary, "processing (tok/s)", &result->processing, 1);
    summary_row(&summary, "end-to-end latency (ms)", &result->latency_ms, 1);
    table_print(&summary, stdout);
    printf("\n  total: %" PRIu64 " input + %" PRIu64 " output tokens in %.2f s; throughput %.1f tok/s "
           "(input and output), %.2f requests/s\n",
           result->input_tokens, result->output_tokens, result->seconds, total_throughput(result),
           (double)result->count / result->seconds);
    hint_at_short_answers(result);
    return print_memory(engine, stdout);
}

static int write_result(const session *engine, const char *model, const single_options *options,
                        const sampling_options *sampling, const single_result *result) {
    json writer;
    int code = report_open(&writer, options->output, "single");
    if (code != EXIT_OK || writer.file == NULL) {
        return code;
    }
    code = json_session(&writer, engine, model);
    json_begin_object(&writer, "settings");
    json_integer(&writer, "prompts", options->prompts);
    json_integer(&writer, "warmup", options->warmup);
    json_integer(&writer, "max_tokens", sampling->max_tokens);
    json_number(&writer, "temperature", (double)sampling->temperature);
    json_bool(&writer, "ignore_eos", sampling->ignore_eos);
    json_end_object(&writer);
    json_begin_array(&writer, "runs");
    for (size_t i = 0; i < result->count; i++) {
        json_begin_object(&writer, NULL);
        json_run(&writer, &result->runs[i]);
        json_end_object(&writer);
    }
    json_end_array(&writer);
    json_begin_object(&writer, "summary");
    json_stats(&writer, "ttft_ms", &result->ttft_ms);
    json_stats(&writer, "tpot_ms", &result->tpot_ms);
    json_stats(&writer, "generation_tokens_per_s", &result->generation);
    json_stats(&writer, "processing_tokens_per_s", &result->processing);
    json_stats(&writer, "latency_ms", &result->latency_ms);
    json_integer(&writer, "input_tokens", result->input_tokens);
    json_integer(&writer, "output_tokens", result->output_tokens);
    json_number(&writer, "seconds", result->seconds);
    json_number(&writer, "total_tokens_per_s", total_throughput(result));
    json_number(&writer, "requests_per_s", (double)result->count / result->seconds);
    json_end_object(&writer);
    int closed = report_close(&writer, options->output);
    return code == EXIT_OK ? closed : code;
}

static int run_benchmark(session *engine, const char *model, const single_options *options,
                         const sampling_options *sampling) {
    size_t total = (size_t)options->warmup + options->prompts;
    run *runs = allocate(total, sizeof *runs);
    question *questions = allocate(total, sizeof *questions);
    int code = measure(engine, options, sampling, runs, questions);
    if (code == EXIT_OK) {
        single_result result = summarize(runs + options->warmup, options->prompts);
        code = print_result(engine, model, &result);
        if (code == EXIT_OK) {
            code = write_result(engine, model, options, sampling, &result);
        }
    }
    for (size_t i = 0; i < total; i++) {
        tokens_free(&questions[i].made_up);
    }
    free(questions);
    runs_free(runs, total);
    return code == EXIT_OK ? finish_output() : code;
}

int command_single(int argc, char **argv) {
    single_options options = {.prompts = 5, .warmup = 1};
    model_options model;
    sampling_options sampling;
    const arg own[] = {
        {.name = "prompts", .kind = ARG_U32, .value = &options.prompts, .placeholder = "N", .min = 1, .max = 100000,
         .help = "how many prompts to run (default 5); a built-in list of short, long, code and CJK ones is cycled"},
        {.name = "prompt-tokens", .kind = ARG_U32, .value = &options.prompt_tokens, .placeholder = "N", .min = 1,
         .max = UINT32_MAX, .help = "use made-up prompts of exactly N tokens instead of the list"},
        {.name = "warmup", .kind = ARG_U32, .value = &options.warmup, .placeholder = "N", .min = 0, .max = 1000,
         .help = "run N prompts first that are not measured (default 1)"},
        {.name = "output", .kind = ARG_TEXT, .value = &options.output, .placeholder = "FILE",
         .help = "write all figures to FILE as JSON too"},
    };
    const arg_group groups[] = {
        {.title = "This benchmark", .args = own, .count = LENGTH_OF(own)},
        sampling_group(&sampling, 256),
        model_group(&model),
    };
    const command_line line = {
        .usage = "bench --model MODEL [options]",
        .description =
            "Runs prompts one after another and prints a table of the runs and a summary: mean and\n"
            "percentiles (interpolated between the nearest runs) of TTFT, TPOT, generation and processing\n"
            "speed and latency; total throughput; memory. No run reuses cached pages of another.\n"
            "'bench --help' says what the figures mean.",
        .help_hint = "bench --model MODEL --help",
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
        code = run_benchmark(&engine, model.model, &options, &sampling);
        session_close(&engine);
    }
    return code;
}
