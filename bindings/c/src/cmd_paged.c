/* bench paged: many requests with one long system prompt, without and with sharing its pages. */
#include "common.h"

#include "clock.h"
#include "commands.h"
#include "progress.h"
#include "prompts.h"
#include "report.h"
#include "table.h"
#include "tokens.h"

enum { ROUNDS = 2, PER_ROUND = 10, REQUESTS = ROUNDS * PER_ROUND, SYSTEM_TOKENS = 286 };

/* What sharing between requests that run at the same time must reach. */
enum { MIN_HITS = 19, MIN_SAVED = 4800 };

typedef struct paged_options {
    const char *output;
} paged_options;

/* One pass of all requests. */
typedef struct pass {
    run runs[REQUESTS];
    double seconds;
    uint64_t output_tokens;
    quire_statistics statistics; /* what the pass added to the counters */
} pass;

static double output_rate(const pass *which) { return (double)which->output_tokens / which->seconds; }

static int make_prompts(const session *engine, tokens *prompts) {
    tokens system = {0};
    int code = tokens_of(engine, system_prompt, &system);
    if (code != EXIT_OK) {
        return code;
    }
    tokens_resize(&system, SYSTEM_TOKENS);
    for (size_t i = 0; code == EXIT_OK && i < REQUESTS; i++) {
        tokens question = {0};
        code = tokens_of(engine, visitor_question(i), &question);
        tokens_append(&prompts[i], &system);
        tokens_append(&prompts[i], &question);
        tokens_free(&question);
    }
    tokens_free(&system);
    return code;
}

/* A pass with made-up prompts that share nothing with the measured ones. */
static int warm_up(session *engine, const sampling_options *sampling) {
    run *runs = allocate(PER_ROUND, sizeof *runs);
    tokens prompts[PER_ROUND];
    int code = EXIT_OK;
    for (size_t i = 0; i < PER_ROUND; i++) {
        prompts[i] = synthetic_tokens(engine, SYSTEM_TOKENS, i + 1);
        int made = request_from(sampling, &runs[i].request);
        ask_tokens(&runs[i], &prompts[i]);
        code = code == EXIT_OK ? made : code;
    }
    if (code == EXIT_OK) {
        code = session_execute(engine, runs, PER_ROUND, PER_ROUND, NULL, NULL);
    }
    for (size_t i = 0; i < PER_ROUND; i++) {
        tokens_free(&prompts[i]);
    }
    runs_free(runs, PER_ROUND);
    return code;
}

static int run_rounds(session *engine, const sampling_options *sampling, const tokens *prompts, pass *which) {
    quire_statistics before;
    quire_statistics *after = &which->statistics;
    int code = session_statistics(engine, &before);
    uint64_t start = clock_ns();
    for (size_t round = 0; code == EXIT_OK && round < ROUNDS; round++) {
        run *runs = which->runs + round * PER_ROUND;
        for (size_t i = 0; code == EXIT_OK && i < PER_ROUND; i++) {
            code = request_from(sampling, &runs[i].request);
            ask_tokens(&runs[i], &prompts[round * PER_ROUND + i]);
        }
        if (code == EXIT_OK) {
            code = session_execute(engine, runs, PER_ROUND, PER_ROUND, NULL, NULL);
        }
        progress_live("round %zu of %d done", round + 1, ROUNDS);
    }
    which->seconds = ns_to_s(clock_ns() - start);
    progress_clear();
    if (code == EXIT_OK) {
        code = session_statistics(engine, after);
        after->blocks_allocated -= before.blocks_allocated;
        after->blocks_shared -= before.blocks_shared;
        after->prefix_hits -= before.prefix_hits;
        after->cached_tokens -= before.cached_tokens;
    }
    for (size_t i = 0; i < REQUESTS; i++) {
        which->output_tokens += which->runs[i].output_tokens;
    }
    return code;
}

/* Loads the model, runs one pass; leaves the engine open for whoever prints. */
static int measure(session *engine, model_options model, bool sharing, const sampling_options *sampling,
                   pass *which) {
    tokens prompts[REQUESTS] = {{0}};
    model.no_prefix_sharing = !sharing;
    int code = session_open(engine, &model);
    if (code != EXIT_OK) {
        return code;
    }
    code = warm_up(engine, sampling);
    if (code == EXIT_OK) {
        code = make_prompts(engine, prompts);
    }
    if (code == EXIT_OK) {
        code = run_rounds(engine, sampling, prompts, which);
    }
    for (size_t i = 0; i < REQUESTS; i++) {
        tokens_free(&prompts[i]);
    }
    return code;
}

static void print_row(table *all, const char *name, const pass *which) {
    table_cell(all, "%s", name);
    table_number(all, which->seconds, 2);
    table_number(all, output_rate(which), 1);
    table_cell(all, "%" PRIu64, which->statistics.blocks_allocated);
    table_cell(all, "%" PRIu64, which->statistics.blocks_shared);
    table_cell(all, "%" PRIu64, which->statistics.prefix_hits);
    table_cell(all, "%" PRIu64, which->statistics.cached_tokens);
}

