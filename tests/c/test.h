/* Checks for the C test programs. A check that fails prints where and what, and ends the program with
 * exit code 1. Works in C11 and C++17. */
#ifndef QUIRE_TEST_H
#define QUIRE_TEST_H

#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#if defined(__APPLE__) && !defined(_DARWIN_C_SOURCE)
#define _DARWIN_C_SOURCE 1 /* mkdtemp */
#endif

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "quire.h"

/* Where failures are printed: a copy of stderr, so that a test may redirect the real one. */
static inline FILE *test_output(void) {
    static FILE *output = NULL;
    if (output == NULL) {
        int copy = dup(STDERR_FILENO);
        output = copy < 0 ? stderr : fdopen(copy, "w");
    }
    return output == NULL ? stderr : output;
}

#define CHECK(condition)                                                                             \
    do {                                                                                             \
        if (!(condition)) {                                                                          \
            fprintf(test_output(), "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);        \
            exit(1);                                                                                 \
        }                                                                                            \
    } while (0)

#define CHECK_EQUAL(left, right)                                                                     \
    do {                                                                                             \
        long long left_ = (long long)(left);                                                         \
        long long right_ = (long long)(right);                                                       \
        if (left_ != right_) {                                                                       \
            fprintf(test_output(), "%s:%d: %s is %lld, %s is %lld\n", __FILE__, __LINE__, #left, left_, \
                    #right, right_);                                                                 \
            exit(1);                                                                                 \
        }                                                                                            \
    } while (0)

#define CHECK_TEXT(left, right)                                                                      \
    do {                                                                                             \
        const char *left_ = (left);                                                                  \
        const char *right_ = (right);                                                                \
        if (left_ == NULL || right_ == NULL || strcmp(left_, right_) != 0) {                         \
            fprintf(test_output(), "%s:%d: %s is \"%s\", %s is \"%s\"\n", __FILE__, __LINE__, #left, \
                    left_ == NULL ? "(NULL)" : left_, #right, right_ == NULL ? "(NULL)" : right_);   \
            exit(1);                                                                                 \
        }                                                                                            \
    } while (0)

static inline void check_ok_at(quire_status status, const quire_error *error, const char *call, const char *file,
                               int line) {
    if (status != QUIRE_OK) {
        fprintf(test_output(), "%s:%d: %s: %s (%s)\n", file, line, call, quire_error_message(error),
                quire_status_name(status));
        exit(1);
    }
    if (error != NULL) {
        fprintf(test_output(), "%s:%d: %s succeeded but set an error\n", file, line, call);
        exit(1);
    }
}

static inline void check_fails_at(quire_status status, quire_error **error, quire_status expected,
                                  const char *names, const char *call, const char *file, int line) {
    const char *message = quire_error_message(*error);
    if (status != expected || quire_error_status(*error) != expected || *error == NULL) {
        fprintf(test_output(), "%s:%d: %s returned %s (error object: %s, \"%s\"), want %s\n", file, line, call,
                quire_status_name(status), *error == NULL ? "none" : quire_status_name(quire_error_status(*error)),
                message, quire_status_name(expected));
        exit(1);
    }
    if (strstr(message, names) == NULL || message[0] == '\0') {
        fprintf(test_output(), "%s:%d: %s: the message \"%s\" does not name \"%s\"\n", file, line, call, message,
                names);
        exit(1);
    }
    quire_error_free(*error);
    *error = NULL;
}

/* `call` passes &error, a quire_error* that is NULL; it must succeed and leave it so. */
#define CHECK_OK(call, error)                                                                        \
    do {                                                                                             \
        quire_status status_ = (call);                                                               \
        check_ok_at(status_, error, #call, __FILE__, __LINE__);                                      \
    } while (0)

/* `call` passes &error; it must fail with this status and a message that contains `names`. The error is
 * freed and NULL again. */
#define CHECK_FAILS(call, error, expected, names)                                                    \
    do {                                                                                             \
        quire_status status_ = (call);                                                               \
        check_fails_at(status_, &(error), expected, names, #call, __FILE__, __LINE__);               \
    } while (0)

/* Ends a program that hangs. Far beyond what a test takes, even under valgrind. */
static inline void test_guard_against_hanging(void) { alarm(900); }

#endif
