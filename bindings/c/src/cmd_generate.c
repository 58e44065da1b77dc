/* bench generate: streams the answer to one prompt, then tells how fast it came. */
#include "common.h"

#include <errno.h>

#include "answer.h"
#include "chat.h"
#include "commands.h"
#include "progress.h"
#include "report.h"
#include "table.h"

typedef struct generate_options {
    const char *prompt;
    const char *system;
    text_list stops;
    bool chat;
    bool no_thinking;
    const char *schema; /* a file, or NULL */
    uint32_t logprobs;
    bool logprobs_given;
    bool quiet;
    bool json;
} generate_options;

static void on_event(void *user, run *which, const quire_event *event) {
    (void)which;
    answer_add(user, event);
}

/* All of an open file; the length goes to `*length`. */
static char *read_all(FILE *file, size_t *length) {
    size_t capacity = 4096;
    char *text = allocate(capacity, 1);
    *length = 0;
    for (;;) {
        *length += fread(text + *length, 1, capacity - *length, file);
        if (*length < capacity) {
            return text;
        }
        capacity *= 2;
        text = reallocate(text, capacity, 1);
    }
}

/* The file's text, or NULL with the reason on stderr. */
static char *read_file(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        fail(path, "%s", strerror(errno));
        return NULL;
    }
    char *text = read_all(file, length);
    if (ferror(file)) {
        fail(path, "could not be read");
        free(text);
        text = NULL;
    }
    fclose(file);
    return text;
}

static void print_metrics(const session *engine, const run *which) {
    static const char *const headings[] = {"input", "cached", "output", "TTFT ms", "TPOT ms", "generation tok/s",
                                           "latency ms", "<ended by"};
    table metrics = table_new(headings, LENGTH_OF(headings));
    table_cell(&metrics, "%u", which->prompt_tokens);
    table_cell(&metrics, "%u", which->cached_tokens);
    table_cell(&metrics, "%u", which->output_tokens);
    table_number(&metrics, run_ttft_ms(which), 1);
    table_number(&metrics, run_tpot_ms(which), 2);
    table_number(&metrics, run_generation_rate(which), 1);
    table_number(&metrics, run_latency_ms(which), 1);
    table_cell(&metrics, "%s", finish_name(which));
    fputc('\n', stderr);
    table_print(&metrics, stderr);
    print_memory(engine, stderr);
}

static int print_json(const session *engine, const char *model, const run *which, const answer *text) {
    json writer = json_to(stdout);
    json_begin_object(&writer, NULL);
    int code = json_session(&writer, engine, model);
    json_run(&writer, which);
    json_begin_array(&writer, "tokens");
    for (size_t i = 0; i < which->delta_tokens; i++) {
        json_integer(&writer, NULL, which->tokens[i]);
    }
    json_end_array(&writer);
    json_answer(&writer, text);
    json_end_object(&writer);
    return json_finish(&writer) ? code : fail("standard output", "could not be written");
}

static int generate(session *engine, const generate_options *options, const sampling_options *sampling,
                    const char *model) {
    run which = {0};
    answer text = {.keep = options->json, .quiet = options->quiet || options->json};
    char *from_input = NULL;
    char *schema = NULL;
    int code = request_from(sampling, &which.request);
    if (code != EXIT_OK) {
        return code;
    }
    if (strcmp(options->prompt, "-") == 0) {
        from_input = read_all(stdin, &which.request.prompt_len);
        which.request.prompt = from_input;
    } else {
        which.request.prompt = options->prompt;
        which.request.prompt_len = strlen(options->prompt);
    }
    quire_chat chat;
    char *conversation = NULL;
    if (options->chat) {
        conversation = chat_from(&chat, options->system, which.request.prompt, which.request.prompt_len);
        chat.thinking = options->no_thinking ? QUIRE_THINKING_OFF : QUIRE_THINKING_DEFAULT;
        which.request.chat = &chat;
        which.request.prompt = NULL;
        which.request.prompt_len = 0;
    }
    quire_string stops[ARG_LIST_MAX];
    which.request.stop_strings = stops;
    which.request.stop_string_count = options->stops.count;
    for (size_t i = 0; i < options->stops.count; i++) {
        stops[i] = (quire_string){options->stops.items[i], strlen(options->stops.items[i])};
    }
    which.request.logprobs = options->logprobs_given;
    which.request.top_logprobs = options->logprobs;
    if (options->schema != NULL) {
        schema = read_file(options->schema, &which.request.grammar_len);
        if (schema == NULL) {
            free(conversation);
            free(from_input);
            return EXIT_FAILED;
        }
        which.request.grammar = schema;
        which.request.grammar_kind = QUIRE_GRAMMAR_JSON_SCHEMA;
    }
    code = session_execute(engine, &which, 1, 1, on_event, &text);
    if (!options->json && which.first_ns != 0) {
        putchar('\n');
    }
    if (which.done && code != EXIT_FAILED) {
        if (options->json) {
            int printed = print_json(engine, model, &which, &text);
            code = code == EXIT_OK ? printed : code;
        } else if (!options->quiet) {
            fflush(stdout);
            print_logprobs(engine, &text.logprobs);
            print_metrics(engine, &which);
        }
    }
    answer_clear(&text);
    free(schema);
    free(conversation);
    free(from_input);
    run_clear(&which);
    return code == EXIT_OK ? finish_output() : code;
}

