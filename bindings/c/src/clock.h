/* Time and this process's memory, as the operating system has them. */
#ifndef BENCH_CLOCK_H
#define BENCH_CLOCK_H

#include "common.h"

/* Nanoseconds on the monotonic clock. */
uint64_t clock_ns(void);

static inline double ns_to_ms(uint64_t ns) { return (double)ns / 1e6; }
static inline double ns_to_s(uint64_t ns) { return (double)ns / 1e9; }

/* The most bytes of physical memory that this process ever held. */
uint64_t peak_resident_bytes(void);

#endif
