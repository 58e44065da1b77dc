#include "session.h"

#include <math.h>

#include "clock.h"

void run_clear(run *self) {
    free(self->tokens);
    *self = (run){0};
}

void runs_free(run *runs, size_t count) {
    for (size_t i = 0; i < count; i++) {
        run_clear(&runs[i]);
    }
    free(runs);
}

bool run_equals(const run *left, const run *right) {
    return left->output_tokens == right->output_tokens && left->delta_tokens == right->delta_tokens &&
           (left->delta_tokens == 0 ||
            memcmp(left->tokens, right->tokens, left->delta_tokens * sizeof *left->tokens) == 0);
}

double run_ttft_ms(const run *self) {
    return self->first_ns == 0 ? NAN : ns_to_ms(self->first_ns - self->submit_ns);
}

/* Tokens that came after the first delta: what the time between first and last delta was spent on. */
static uint64_t later_tokens(const run *self) { return self->delta_tokens - self->first_delta_tokens; }

double run_tpot_ms(const run *self) {
    uint64_t tokens = later_tokens(self);
    return tokens == 0 ? NAN : ns_to_ms(self->last_ns - self->first_ns) / (double)tokens;
}

double run_latency_ms(const run *self) {
    return self->end_ns == 0 ? NAN : ns_to_ms(self->end_ns - self->submit_ns);
}

double run_generation_rate(const run *self) {
    double tpot = run_tpot_ms(self);
    return tpot > 0.0 ? 1e3 / tpot : NAN;
}

double run_processing_rate(const run *self) {
    double ttft = run_ttft_ms(self);
    return ttft > 0.0 ? self->prompt_tokens * 1e3 / ttft : NAN;
}

const char *finish_name(const run *self) {
    if (self->cancelled) {
        return "cancelled";
    }
    switch (self->finish_reason) {
    case QUIRE_FINISH_END_OF_SEQUENCE:
        return "end of sequence";
    case QUIRE_FINISH_STOP_TOKEN:
        return "stop token";
    case QUIRE_FINISH_STOP_STRING:
        return "stop string";
    case QUIRE_FINISH_LENGTH:
        return "length";
    case QUIRE_FINISH_GRAMMAR:
        return "grammar";
    default:
        return "failed";
    }
}