int command_generate(int argc, char **argv) {
    generate_options options = {0};
    model_options model;
    sampling_options sampling;
    const arg own[] = {
        {.name = "prompt", .kind = ARG_TEXT, .value = &options.prompt, .placeholder = "TEXT",
         .help = "what to go on from; '-' reads it from standard input; required"},
        {.name = "chat", .kind = ARG_FLAG, .value = &options.chat,
         .help = "the prompt is a user's message: put it into the model's chat template"},
        {.name = "system", .kind = ARG_TEXT, .value = &options.system, .placeholder = "TEXT",
         .help = "the system message before it; goes with --chat"},
        {.name = "no-thinking", .kind = ARG_FLAG, .value = &options.no_thinking,
         .help = "switch the model's thinking off, if its template can; goes with --chat"},
        {.name = "stop", .kind = ARG_TEXTS, .value = &options.stops, .placeholder = "TEXT",
         .help = "end the answer before this text; may be given up to 16 times"},
        {.name = "schema", .kind = ARG_TEXT, .value = &options.schema, .placeholder = "FILE",
         .help = "make the answer JSON that the JSON schema in this file validates"},
        {.name = "logprobs", .kind = ARG_U32, .value = &options.logprobs, .placeholder = "N",
         .min = 0, .max = 20, .given = &options.logprobs_given,
         .help = "print each token's log-probability, and the N most likely tokens beside it"},
        {.name = "quiet", .kind = ARG_FLAG, .value = &options.quiet, .help = "print the answer and nothing else"},
        {.name = "json", .kind = ARG_FLAG, .value = &options.json,
         .help = "print one JSON object with the answer, its tokens and the metrics instead of streaming"},
    };
    const arg_group groups[] = {
        {.title = "This command", .args = own, .count = LENGTH_OF(own)},
        sampling_group(&sampling, 256),
        model_group(&model),
    };
    const command_line line = {
        .usage = "bench generate --model MODEL --prompt TEXT [options]",
        .description =
            "Streams the answer to standard output as it comes; then prints token counts, TTFT, TPOT, speed\n"
            "and memory on standard error. Without --chat the prompt is taken as it is, special tokens\n"
            "written out in it included. With it, reasoning goes to standard error, and a tool call is a line\n"
            "with the tool's name and its arguments. Ctrl-C ends the answer early.",
        .help_hint = "bench generate --help",
        .groups = groups,
        .group_count = LENGTH_OF(groups),
    };
    int code;
    if (!parse_arguments(&line, argc, argv, &code)) {
        return code;
    }
    if (options.prompt == NULL) {
        return usage_error(line.help_hint, "--prompt is missing");
    }
    if (!options.chat && (options.system != NULL || options.no_thinking)) {
        return usage_error(line.help_hint, "%s goes with --chat only",
                           options.system != NULL ? "--system" : "--no-thinking");
    }
    if (options.quiet || options.json) {
        progress_silence();
    }
    session engine;
    code = session_open(&engine, &model);
    if (code == EXIT_OK) {
        code = generate(&engine, &options, &sampling, model.model);
        session_close(&engine);
    }
    return code;
}
