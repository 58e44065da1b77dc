#include "common.h"

#include <stdarg.h>

#include "progress.h"

int fail_with(const char *what, quire_status status, quire_error *error) {
    const char *message = quire_error_message(error);
    const char *name = quire_status_name(status);
    progress_clear();
    if (message[0] != '\0') {
        fprintf(stderr, "bench: %s: %s (%s)\n", what, message, name);
    } else {
        fprintf(stderr, "bench: %s: %s\n", what, name);
    }
    quire_error_free(error);
    return EXIT_FAILED;
}

int fail(const char *what, const char *format, ...) {
    va_list arguments;
    progress_clear();
    fprintf(stderr, "bench: %s: ", what);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    return EXIT_FAILED;
}

static void *checked(void *pointer) {
    if (pointer == NULL) {
        fputs("bench: out of memory\n", stderr);
        exit(EXIT_FAILED);
    }
    return pointer;
}

void *allocate(size_t count, size_t size) {
    return checked(calloc(count == 0 ? 1 : count, size));
}

void *reallocate(void *pointer, size_t count, size_t size) {
    if (size != 0 && count > SIZE_MAX / size) {
        return checked(NULL);
    }
    return checked(realloc(pointer, count == 0 ? size : count * size));
}

char *duplicate(const char *text) {
    size_t size = strlen(text) + 1;
    return memcpy(allocate(size, 1), text, size);
}
