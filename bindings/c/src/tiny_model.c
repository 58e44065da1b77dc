#include "tiny_model.h"

#include <errno.h>
#include <unistd.h>

enum { HIDDEN = 64, INTERMEDIATE = 64, PATH_MAX_HERE = TINY_PATH_SIZE + 32 };

static const char config[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_act\": \"silu\",\n"
    " \"hidden_size\": 64, \"num_hidden_layers\": 1, \"num_attention_heads\": 1, \"num_key_value_heads\": 1,\n"
    " \"head_dim\": 64, \"intermediate_size\": 64, \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0,\n"
    " \"max_position_embeddings\": 8192, \"vocab_size\": 512, \"tie_word_embeddings\": true,\n"
    " \"attention_bias\": false, \"mlp_bias\": false, \"torch_dtype\": \"float32\", \"bos_token_id\": 510,\n"
    " \"eos_token_id\": 511, \"mock\": {}}\n";

static const struct {
    const char *name;
    int rows; /* 0: a vector */
    int columns;
} tensors[] = {
    {"model.embed_tokens.weight", TINY_VOCABULARY, HIDDEN},
    {"model.layers.0.input_layernorm.weight", 0, HIDDEN},
    {"model.layers.0.self_attn.q_proj.weight", HIDDEN, HIDDEN},
    {"model.layers.0.self_attn.k_proj.weight", HIDDEN, HIDDEN},
    {"model.layers.0.self_attn.v_proj.weight", HIDDEN, HIDDEN},
    {"model.layers.0.self_attn.o_proj.weight", HIDDEN, HIDDEN},
    {"model.layers.0.post_attention_layernorm.weight", 0, HIDDEN},
    {"model.layers.0.mlp.gate_proj.weight", INTERMEDIATE, HIDDEN},
    {"model.layers.0.mlp.up_proj.weight", INTERMEDIATE, HIDDEN},
    {"model.layers.0.mlp.down_proj.weight", HIDDEN, INTERMEDIATE},
    {"model.norm.weight", 0, HIDDEN},
};

/* The JSON header of a safetensors file; returns the bytes of data that it describes. */
static size_t describe_tensors(char *header, size_t capacity, size_t *length) {
    size_t offset = 0;
    *length = (size_t)snprintf(header, capacity, "{");
    for (size_t i = 0; i < LENGTH_OF(tensors); i++) {
        int rows = tensors[i].rows;
        int columns = tensors[i].columns;
        size_t size = sizeof(float) * (size_t)(rows == 0 ? 1 : rows) * (size_t)columns;
        char shape[32];
        if (rows == 0) {
            snprintf(shape, sizeof shape, "%d", columns);
        } else {
            snprintf(shape, sizeof shape, "%d, %d", rows, columns);
        }
        *length += (size_t)snprintf(header + *length, capacity - *length,
                                    "%s\"%s\": {\"dtype\": \"F32\", \"shape\": [%s], \"data_offsets\": [%zu, %zu]}",
                                    i == 0 ? "" : ", ", tensors[i].name, shape, offset, offset + size);
        offset += size;
    }
    *length += (size_t)snprintf(header + *length, capacity - *length, "}");
    while (*length % 8 != 0) {
        header[(*length)++] = ' ';
    }
    return offset;
}

/* safetensors: the header's length in 8 little-endian bytes, the header, the data. */
static bool write_weights(FILE *file) {
    char header[4096];
    size_t length;
    size_t size = describe_tensors(header, sizeof header, &length);
    for (int shift = 0; shift < 64; shift += 8) {
        fputc((int)((uint64_t)length >> shift & 0xff), file);
    }
    fwrite(header, 1, length, file);
    for (size_t i = 0; i < size; i++) {
        fputc(0, file);
    }
    return ferror(file) == 0;
}

static bool write_config(FILE *file) { return fputs(config, file) >= 0; }

static int write_one(const char *directory, const char *name, bool (*write)(FILE *)) {
    char path[PATH_MAX_HERE];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "wb");
    if (file == NULL) {
        return fail(path, "%s", strerror(errno));
    }
    bool written = write(file);
    bool closed = fclose(file) == 0;
    return written && closed ? EXIT_OK : fail(path, "could not be written");
}

int tiny_model_create(char path[TINY_PATH_SIZE]) {
    const char *root = getenv("TMPDIR");
    int length = snprintf(path, TINY_PATH_SIZE, "%s/quire-bench-XXXXXX", root == NULL ? "/tmp" : root);
    if (length < 0 || length >= TINY_PATH_SIZE) {
        return fail("TMPDIR", "too long");
    }
    if (mkdtemp(path) == NULL) {
        return fail(path, "%s", strerror(errno));
    }
    int code = write_one(path, "config.json", write_config);
    if (code == EXIT_OK) {
        code = write_one(path, "model.safetensors", write_weights);
    }
    if (code != EXIT_OK) {
        tiny_model_remove(path);
    }
    return code;
}

void tiny_model_remove(const char *path) {
    static const char *const names[] = {"config.json", "model.safetensors"};
    for (size_t i = 0; i < LENGTH_OF(names); i++) {
        char file[PATH_MAX_HERE];
        snprintf(file, sizeof file, "%s/%s", path, names[i]);
        unlink(file);
    }
    rmdir(path);
}
