/* bench prefix: which requests find their prefix in the cache, and what that saves. */
#include "common.h"

#include <math.h>

#include "commands.h"
#include "progress.h"
#include "prompts.h"
#include "report.h"
#include "table.h"
#include "tokens.h"

enum { SHORT_PROMPT = 15 };

/* What a request found in the cache. */
typedef enum found { MISS = 1, PREFIX_HIT = 2, HIT = 4 } found;

typedef struct step {
    const char *name;
    const char *description;
    unsigned expected; /* any of these */
    size_t prompt;     /* which of the prompts */
    size_t equals;     /* the step whose answer must be the same; itself if none */
} step;

enum { LONG_A, LONG_B, LONG_C, SHORT_A, SHORT_B, PROMPTS };

static const step steps[] = {
    {"1a", "First request", MISS, LONG_A, 0},
    {"1b", "Same prompt", HIT, LONG_A, 0},
    {"1c", "Different prompt", MISS | PREFIX_HIT, LONG_B, 2},
    {"1d", "Return to prompt 1", HIT, LONG_A, 0},
    {"1e", "Same beginning, other end", PREFIX_HIT, LONG_C, 4},
    {"2a", "First request, 15 tokens", MISS, SHORT_A, 5},
    {"2b", "Same prompt", HIT, SHORT_A, 5},
    {"2c", "Different prompt", MISS | PREFIX_HIT, SHORT_B, 7},
    {"2d", "Return to prompt 1", HIT, SHORT_A, 5},
};

enum { STEPS = LENGTH_OF(steps) };

typedef struct prefix_options {
    const char *output;
} prefix_options;

/* HIT: all whole pages before the last token, which is always computed, came from the cache; in a prompt
 * shorter than a page at least one token did. */
static found what_was_found(const session *engine, const run *which) {
    uint32_t page = engine->info.block_tokens;
    uint32_t whole_pages = (which->prompt_tokens - 1) / page * page;
    if (which->cached_tokens == 0) {
        return MISS;
    }
    return which->cached_tokens >= whole_pages ? HIT : PREFIX_HIT;
}

static const char *found_name(unsigned what) {
    switch (what) {
    case MISS:
        return "MISS";
    case HIT:
        return "HIT";
    case PREFIX_HIT:
        return "PREFIX_HIT";
    default:
        return "MISS or PREFIX_HIT";
    }
}

static bool step_met(const session *engine, const run *runs, size_t index) {
    return (what_was_found(engine, &runs[index]) & steps[index].expected) != 0 &&
           run_equals(&runs[index], &runs[steps[index].equals]);
}

/* The system prompt and a visitor's question; another system and question; the first with another question;
 * two short ones. */
static int make_prompts(const session *engine, tokens *prompts) {
    static const char *const endings[] = {"\n\nVisitor: Where are the maps?\n",
                                          "\n\nVisitor: When do you close today?\n"};
    tokens tails[2] = {{0}, {0}};
    int code = tokens_of(engine, system_prompt, &prompts[LONG_A]);
    for (size_t i = 0; code == EXIT_OK && i < 2; i++) {
        code = tokens_of(engine, endings[i], &tails[i]);
    }
    if (code == EXIT_OK) {
        tokens_append(&prompts[LONG_C], &prompts[LONG_A]);
        tokens_append(&prompts[LONG_C], &tails[1]);
        tokens_append(&prompts[LONG_A], &tails[0]);
        code = tokens_of(engine, varied_prompt(9), &prompts[LONG_B]);
    }
    if (code == EXIT_OK) {
        code = tokens_of(engine, varied_prompt(2), &prompts[SHORT_A]);
    }
    if (code == EXIT_OK) {
        code = tokens_of(engine, varied_prompt(3), &prompts[SHORT_B]);
    }
    for (size_t i = SHORT_A; code == EXIT_OK && i <= SHORT_B; i++) {
        tokens_resize(&prompts[i], SHORT_PROMPT);
    }
    tokens_free(&tails[0]);
    tokens_free(&tails[1]);
    return code;
}

static int warm_up(session *engine, const sampling_options *sampling, const tokens *prompt) {
    run which = {0};
    size_t salt = 1;
    int code = request_from(sampling, &which.request);
    if (code == EXIT_OK) {
        ask_tokens(&which, prompt);
        set_salt(&which, &salt); /* leaves nothing that the measured requests could find */
        code = session_execute(engine, &which, 1, 1, NULL, NULL);
    }
    run_clear(&which);
    return code;
}

static int measure(session *engine, const sampling_options *sampling, const tokens *prompts, run *runs) {
    int code = warm_up(engine, sampling, &prompts[LONG_A]);
    for (size_t i = 0; code == EXIT_OK && i < STEPS; i++) {
        code = request_from(sampling, &runs[i].request);
        if (code == EXIT_OK) {
            ask_tokens(&runs[i], &prompts[steps[i].prompt]);
            code = session_execute(engine, &runs[i], 1, 1, NULL, NULL);
        }
        progress_live("step %s done", steps[i].name);
    }
    progress_clear();
    return code;
}

typedef struct totals {
    size_t hits;
    size_t misses;
    uint64_t prompt_tokens;
    uint64_t saved;
    double cold_ms; /* TTFT of the first request */
    double warm_ms; /* best TTFT of its repetitions */
    bool all_met;
} totals;

