/* Without a log callback the library writes nothing, whatever goes wrong: both terminals are files here,
 * and stay empty.
 *
 * runs-on: mock mlx */
#include "model.h"

#include <fcntl.h>

static int redirect(int descriptor, const char *path) {
    int kept = dup(descriptor);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(kept >= 0 && file >= 0);
    CHECK(dup2(file, descriptor) == descriptor);
    close(file);
    return kept;
}

static void check_empty(const char *path) {
    size_t size;
    char *bytes = read_file(path, &size);
    if (size != 0) {
        fprintf(test_output(), "the library wrote: %s\n", bytes);
    }
    CHECK_EQUAL(size, 0);
    free(bytes);
}

static void expect_failure(const char *model) {
    quire_engine_options options = options_for(model);
    quire_engine *engine = NULL;
    CHECK(quire_engine_create(&options, &engine, NULL) != QUIRE_OK);
}

static void do_all_sorts_of_things(void) {
    const char *broken_config = new_model(NULL);
    replace_in_file(broken_config, "config.json", "{", "");
    const char *broken_weights = new_model(NULL);
    replace_in_file(broken_weights, "model.safetensors", "F32", "F99");
    const char *broken_tokenizer = new_model(NULL);
    replace_in_file(broken_tokenizer, "tokenizer.json", "{", "[");
    expect_failure("/nonexistent/model");
    expect_failure("nobody/nothing");
    expect_failure(broken_config);
    expect_failure(broken_weights);
    expect_failure(broken_tokenizer);

    quire_engine *engine = engine_for(new_model("{\"panic_at_step\": 5}"));
    answer result = wait_for_answer(engine, submit_for(engine, 100));
    answer_clear(&result);
    check_engine_works(engine);
    CHECK(quire_engine_cancel(engine, 999, NULL) != QUIRE_OK);
    quire_request_options request = request_for(0);
    uint64_t id;
    CHECK(quire_engine_submit(engine, &request, &id, NULL) != QUIRE_OK);
    CHECK(quire_engine_submit(NULL, NULL, NULL, NULL) != QUIRE_OK);
    submit_for(engine, 8000);
    release(engine);
}

int main(void) {
    test_guard_against_hanging();
    test_output();
    const char *directory = new_directory();
    char output[PATH_SIZE];
    char errors[PATH_SIZE];
    join_path(output, directory, "stdout");
    join_path(errors, directory, "stderr");
    int kept_output = redirect(STDOUT_FILENO, output);
    int kept_errors = redirect(STDERR_FILENO, errors);
    do_all_sorts_of_things();
    fflush(NULL);
    CHECK(dup2(kept_output, STDOUT_FILENO) >= 0);
    CHECK(dup2(kept_errors, STDERR_FILENO) >= 0);
    close(kept_output);
    close(kept_errors);
    check_empty(output);
    check_empty(errors);
    return 0;
}
