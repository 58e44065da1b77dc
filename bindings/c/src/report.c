#include "report.h"

#include <errno.h>

#include "clock.h"

static double mib(uint64_t bytes) { return (double)bytes / (1024.0 * 1024.0); }

void print_heading(const session *self, const char *model, const char *title) {
    printf("%s\n  model: %s (%s, %s, on %s)\n", title, model, self->info.architecture, self->info.quantization,
           self->info.device);
}

int print_memory(const session *self, FILE *file) {
    quire_statistics statistics;
    int code = session_statistics(self, &statistics);
    if (code == EXIT_OK) {
        fprintf(file,
                "  memory: weights %.1f MiB, cache %.1f MiB, peak %.1f MiB, process peak %.1f MiB; "
                "loaded in %.2f s\n",
                mib(statistics.weight_bytes), mib(statistics.cache_bytes), mib(statistics.peak_bytes),
                mib(peak_resident_bytes()), ns_to_s(self->load_ns));
    }
    return code;
}

int json_session(json *writer, const session *self, const char *model) {
    quire_statistics statistics;
    int code = session_statistics(self, &statistics);
    if (code != EXIT_OK) {
        return code;
    }
    json_string(writer, "library_version", quire_version());
    json_string(writer, "model", model);
    json_string(writer, "architecture", self->info.architecture);
    json_string(writer, "quantization", self->info.quantization);
    json_string(writer, "device", self->info.device);
    json_integer(writer, "block_tokens", self->info.block_tokens);
    json_integer(writer, "blocks", self->info.blocks);
    json_number(writer, "load_s", ns_to_s(self->load_ns));
    json_begin_object(writer, "memory_bytes");
    json_integer(writer, "weights", statistics.weight_bytes);
    json_integer(writer, "cache", statistics.cache_bytes);
    json_integer(writer, "peak", statistics.peak_bytes);
    json_integer(writer, "process_peak", peak_resident_bytes());
    json_end_object(writer);
    return EXIT_OK;
}

void json_stats(json *writer, const char *key, const stats *values) {
    json_begin_object(writer, key);
    json_integer(writer, "count", values->count);
    json_number(writer, "mean", values->mean);
    json_number(writer, "min", values->min);
    json_number(writer, "max", values->max);
    json_number(writer, "p50", values->p50);
    json_number(writer, "p95", values->p95);
    json_number(writer, "p99", values->p99);
    json_end_object(writer);
}

void json_run(json *writer, const run *which) {
    json_integer(writer, "input_tokens", which->prompt_tokens);
    json_integer(writer, "cached_tokens", which->cached_tokens);
    json_integer(writer, "output_tokens", which->output_tokens);
    json_string(writer, "finish", finish_name(which));
    json_number(writer, "ttft_ms", run_ttft_ms(which));
    json_number(writer, "tpot_ms", run_tpot_ms(which));
    json_number(writer, "latency_ms", run_latency_ms(which));
    json_number(writer, "generation_tokens_per_s", run_generation_rate(which));
    json_number(writer, "processing_tokens_per_s", run_processing_rate(which));
}

int report_check(const char *path) {
    if (path == NULL) {
        return EXIT_OK;
    }
    FILE *file = fopen(path, "a");
    if (file == NULL) {
        return fail(path, "%s", strerror(errno));
    }
    fclose(file);
    return EXIT_OK;
}

int report_open(json *writer, const char *path, const char *benchmark) {
    *writer = json_to(NULL);
    if (path == NULL) {
        return EXIT_OK;
    }
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        return fail(path, "%s", strerror(errno));
    }
    *writer = json_to(file);
    json_begin_object(writer, NULL);
    json_string(writer, "benchmark", benchmark);
    return EXIT_OK;
}

int report_close(json *writer, const char *path) {
    if (writer->file == NULL) {
        return EXIT_OK;
    }
    json_end_object(writer);
    bool written = json_finish(writer);
    bool closed = fclose(writer->file) == 0;
    writer->file = NULL;
    return written && closed ? EXIT_OK : fail(path, "could not be written");
}

int finish_output(void) {
    return fflush(stdout) == 0 && ferror(stdout) == 0 ? EXIT_OK : fail("standard output", "could not be written");
}

const char *verdict(bool met) { return met ? "ok" : "FAILED"; }
