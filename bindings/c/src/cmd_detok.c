/* bench detok: tokens to text as they come, against decoding everything anew for each token. */
#include "common.h"

#include "clock.h"
#include "commands.h"
#include "report.h"
#include "session.h"
#include "table.h"

static const size_t lengths[] = {8, 103, 511, 1191, 2381, 4761};

/* Tokenized over and over until there are tokens enough. */
static const char sample[] =
    "The keeper climbed the stairs at dusk, as on every evening, and lit the lamp: 2,381 turns of the brass key. "
    "\"Na\xc3\xafve,\" she wrote, \"to think the sea forgets.\" \xe4\xb8\x96\xe7\x95\x8c \xf0\x9f\x9a\xa2\n"
    "for (int i = 0; i < 10; i++) { light[i] = i * 3.14; } // every third night\n";

/* Each measurement is repeated until this much time has passed. */
static const uint64_t MEASURE_NS = 100000000;

/* Token ids and room for their text. */
typedef struct sequence {
    uint32_t *tokens;
    size_t count;
    char *text;
    size_t length;
    size_t capacity;
} sequence;

typedef quire_status (*way)(const session *engine, sequence *self, quire_error **error);

/* What a client without a streaming detokenizer does: all of the text again, for each token, with the decoder
 * that everybody has. */
static quire_status decode_naively(const session *engine, sequence *self, quire_error **error) {
    quire_status status = QUIRE_OK;
    for (size_t i = 1; i <= self->count && status == QUIRE_OK; i++) {
        status = quire_engine_detokenize_reference(engine->engine, self->tokens, i, 0, self->text, self->capacity,
                                                   &self->length, error);
    }
    return status;
}

/* The same loop with Quire's decoder. */
static quire_status decode_anew(const session *engine, sequence *self, quire_error **error) {
    quire_status status = QUIRE_OK;
    for (size_t i = 1; i <= self->count && status == QUIRE_OK; i++) {
        status = quire_engine_detokenize(engine->engine, self->tokens, i, 0, self->text, self->capacity,
                                         &self->length, error);
    }
    return status;
}

static quire_status create_only(const session *engine, sequence *self, quire_error **error) {
    (void)self;
    quire_detokenizer *detokenizer = NULL;
    quire_status status = quire_detokenizer_create(engine->engine, 0, &detokenizer, error);
    quire_detokenizer_free(detokenizer);
    return status;
}

static quire_status decode_streaming(const session *engine, sequence *self, quire_error **error) {
    quire_detokenizer *detokenizer = NULL;
    const char *text;
    size_t length;
    self->length = 0;
    quire_status status = quire_detokenizer_create(engine->engine, 0, &detokenizer, error);
    for (size_t i = 0; i <= self->count && status == QUIRE_OK; i++) {
        status = i < self->count
                     ? quire_detokenizer_push(detokenizer, &self->tokens[i], 1, &text, &length, error)
                     : quire_detokenizer_finish(detokenizer, &text, &length, error);
        if (status == QUIRE_OK && length <= self->capacity - self->length) {
            memcpy(self->text + self->length, text, length);
            self->length += length;
        }
    }
    quire_detokenizer_free(detokenizer);
    return status;
}

/* Milliseconds that one way takes, on average; negative if it failed, which is told. */
static double measure(const session *engine, sequence *self, way decode) {
    uint64_t start = clock_ns();
    uint64_t end = start;
    uint64_t rounds = 0;
    for (; end - start < MEASURE_NS; end = clock_ns()) {
        quire_error *error = NULL;
        quire_status status = decode(engine, self, &error);
        if (status != QUIRE_OK) {
            fail_with("detokenizing", status, error);
            return -1;
        }
        rounds++;
    }
    return (double)(end - start) / 1e6 / (double)rounds;
}

/* The sample's tokens, as often as it takes for `count` of them. */
static int fill(const session *engine, sequence *self, size_t count) {
    quire_error *error = NULL;
    size_t have = 0;
    quire_status status =
        quire_engine_tokenize(engine->engine, sample, sizeof sample - 1, 0, NULL, 0, &have, &error);
    if (status == QUIRE_OK) {
        self->tokens = allocate(have > count ? have : count, sizeof *self->tokens);
        status = quire_engine_tokenize(engine->engine, sample, sizeof sample - 1, 0, self->tokens, have, &have, &error);
    }
    if (status != QUIRE_OK) {
        return fail_with("tokenizing", status, error);
    }
    for (size_t i = have; i < count; i++) {
        self->tokens[i] = self->tokens[i - have];
    }
    self->count = count;
    self->capacity = 64 * count;
    self->text = allocate(self->capacity, 1);
    return EXIT_OK;
}

/* A row of the table. Every way must give the same text. */
static int measure_length(const session *engine, size_t which, table *results) {
    static const way ways[] = {decode_naively, decode_streaming, decode_anew};
    sequence all = {0};
    char *expected = NULL;
    size_t expected_length = 0;
    double times[LENGTH_OF(ways)];
    int code = fill(engine, &all, lengths[which]);
    for (size_t i = 0; i < LENGTH_OF(ways) && code == EXIT_OK; i++) {
        times[i] = measure(engine, &all, ways[i]);
        if (times[i] < 0) {
            code = EXIT_FAILED;
        } else if (i == 0) {
            expected = all.text;
            expected_length = all.length;
            all.text = allocate(all.capacity, 1);
        } else if (all.length != expected_length || memcmp(all.text, expected, expected_length) != 0) {
            code = fail("detok", "the texts of %zu tokens differ", lengths[which]);
        }
    }
    if (code == EXIT_OK) {
        table_cell(results, "%zu", which + 1);
        table_cell(results, "%zu", all.count);
        table_number(results, times[0], 4);
        table_number(results, times[1], 4);
        table_cell(results, "%.1fx", times[0] / times[1]);
        table_number(results, times[2], 4);
        table_cell(results, "%.1fx", times[2] / times[1]);
    }
    free(expected);
    free(all.text);
    free(all.tokens);
    return code;
}

static int measure_all(const session *engine) {
    static const char *const headings[] = {"sequence", "tokens",         "naive decode() ms", "streaming ms",
                                           "speed-up", "Quire's decode() ms", "speed-up"};
    table results = table_new(headings, LENGTH_OF(headings));
    int code = EXIT_OK;
    for (size_t i = 0; i < LENGTH_OF(lengths) && code == EXIT_OK; i++) {
        code = measure_length(engine, i, &results);
    }
    table_print(&results, stdout);
    if (code == EXIT_OK) {
        double creation = measure(engine, NULL, create_only);
        code = creation < 0 ? EXIT_FAILED : EXIT_OK;
        printf("\nA detokenizer is made and freed in %.0f ns.\n", creation * 1e6);
    }
    return code;
}

int command_detok(int argc, char **argv) {
    model_options model;
    const arg_group groups[] = {model_group(&model)};
    const command_line line = {
        .usage = "bench detok --model MODEL [options]",
        .description =
            "Turns sequences of six lengths into text: by decoding all tokens so far anew for each token, with the\n"
            "decoder of the tokenizers library (naive) and with Quire's, and with the streaming detokenizer, its\n"
            "creation included. All texts must be equal.",
        .help_hint = "bench detok --help",
        .groups = groups,
        .group_count = LENGTH_OF(groups),
    };
    int code;
    if (!parse_arguments(&line, argc, argv, &code)) {
        return code;
    }
    session engine;
    code = session_open(&engine, &model);
    if (code == EXIT_OK) {
        code = measure_all(&engine);
        session_close(&engine);
    }
    return code == EXIT_OK ? finish_output() : code;
}
