/* Answers that follow a grammar, and grammars that are refused.
 *
 * runs-on: mock */
#include "model.h"

static const char SCHEMA[] =
    "{\"type\": \"object\", \"properties\": {\"ok\": {\"type\": \"boolean\"}, \"n\": {\"enum\": [1, 2]}},"
    " \"required\": [\"ok\", \"n\"], \"additionalProperties\": false}";

static quire_request_options request_with(quire_grammar_kind kind, const char *grammar, size_t length) {
    quire_request_options request = request_for(500);
    request.ignore_eos = 0;
    request.grammar_kind = kind;
    request.grammar = grammar;
    request.grammar_len = length;
    return request;
}

static answer answer_to(quire_engine *engine, quire_grammar_kind kind, const char *grammar) {
    quire_request_options request = request_with(kind, grammar, strlen(grammar));
    answer result = wait_for_answer(engine, submit(engine, &request));
    CHECK_EQUAL(result.end, QUIRE_EVENT_FINISHED);
    return result;
}

static bool is_text(const answer *result, const char *text) {
    return result->text_len == strlen(text) && memcmp(result->text, text, result->text_len) == 0;
}

static void answers_follow_their_grammar(quire_engine *engine) {
    answer result = answer_to(engine, QUIRE_GRAMMAR_REGEX, "yes{3}");
    CHECK(is_text(&result, "yesss"));
    CHECK_EQUAL(result.finish_reason, QUIRE_FINISH_GRAMMAR);
    answer_clear(&result);

    result = answer_to(engine, QUIRE_GRAMMAR_CHOICE, "[\"left\", \"right\"]");
    CHECK(is_text(&result, "left") || is_text(&result, "right"));
    answer_clear(&result);

    result = answer_to(engine, QUIRE_GRAMMAR_LARK, "start: \"(\" /[01]/ \")\"");
    CHECK(is_text(&result, "(0)") || is_text(&result, "(1)"));
    answer_clear(&result);

    result = answer_to(engine, QUIRE_GRAMMAR_JSON_SCHEMA, SCHEMA);
    CHECK(result.text_len > 10);
    CHECK(result.text[0] == '{');
    answer_clear(&result);
}

static void check_refused(quire_engine *engine, quire_grammar_kind kind, const char *grammar, size_t length,
                          quire_status status, const char *says) {
    quire_request_options request = request_with(kind, grammar, length);
    quire_error *error = NULL;
    uint64_t id = 0;
    CHECK_FAILS(quire_engine_submit(engine, &request, &id, &error), error, status, says);
    CHECK_EQUAL(id, 0);
}

static void bad_grammars_are_refused(quire_engine *engine) {
    enum { DEPTH = 10000 };
    static char deep[DEPTH * 10];
    size_t length = 0;
    for (size_t i = 0; i < DEPTH; i++) {
        memcpy(deep + length, "{\"items\":", 9);
        length += 9;
    }
    check_refused(engine, QUIRE_GRAMMAR_JSON_SCHEMA, deep, length, QUIRE_GRAMMAR_INVALID, "recursion limit");
    check_refused(engine, QUIRE_GRAMMAR_JSON_SCHEMA, "{\"type\"", 7, QUIRE_GRAMMAR_INVALID, "line 1 column 7");
    check_refused(engine, QUIRE_GRAMMAR_JSON_SCHEMA, "false", 5, QUIRE_GRAMMAR_INVALID, "its root");
    check_refused(engine, QUIRE_GRAMMAR_REGEX, "a(", 2, QUIRE_GRAMMAR_INVALID, "regular expression");
    check_refused(engine, QUIRE_GRAMMAR_REGEX, "\xff", 1, QUIRE_INVALID_UTF8, "grammar");
    check_refused(engine, QUIRE_GRAMMAR_REGEX, NULL, 3, QUIRE_INVALID_ARGUMENT, "grammar is NULL");
    check_refused(engine, QUIRE_GRAMMAR_NONE, "x", 1, QUIRE_INVALID_ARGUMENT, "grammar_kind");
    check_refused(engine, 77, "x", 1, QUIRE_INVALID_ARGUMENT, "grammar_kind is 77");
    check_engine_works(engine);
}

int main(void) {
    test_guard_against_hanging();
    quire_engine *engine = engine_for(new_model(NULL));
    answers_follow_their_grammar(engine);
    bad_grammars_are_refused(engine);
    release(engine);
    return 0;
}
