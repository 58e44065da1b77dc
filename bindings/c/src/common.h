/* What every file of the driver needs: the public header, libc, and how errors are told.
 *
 * Include this first: it asks the C library for POSIX. The driver uses nothing of Quire but quire.h. */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#if defined(__APPLE__) && !defined(_DARWIN_C_SOURCE)
#define _DARWIN_C_SOURCE 1 /* ru_maxrss */
#endif

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quire.h"

#if defined(__GNUC__)
#define PRINTF_LIKE(format_index, first_argument) \
    __attribute__((format(printf, format_index, first_argument)))
#else
#define PRINTF_LIKE(format_index, first_argument)
#endif

#define LENGTH_OF(array) (sizeof(array) / sizeof((array)[0]))

/* The program's exit codes. */
enum {
    EXIT_OK = 0,
    EXIT_FAILED = 1,      /* something failed, or a result is not what was expected */
    EXIT_USAGE = 2,       /* the command line makes no sense */
    EXIT_INTERRUPTED = 130 /* Ctrl-C: 128 + SIGINT, as shells have it */
};

/* Prints "bench: WHAT: MESSAGE (STATUS NAME)" on stderr, frees `error` (NULL is allowed) and returns
 * EXIT_FAILED. */
int fail_with(const char *what, quire_status status, quire_error *error);

/* Prints "bench: WHAT: ..." on stderr and returns EXIT_FAILED. */
int fail(const char *what, const char *format, ...) PRINTF_LIKE(2, 3);

/* malloc, realloc and strdup that end the program with a message when memory is out: this is a
 * benchmark, and there is nothing better to do. */
void *allocate(size_t count, size_t size);
void *reallocate(void *pointer, size_t count, size_t size);
char *duplicate(const char *text);

#endif
