#include "stats.h"

#include <math.h>

static int ascending(const void *left, const void *right) {
    double a = *(const double *)left;
    double b = *(const double *)right;
    return (a > b) - (a < b);
}

double percentile(const double *sorted, size_t count, double percent) {
    if (count == 0) {
        return NAN;
    }
    double position = percent / 100.0 * (double)(count - 1);
    size_t below = (size_t)position;
    size_t above = below + 1 < count ? below + 1 : below;
    double fraction = position - (double)below;
    return sorted[below] + (sorted[above] - sorted[below]) * fraction;
}

stats stats_of(const double *values, size_t count) {
    double *sorted = allocate(count, sizeof *sorted);
    double sum = 0.0;
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (!isnan(values[i])) {
            sorted[kept++] = values[i];
            sum += values[i];
        }
    }
    qsort(sorted, kept, sizeof *sorted, ascending);
    stats result = {
        .count = kept,
        .mean = kept == 0 ? NAN : sum / (double)kept,
        .min = percentile(sorted, kept, 0.0),
        .max = percentile(sorted, kept, 100.0),
        .p50 = percentile(sorted, kept, 50.0),
        .p95 = percentile(sorted, kept, 95.0),
        .p99 = percentile(sorted, kept, 99.0),
    };
    free(sorted);
    return result;
}
