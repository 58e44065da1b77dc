/* The groups of options that the commands share: which model and engine, and how to sample. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include "args.h"

/* The model and the engine that runs it. Zeros stand for the library's defaults. */
typedef struct model_options {
    const char *model;
    const char *weights; /* "auto", "stored" or "float32" */
    uint32_t max_sequences;
    uint32_t max_context;
    uint32_t max_step_tokens;
    uint32_t block_tokens;
    uint64_t cache_mib;
    bool no_prefix_sharing;
    bool verbose;
    arg args[10];
} model_options;

/* How to choose tokens. */
typedef struct sampling_options {
    uint32_t max_tokens;
    float temperature;
    uint32_t top_k;
    float top_p;
    float min_p;
    float typical_p;
    float xtc_probability;
    float xtc_threshold;
    float repetition_penalty;
    float presence_penalty;
    float frequency_penalty;
    uint32_t penalty_window;
    uint32_t min_tokens;
    uint64_t seed;
    bool seed_given;
    bool ignore_eos;
    arg args[16];
} sampling_options;

/* Fill the defaults and return the group that parses into them. */
arg_group model_group(model_options *options);
arg_group sampling_group(sampling_options *options, uint32_t default_max_tokens);

/* Starts `request` with the library's defaults and these settings. */
int request_from(const sampling_options *options, quire_request_options *request);

#endif
