/* Versions, status names, model information and statistics.
 *
 * runs-on: mock mlx */
#include "model.h"


static void versions_and_names(void) {
    CHECK_EQUAL(quire_abi_version(), QUIRE_ABI_VERSION);
    int parts[3];
    char rest;
    CHECK_EQUAL(sscanf(quire_version(), "%d.%d.%d%c", &parts[0], &parts[1], &parts[2], &rest), 3);

    CHECK_TEXT(quire_status_name(QUIRE_OK), "ok");
    CHECK_TEXT(quire_status_name(QUIRE_QUEUE_FULL), "queue full");
    CHECK_TEXT(quire_status_name(-1), "unknown status");
    CHECK_TEXT(quire_status_name(QUIRE_GRAMMAR_INVALID + 1), "unknown status");
    CHECK_TEXT(quire_status_name(INT32_MAX), "unknown status");
    CHECK_TEXT(quire_status_name(INT32_MIN), "unknown status");
    for (quire_status status = QUIRE_OK; status <= QUIRE_GRAMMAR_INVALID; status++) {
        CHECK(strcmp(quire_status_name(status), "unknown status") != 0);
        for (quire_status other = QUIRE_OK; other < status; other++) {
            CHECK(strcmp(quire_status_name(status), quire_status_name(other)) != 0);
        }
    }
}

static void the_model_is_described(const quire_engine *engine) {
    quire_model_info info;
    quire_error *error = NULL;
    memset(&info, 0, sizeof info);
    info.struct_size = sizeof info;
    CHECK_OK(quire_engine_model_info(engine, &info, &error), error);
    CHECK_EQUAL(info.struct_size, sizeof info);
    CHECK_TEXT(info.architecture, "llama");
    CHECK(info.quantization != NULL && info.quantization[0] != '\0');
    CHECK(info.device != NULL && info.device[0] != '\0');
    CHECK_EQUAL(info.vocab_size, VOCABULARY);
    CHECK_EQUAL(info.max_context, 8192);
    CHECK_EQUAL(info.layers, 1);
    CHECK_EQUAL(info.hidden_size, 8);
    CHECK_EQUAL(info.heads, 2);
    CHECK_EQUAL(info.kv_heads, 1);
    CHECK_EQUAL(info.head_dim, 4);
    CHECK_EQUAL(info.block_tokens, 32);
    CHECK(info.blocks > 0);
    CHECK_EQUAL(info.has_tokenizer, 1);
}

static void the_counters_count(quire_engine *engine) {
    quire_error *error = NULL;
    quire_statistics before = statistics_of(engine);
    CHECK_EQUAL(before.struct_size, sizeof before);
    CHECK_EQUAL(before.requests_accepted, 0);
    CHECK_EQUAL(before.blocks_free, before.blocks_total);
    CHECK(before.blocks_total > 0);

    check_engine_works(engine);
    uint64_t cancelled = submit_for(engine, 8000);
    CHECK_OK(quire_engine_cancel(engine, cancelled, &error), error);
    answer result = wait_for_answer(engine, cancelled);
    uint32_t generated = result.generated_tokens;
    answer_clear(&result);

    quire_statistics after = statistics_of(engine);
    CHECK_EQUAL(after.requests_accepted, 2);
    CHECK_EQUAL(after.requests_finished, 1);
    CHECK_EQUAL(after.requests_cancelled, 1);
    CHECK_EQUAL(after.requests_failed, 0);
    CHECK_EQUAL(after.requests_running, 0);
    CHECK_EQUAL(after.requests_waiting, 0);
    CHECK_EQUAL(after.prompt_tokens, 10);
    CHECK_EQUAL(after.generated_tokens, 7 + generated);
    CHECK(after.steps >= 7);
    CHECK(after.blocks_allocated >= 1);
    check_pages_are_back(engine);
}

int main(void) {
    test_guard_against_hanging();
    versions_and_names();
    quire_engine_options options = options_for(slow_model());
    options.block_tokens = 32;
    quire_engine *engine = engine_from(&options);
    the_model_is_described(engine);
    the_counters_count(engine);
    release(engine);
    return 0;
}
