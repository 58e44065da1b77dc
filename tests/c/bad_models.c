/* Models that are missing, damaged, or of an unknown kind: each is refused with its documented status and a
 * message that names the file and what is wrong in it.
 *
 * runs-on: mock mlx */
#include "model.h"

static void check_refused_at(const char *model, quire_status expected, const char *names, int line) {
    quire_engine_options options = options_for(model);
    quire_engine *engine = NULL;
    quire_error *error = NULL;
    quire_status status = quire_engine_create(&options, &engine, &error);
    if (engine != NULL) {
        fprintf(test_output(), "%s:%d: the model was accepted\n", __FILE__, line);
        exit(1);
    }
    check_fails_at(status, &error, expected, names, "quire_engine_create", __FILE__, line);
}

#define CHECK_REFUSED(model, expected, names) check_refused_at(model, expected, names, __LINE__)

static const char *without(const char *name) {
    const char *model = new_model(NULL);
    char path[PATH_SIZE];
    join_path(path, model, name);
    CHECK_EQUAL(remove(path), 0);
    return model;
}

static const char *changed(const char *name, const char *from, const char *to) {
    const char *model = new_model(NULL);
    replace_in_file(model, name, from, to);
    return model;
}

static const char *with_file(const char *name, const char *bytes, size_t size) {
    const char *model = new_model(NULL);
    char path[PATH_SIZE];
    join_path(path, model, name);
    write_file(path, bytes, size);
    return model;
}

static void paths_that_lead_nowhere(void) {
    CHECK_REFUSED("/nonexistent/model", QUIRE_MODEL_NOT_FOUND, "/nonexistent/model");
    CHECK_REFUSED("nonexistent", QUIRE_MODEL_NOT_FOUND, "nonexistent");
    CHECK_REFUSED("./no/such/model.gguf", QUIRE_MODEL_NOT_FOUND, "./no/such/model.gguf");
    /* A name in the Hugging Face cache: the message says the command that fetches it. */
    CHECK_REFUSED("nobody-at-all/nothing", QUIRE_MODEL_NOT_FOUND, "download nobody-at-all/nothing");
}

static void configurations(void) {
    CHECK_REFUSED(new_directory(), QUIRE_MODEL_INVALID, "config.json");
    CHECK_REFUSED(without("config.json"), QUIRE_MODEL_INVALID, "config.json");
    CHECK_REFUSED(with_file("config.json", "", 0), QUIRE_MODEL_INVALID, "config.json");
    CHECK_REFUSED(with_file("config.json", "[]", 2), QUIRE_MODEL_INVALID, "config.json");
    CHECK_REFUSED(with_file("config.json", "{}", 2), QUIRE_MODEL_INVALID, "config.json");
    CHECK_REFUSED(with_file("config.json", "{\"model_type\": ", 15), QUIRE_MODEL_INVALID, "config.json");
    CHECK_REFUSED(with_file("config.json", "\xff\xfe", 2), QUIRE_MODEL_INVALID, "config.json");
    CHECK_REFUSED(changed("config.json", "\"model_type\": \"llama\"", "\"model_type\": \"quagga\""),
                  QUIRE_MODEL_UNSUPPORTED, "quagga");
    CHECK_REFUSED(changed("config.json", "\"hidden_size\": 8", "\"hidden_sizes\": 8"), QUIRE_MODEL_INVALID,
                  "hidden_size");
    CHECK_REFUSED(changed("config.json", "\"hidden_size\": 8", "\"hidden_size\": \"8\""), QUIRE_MODEL_INVALID,
                  "config.json");
    CHECK_REFUSED(changed("config.json", "\"hidden_size\": 8", "\"hidden_size\": 0"), QUIRE_MODEL_INVALID,
                  "hidden_size");
    CHECK_REFUSED(changed("config.json", "\"hidden_size\": 8", "\"hidden_size\": -8"), QUIRE_MODEL_INVALID,
                  "config.json");
    CHECK_REFUSED(changed("config.json", "\"num_attention_heads\": 2", "\"num_attention_heads\": 0"),
                  QUIRE_MODEL_INVALID, "num_attention_heads");
    CHECK_REFUSED(changed("config.json", "\"num_key_value_heads\": 1", "\"num_key_value_heads\": 3"),
                  QUIRE_MODEL_INVALID, "num_key_value_heads");
    CHECK_REFUSED(changed("config.json", "\"vocab_size\": 258", "\"vocab_size\": 99999999999"),
                  QUIRE_MODEL_INVALID, "config.json");
}

/* Nested as deep as a stack overflow takes: refused, not crashed. */
static void a_deeply_nested_configuration(void) {
    enum { DEPTH = 200000 };
    char *nested = malloc(DEPTH);
    CHECK(nested != NULL);
    memset(nested, '[', DEPTH);
    const char *model = with_file("config.json", nested, DEPTH);
    free(nested);
    CHECK_REFUSED(model, QUIRE_MODEL_INVALID, "config.json");
}