static totals sum_up(const session *engine, const run *runs) {
    totals sum = {.all_met = true, .cold_ms = run_ttft_ms(&runs[0])};
    sum.warm_ms = fmin(run_ttft_ms(&runs[1]), run_ttft_ms(&runs[3]));
    for (size_t i = 0; i < STEPS; i++) {
        bool missed = what_was_found(engine, &runs[i]) == MISS;
        sum.misses += missed;
        sum.hits += !missed;
        sum.prompt_tokens += runs[i].prompt_tokens;
        sum.saved += runs[i].cached_tokens;
        sum.all_met = sum.all_met && step_met(engine, runs, i);
    }
    return sum;
}

static void print_steps(const session *engine, const run *runs) {
    static const char *const headings[] = {"<Step",  "<Description", "<Expected", "<Actual", "tokens", "cached",
                                           "TTFT ms", "<Same answer", "<Status"};
    table all = table_new(headings, LENGTH_OF(headings));
    for (size_t i = 0; i < STEPS; i++) {
        table_cell(&all, "%s", steps[i].name);
        table_cell(&all, "%s", steps[i].description);
        table_cell(&all, "%s", found_name(steps[i].expected));
        table_cell(&all, "%s", found_name(what_was_found(engine, &runs[i])));
        table_cell(&all, "%u", runs[i].prompt_tokens);
        table_cell(&all, "%u", runs[i].cached_tokens);
        table_number(&all, run_ttft_ms(&runs[i]), 1);
        bool first = steps[i].equals == i;
        table_cell(&all, "%s", first ? "" : run_equals(&runs[i], &runs[steps[i].equals]) ? "yes" : "NO");
        table_cell(&all, "%s", verdict(step_met(engine, runs, i)));
    }
    table_print(&all, stdout);
}

static int write_result(const session *engine, const char *model, const char *path, const run *runs,
                        const totals *sum) {
    json writer;
    int code = report_open(&writer, path, "prefix");
    if (code != EXIT_OK || writer.file == NULL) {
        return code;
    }
    code = json_session(&writer, engine, model);
    json_begin_array(&writer, "steps");
    for (size_t i = 0; i < STEPS; i++) {
        json_begin_object(&writer, NULL);
        json_string(&writer, "step", steps[i].name);
        json_string(&writer, "description", steps[i].description);
        json_string(&writer, "expected", found_name(steps[i].expected));
        json_string(&writer, "actual", found_name(what_was_found(engine, &runs[i])));
        json_bool(&writer, "met", step_met(engine, runs, i));
        json_run(&writer, &runs[i]);
        json_end_object(&writer);
    }
    json_end_array(&writer);
    json_integer(&writer, "hits", sum->hits);
    json_integer(&writer, "misses", sum->misses);
    json_integer(&writer, "tokens_saved", sum->saved);
    json_number(&writer, "cached_speedup", sum->cold_ms / sum->warm_ms);
    json_bool(&writer, "met", sum->all_met);
    int closed = report_close(&writer, path);
    return code == EXIT_OK ? closed : code;
}

static int run_prefix(session *engine, const char *model, const prefix_options *options,
                      const sampling_options *sampling) {
    tokens prompts[PROMPTS] = {{0}};
    run *runs = allocate(STEPS, sizeof *runs);
    int code = make_prompts(engine, prompts);
    if (code == EXIT_OK) {
        code = measure(engine, sampling, prompts, runs);
    }
    if (code == EXIT_OK) {
        totals sum = sum_up(engine, runs);
        print_heading(engine, model, "Prefix cache");
        putchar('\n');
        print_steps(engine, runs);
        printf("\n  hits %zu, misses %zu, hit rate %.1f %%, tokens saved %" PRIu64 " of %" PRIu64 "\n", sum.hits,
               sum.misses, 100.0 * (double)sum.hits / STEPS, sum.saved, sum.prompt_tokens);
        printf("  cached speed-up of TTFT: %.2fx (%.1f ms cold, %.1f ms cached)\n", sum.cold_ms / sum.warm_ms,
               sum.cold_ms, sum.warm_ms);
        code = print_memory(engine, stdout);
        int written = write_result(engine, model, options->output, runs, &sum);
        code = code != EXIT_OK ? code : written != EXIT_OK ? written : sum.all_met ? EXIT_OK : EXIT_FAILED;
    }
    for (size_t i = 0; i < PROMPTS; i++) {
        tokens_free(&prompts[i]);
    }
    runs_free(runs, STEPS);
    return code == EXIT_OK ? finish_output() : code;
}

int command_prefix(int argc, char **argv) {
    prefix_options options = {0};
    model_options model;
    sampling_options sampling;
    const arg own[] = {
        {.name = "output", .kind = ARG_TEXT, .value = &options.output, .placeholder = "FILE",
         .help = "write all figures to FILE as JSON too"},
    };
    const arg_group groups[] = {
        {.title = "This benchmark", .args = own, .count = LENGTH_OF(own)},
        sampling_group(&sampling, 20),
        model_group(&model),
    };
    const command_line line = {
        .usage = "bench prefix --model MODEL [options]",
        .description =
            "Sends prompts one after another and prints for each whether its prefix was found in the cache:\n"
            "MISS (no token), HIT (all whole pages before the last token) or PREFIX_HIT (some). A request\n"
            "that hits must give the same tokens as the one that missed. Ends with exit code 1 if anything\n"
            "is not as expected.",
        .help_hint = "bench prefix --help",
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
        code = run_prefix(&engine, model.model, &options, &sampling);
        session_close(&engine);
    }
    return code;
}
