/* An engine with a model, and requests whose every event is timed by the client's own clock.
 *
 * One thread does it all: it submits requests and takes events with quire_engine_wait. Ctrl-C cancels
 * what is running; the terminal events still come, and the functions return EXIT_INTERRUPTED. */
#ifndef BENCH_SESSION_H
#define BENCH_SESSION_H

#include "options.h"

typedef struct session {
    quire_engine *engine;
    quire_model_info info;
    uint64_t load_ns;
    bool cancelled; /* Ctrl-C came and everything was cancelled */
} session;

/* One request and what was measured of it. */
typedef struct run {
    quire_request_options request; /* in: its tag is set by session_submit */

    uint64_t id;
    uint64_t submit_ns; /* on the monotonic clock, as are the next three; 0: has not happened */
    uint64_t first_ns;  /* first delta */
    uint64_t last_ns;   /* last delta */
    uint64_t end_ns;    /* terminal event */
    uint64_t delta_tokens; /* tokens that came in deltas; the one that ended the answer is not there */
    uint32_t first_delta_tokens;
    uint32_t prompt_tokens;
    uint32_t cached_tokens;
    uint32_t output_tokens; /* the one that ended the answer included */
    quire_finish_reason finish_reason;
    bool done;
    bool cancelled;
    uint32_t *tokens; /* the delta tokens; session_submit starts it, run_clear frees it */
} run;

/* Called with every event, after the run's measurements are up to date. */
typedef void (*run_observer)(void *user, run *which, const quire_event *event);

/* Loads the model with progress on stderr. On failure the reason is on stderr too. */
int session_open(session *self, const model_options *options);

/* Releases the engine. NULL engines are fine. */
void session_close(session *self);

/* Submits the run's request. `which` must stay where it is until it is done. */
int session_submit(session *self, run *which);

/* Waits for one event and books it to its run. EXIT_FAILED if the run failed, or if no event
 * could be taken. */
int session_step(session *self, run_observer observe, void *user);

/* Runs all, at most `concurrency` at a time, in order, and returns when every one has ended. A failed
 * request is told on stderr and makes this EXIT_FAILED, after the others have ended. */
int session_execute(session *self, run *runs, size_t count, size_t concurrency, run_observer observe,
                    void *user);

/* The engine's statistics. */
int session_statistics(const session *self, quire_statistics *statistics);

/* Whether both runs gave the same tokens. */
bool run_equals(const run *left, const run *right);

/* Frees what a run holds and zeroes it. */
void run_clear(run *self);
void runs_free(run *runs, size_t count);

/* Measurements in milliseconds and per second; NaN where there were too few tokens to measure.
 *
 * TTFT: submit to first delta. TPOT: from the first delta to the last, per token after the first. */
double run_ttft_ms(const run *self);
double run_tpot_ms(const run *self);
double run_latency_ms(const run *self);
double run_generation_rate(const run *self);
double run_processing_rate(const run *self);

/* Why an answer ended, as a word. */
const char *finish_name(const run *self);

#endif
