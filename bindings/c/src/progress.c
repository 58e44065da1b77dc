#include "progress.h"

#include <stdarg.h>
#include <unistd.h>

static bool silent = false;
static bool drawn = false;

static bool on_terminal(void) {
    static int known = -1;
    if (known < 0) {
        known = isatty(STDERR_FILENO);
    }
    return known == 1;
}

void progress_silence(void) { silent = true; }

void progress_clear(void) {
    if (drawn) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
        drawn = false;
    }
}

void progress_live(const char *format, ...) {
    if (silent || !on_terminal()) {
        return;
    }
    va_list arguments;
    fputs("\r\033[K", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fflush(stderr);
    drawn = true;
}

void progress_note(const char *format, ...) {
    if (silent) {
        return;
    }
    va_list arguments;
    progress_clear();
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}
