#include "options.h"

arg_group model_group(model_options *options) {
    *options = (model_options){.weights = "auto"};
    const arg args[LENGTH_OF(options->args)] = {
        {.name = "model", .kind = ARG_TEXT, .value = &options->model, .placeholder = "MODEL",
         .help = "a model directory, a GGUF file, or org/name in the local Hugging Face cache; required"},
        {.name = "weights", .kind = ARG_TEXT, .value = &options->weights, .placeholder = "HOW",
         .help = "hold the weights as 'stored', as 'float32', or let the library choose: 'auto' (default)"},
        {.name = "max-sequences", .kind = ARG_U32, .value = &options->max_sequences, .placeholder = "N",
         .min = 1, .max = 4096, .help = "most requests that run at the same time"},
        {.name = "max-context", .kind = ARG_U32, .value = &options->max_context, .placeholder = "N",
         .min = 1, .max = UINT32_MAX, .help = "longest prompt plus answer in tokens (default: the model's)"},
        {.name = "max-step-tokens", .kind = ARG_U32, .value = &options->max_step_tokens, .placeholder = "N",
         .min = 16, .max = 32768, .help = "most tokens computed in one step"},
        {.name = "block-tokens", .kind = ARG_U32, .value = &options->block_tokens, .placeholder = "N",
         .min = 1, .max = 1024, .help = "tokens in one page of the key-value cache, a power of two"},
        {.name = "cache-mib", .kind = ARG_U64, .value = &options->cache_mib, .placeholder = "N",
         .min = 1, .max = 1 << 30, .help = "memory for the key-value cache in MiB"},
        {.name = "no-prefix-sharing", .kind = ARG_FLAG, .value = &options->no_prefix_sharing,
         .help = "compute every prompt in full"},
        {.name = "verbose", .kind = ARG_FLAG, .value = &options->verbose,
         .help = "print the library's log on stderr"},
    };
    memcpy(options->args, args, sizeof args);
    return (arg_group){.title = "Model and engine", .args = options->args, .count = 9};
}

arg_group sampling_group(sampling_options *options, uint32_t default_max_tokens) {
    *options = (sampling_options){.max_tokens = default_max_tokens, .top_p = 1.0f, .typical_p = 1.0f,
                                  .xtc_threshold = 0.1f, .repetition_penalty = 1.0f};
    const arg args[LENGTH_OF(options->args)] = {
        {.name = "max-tokens", .kind = ARG_U32, .value = &options->max_tokens, .placeholder = "N",
         .min = 1, .max = UINT32_MAX, .help = "most tokens to generate for a prompt"},
        {.name = "temperature", .kind = ARG_FLOAT, .value = &options->temperature, .placeholder = "T",
         .min = 0, .max = 100, .help = "divides the logits; 0 (default) always takes the most likely token"},
        {.name = "top-k", .kind = ARG_U32, .value = &options->top_k, .placeholder = "K",
         .min = 0, .max = UINT32_MAX, .help = "keep only the K most likely tokens (default 0: all)"},
        {.name = "top-p", .kind = ARG_FLOAT, .value = &options->top_p, .placeholder = "P",
         .min = 0, .max = 1, .help = "keep the most likely tokens that together have probability P (default 1)"},
        {.name = "min-p", .kind = ARG_FLOAT, .value = &options->min_p, .placeholder = "P",
         .min = 0, .max = 1, .help = "drop tokens less likely than P times the most likely one (default 0)"},
        {.name = "typical-p", .kind = ARG_FLOAT, .value = &options->typical_p, .placeholder = "P",
         .min = 0, .max = 1, .help = "keep the most typical tokens that together have probability P (default 1)"},
        {.name = "xtc-probability", .kind = ARG_FLOAT, .value = &options->xtc_probability, .placeholder = "P",
         .min = 0, .max = 1, .help = "how often all but the least likely of the top choices are dropped (default 0)"},
        {.name = "xtc-threshold", .kind = ARG_FLOAT, .value = &options->xtc_threshold, .placeholder = "P",
         .min = 0, .max = 0.5, .help = "from which probability on a token is a top choice (default 0.1)"},
        {.name = "repetition-penalty", .kind = ARG_FLOAT, .value = &options->repetition_penalty,
         .placeholder = "X", .min = 0, .max = 100,
         .help = "divides the logits of tokens in prompt or answer (default 1: nothing)"},
        {.name = "presence-penalty", .kind = ARG_FLOAT, .value = &options->presence_penalty, .placeholder = "X",
         .min = -100, .max = 100, .help = "taken from the logits of tokens in the answer (default 0)"},
        {.name = "frequency-penalty", .kind = ARG_FLOAT, .value = &options->frequency_penalty, .placeholder = "X",
         .min = -100, .max = 100, .help = "the same for each time a token is in the answer (default 0)"},
        {.name = "penalty-window", .kind = ARG_U32, .value = &options->penalty_window, .placeholder = "N",
         .min = 0, .max = UINT32_MAX, .help = "the latest tokens that penalties look at (default 0: all)"},
        {.name = "min-tokens", .kind = ARG_U32, .value = &options->min_tokens, .placeholder = "N",
         .min = 0, .max = UINT32_MAX, .help = "tokens before an answer may end (default 0)"},
        {.name = "seed", .kind = ARG_U64, .value = &options->seed, .placeholder = "S", .min = 0,
         .max = (double)UINT64_MAX, .given = &options->seed_given,
         .help = "the same seed, prompt and settings give the same tokens (default: random)"},
        {.name = "ignore-eos", .kind = ARG_FLAG, .value = &options->ignore_eos,
         .help = "go on past the model's end-of-sequence tokens, so that every answer has max-tokens tokens"},
    };
    memcpy(options->args, args, sizeof args);
    return (arg_group){.title = "Sampling", .args = options->args, .count = 15};
}

int request_from(const sampling_options *options, quire_request_options *request) {
    quire_error *error = NULL;
    quire_status status = quire_request_options_init(request, sizeof *request, &error);
    if (status != QUIRE_OK) {
        return fail_with("request options", status, error);
    }
    request->max_tokens = options->max_tokens;
    request->temperature = options->temperature;
    request->top_k = options->top_k;
    request->top_p = options->top_p;
    request->min_p = options->min_p;
    request->typical_p = options->typical_p;
    request->xtc_probability = options->xtc_probability;
    request->xtc_threshold = options->xtc_threshold;
    request->repetition_penalty = options->repetition_penalty;
    request->presence_penalty = options->presence_penalty;
    request->frequency_penalty = options->frequency_penalty;
    request->penalty_window = options->penalty_window;
    request->min_tokens = options->min_tokens;
    request->ignore_eos = options->ignore_eos;
    if (options->seed_given) {
        request->seed = options->seed;
    }
    return EXIT_OK;
}