static void tensors(void) {
    CHECK_REFUSED(without("model.safetensors"), QUIRE_MODEL_INVALID, "safetensors");
    CHECK_REFUSED(changed("model.safetensors", "model.norm.weight", "model.norn.weight"), QUIRE_MODEL_INVALID,
                  "model.norm.weight");
    CHECK_REFUSED(changed("model.safetensors", "[258, 8]", "[8, 258]"), QUIRE_MODEL_INVALID,
                  "model.embed_tokens.weight");
    CHECK_REFUSED(changed("config.json", "\"intermediate_size\": 16", "\"intermediate_size\": 24"),
                  QUIRE_MODEL_INVALID, "mlp.");
    CHECK_REFUSED(changed("config.json", "\"num_hidden_layers\": 1", "\"num_hidden_layers\": 2"),
                  QUIRE_MODEL_INVALID, "layers.1.");
    CHECK_REFUSED(changed("model.safetensors", "\"F32\"", "\"F99\""), QUIRE_MODEL_INVALID, "model.safetensors");
    CHECK_REFUSED(changed("model.safetensors", "\"F32\"", "\"I32\""), QUIRE_MODEL_INVALID, "weight");
    CHECK_REFUSED(changed("model.safetensors", "data_offsets", "data_offsetz"), QUIRE_MODEL_INVALID,
                  "model.safetensors");
    CHECK_REFUSED(changed("model.safetensors", "{", "["), QUIRE_MODEL_INVALID, "model.safetensors");
}

static void truncated_safetensors(void) {
    size_t size;
    char path[PATH_SIZE];
    const char *whole = new_model(NULL);
    join_path(path, whole, "model.safetensors");
    char *bytes = read_file(path, &size);
    const size_t lengths[] = {0, 4, 8, 100, size / 2, size - 1};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        write_file(path, bytes, lengths[i]);
        CHECK_REFUSED(whole, QUIRE_MODEL_INVALID, "model.safetensors");
    }
    /* A header longer than the file, and than memory. */
    for (int length = 1; length <= 0x7f; length += 0x7e) {
        memset(bytes, length, 8);
        write_file(path, bytes, size);
        CHECK_REFUSED(whole, QUIRE_MODEL_INVALID, "model.safetensors");
    }
    free(bytes);
}

static void shards(void) {
    const char missing[] = "{\"weight_map\": {\"model.norm.weight\": \"model-00001-of-00002.safetensors\"}}";
    const char outside[] = "{\"weight_map\": {\"model.norm.weight\": \"../outside.safetensors\"}}";
    const char *model = without("model.safetensors");
    char path[PATH_SIZE];
    join_path(path, model, "model.safetensors.index.json");
    write_file(path, missing, sizeof missing - 1);
    CHECK_REFUSED(model, QUIRE_MODEL_INVALID, "model-00001-of-00002.safetensors");
    write_file(path, outside, sizeof outside - 1);
    CHECK_REFUSED(model, QUIRE_MODEL_INVALID, "outside.safetensors");
    write_file(path, "{", 1);
    CHECK_REFUSED(model, QUIRE_MODEL_INVALID, "model.safetensors.index.json");
}

static void gguf_files(void) {
    static const struct {
        const char *bytes;
        size_t size;
    } broken[] = {
        {"", 0},
        {"GGU", 3},
        {"GGUF", 4},
        {"GGML\3\0\0\0", 8},
        {"GGUF\3\0\0\0\0\0\0\0", 12},
        {"GGUF\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24},                   /* no tensors, no metadata */
        {"GGUF\3\0\0\0\377\377\377\377\377\377\377\177\0\0\0\0\0\0\0\0", 24},   /* 2^63 - 1 tensors */
        {"GGUF\3\0\0\0\0\0\0\0\0\0\0\0\377\377\377\377\377\377\377\177", 24},   /* as many values */
    };
    const char *directory = new_directory();
    char path[PATH_SIZE];
    join_path(path, directory, "broken.gguf");
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        write_file(path, broken[i].bytes, broken[i].size);
        CHECK_REFUSED(path, QUIRE_MODEL_INVALID, "broken.gguf");
    }
    write_file(path, "GGUF\143\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24);
    CHECK_REFUSED(path, QUIRE_MODEL_UNSUPPORTED, "version 99");
    join_path(path, directory, "notes.txt");
    write_file(path, "no model at all", 15);
    CHECK_REFUSED(path, QUIRE_MODEL_UNSUPPORTED, "notes.txt");
}

static void tokenizers(void) {
    CHECK_REFUSED(with_file("tokenizer.json", "", 0), QUIRE_TOKENIZER_INVALID, "tokenizer.json");
    CHECK_REFUSED(with_file("tokenizer.json", "{}", 2), QUIRE_TOKENIZER_INVALID, "tokenizer.json");
    CHECK_REFUSED(with_file("tokenizer.json", "{\"model\"", 8), QUIRE_TOKENIZER_INVALID, "tokenizer.json");
    CHECK_REFUSED(with_file("tokenizer_config.json", "[", 1), QUIRE_TOKENIZER_INVALID, "tokenizer_config.json");
}

int main(void) {
    test_guard_against_hanging();
    setenv("HF_HUB_CACHE", new_directory(), 1); /* an empty cache, whatever this machine has */
    paths_that_lead_nowhere();
    configurations();
    a_deeply_nested_configuration();
    tensors();
    truncated_safetensors();
    shards();
    gguf_files();
    tokenizers();
    /* After all that, a sound model still loads. */
    quire_engine *engine = engine_for(new_model(NULL));
    check_engine_works(engine);
    release(engine);
    return 0;
}
