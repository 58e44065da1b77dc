/* Mean and percentiles of a handful of measurements. */
#ifndef BENCH_STATS_H
#define BENCH_STATS_H

#include "common.h"

typedef struct stats {
    size_t count; /* measurements that were numbers; the rest is NaN if there was none */
    double mean;
    double min;
    double max;
    double p50;
    double p95;
    double p99;
} stats;

/* The statistics of `count` values. NaN stands for "not measured" and is left out. */
stats stats_of(const double *values, size_t count);

/* The `percent`-th percentile (0 to 100) of `count` ascending values, interpolated linearly between
 * the two nearest. NaN if there are none. */
double percentile(const double *sorted, size_t count, double percent);

#endif