static size_t count_equal(const pass *left, const pass *right) {
    size_t equal = 0;
    for (size_t i = 0; i < REQUESTS; i++) {
        equal += run_equals(&left->runs[i], &right->runs[i]);
    }
    return equal;
}

static bool print_result(const pass *without, const pass *with) {
    static const char *const headings[] = {"<Prefix sharing", "seconds",    "output tok/s", "blocks allocated",
                                           "blocks shared",   "cache hits", "tokens saved"};
    table all = table_new(headings, LENGTH_OF(headings));
    print_row(&all, "without", without);
    print_row(&all, "with", with);
    table_print(&all, stdout);
    bool none = without->statistics.cached_tokens == 0;
    bool hits = with->statistics.prefix_hits >= MIN_HITS;
    bool saved = with->statistics.cached_tokens >= MIN_SAVED;
    printf("\n  speed-up %.2fx; the same answer in both: %zu of %d\n", output_rate(with) / output_rate(without),
           count_equal(without, with), REQUESTS);
    printf("  tokens saved without sharing: %" PRIu64 ", expected 0: %s\n", without->statistics.cached_tokens,
           verdict(none));
    printf("  cache hits: %" PRIu64 ", expected at least %d: %s\n", with->statistics.prefix_hits, MIN_HITS,
           verdict(hits));
    printf("  tokens saved: %" PRIu64 ", expected at least %d: %s\n", with->statistics.cached_tokens, MIN_SAVED,
           verdict(saved));
    return none && hits && saved;
}

static void json_pass(json *writer, const char *key, const pass *which) {
    json_begin_object(writer, key);
    json_number(writer, "seconds", which->seconds);
    json_integer(writer, "output_tokens", which->output_tokens);
    json_number(writer, "output_tokens_per_s", output_rate(which));
    json_integer(writer, "blocks_allocated", which->statistics.blocks_allocated);
    json_integer(writer, "blocks_shared", which->statistics.blocks_shared);
    json_integer(writer, "cache_hits", which->statistics.prefix_hits);
    json_integer(writer, "tokens_saved", which->statistics.cached_tokens);
    json_begin_array(writer, "runs");
    for (size_t i = 0; i < REQUESTS; i++) {
        json_begin_object(writer, NULL);
        json_run(writer, &which->runs[i]);
        json_end_object(writer);
    }
    json_end_array(writer);
    json_end_object(writer);
}

static int report(const session *engine, const char *model, const paged_options *options, const pass *without,
                  const pass *with) {
    print_heading(engine, model, "One system prompt, 2 rounds of 10 requests");
    putchar('\n');
    bool met = print_result(without, with);
    int code = print_memory(engine, stdout);
    json writer;
    int opened = report_open(&writer, options->output, "paged");
    if (opened == EXIT_OK && writer.file != NULL) {
        json_session(&writer, engine, model);
        json_pass(&writer, "without_sharing", without);
        json_pass(&writer, "with_sharing", with);
        json_number(&writer, "speedup", output_rate(with) / output_rate(without));
        json_integer(&writer, "same_answers", count_equal(without, with));
        json_bool(&writer, "met", met);
        opened = report_close(&writer, options->output);
    }
    return code != EXIT_OK ? code : opened != EXIT_OK ? opened : met ? finish_output() : EXIT_FAILED;
}

int command_paged(int argc, char **argv) {
    paged_options options = {0};
    model_options model;
    sampling_options sampling;
    const arg own[] = {
        {.name = "output", .kind = ARG_TEXT, .value = &options.output, .placeholder = "FILE",
         .help = "write all figures to FILE as JSON too"},
    };
    const arg_group groups[] = {
        {.title = "This benchmark", .args = own, .count = LENGTH_OF(own)},
        sampling_group(&sampling, 50),
        model_group(&model),
    };
    const command_line line = {
        .usage = "bench paged --model MODEL [options]",
        .description =
            "Sends 20 requests in 2 rounds of 10, all with the same system prompt of 286 tokens and each with a\n"
            "question of its own, first without and then with sharing of equal prefixes. Requests that run at\n"
            "the same time share too: at least 19 must hit and 4,800 prompt tokens must be saved, or the exit\n"
            "code is 1.",
        .help_hint = "bench paged --help",
        .groups = groups,
        .group_count = LENGTH_OF(groups),
    };
    int code;
    if (!parse_arguments(&line, argc, argv, &code)) {
        return code;
    }
    pass *without = allocate(1, sizeof *without);
    pass *with = allocate(1, sizeof *with);
    session engine;
    code = report_check(options.output);
    if (code == EXIT_OK) {
        code = measure(&engine, model, false, &sampling, without);
        session_close(&engine);
    }
    if (code == EXIT_OK) {
        code = measure(&engine, model, true, &sampling, with);
        if (code == EXIT_OK) {
            code = report(&engine, model.model, &options, without, with);
        }
        session_close(&engine);
    }
    for (size_t i = 0; i < REQUESTS; i++) {
        run_clear(&without->runs[i]);
        run_clear(&with->runs[i]);
    }
    free(without);
    free(with);
    return code;
}
