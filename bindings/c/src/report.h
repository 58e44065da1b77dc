/* What every benchmark reports beside its own figures: the model, the load time, the memory. */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "json.h"
#include "session.h"
#include "stats.h"

/* One line that says what was measured. */
void print_heading(const session *self, const char *model, const char *title);

/* Weight, cache, peak and process memory and the load time, on one line. */
int print_memory(const session *self, FILE *file);

/* Members of the open JSON object: "model", "device", "load_s", "memory", ... */
int json_session(json *writer, const session *self, const char *model);

/* An object with mean, min, max and percentiles. */
void json_stats(json *writer, const char *key, const stats *values);

/* A run's figures, as members of the open JSON object. */
void json_run(json *writer, const run *which);

/* Fails at once if `path` (NULL: none) cannot be written, so that no long run is in vain. */
int report_check(const char *path);

/* A result file: opens `path` for writing and begins its object; ends it and closes the file. Without a
 * path (NULL), report_open does nothing and the writer's file is NULL. */
int report_open(json *writer, const char *path, const char *benchmark);
int report_close(json *writer, const char *path);

/* Flushes stdout: results that could not be written are a failure too. */
int finish_output(void);

/* "ok" or "FAILED", to stand beside an expectation. */
const char *verdict(bool met);

#endif
