/* Progress on stderr: a line that is drawn over and over on a terminal, plain lines elsewhere. */
#ifndef BENCH_PROGRESS_H
#define BENCH_PROGRESS_H

#include "common.h"

/* Turns all progress off. */
void progress_silence(void);

/* Draws the live line anew. Only on a terminal; elsewhere nothing happens. */
void progress_live(const char *format, ...) PRINTF_LIKE(1, 2);

/* Removes the live line, if there is one. */
void progress_clear(void);

/* Prints a line that stays. */
void progress_note(const char *format, ...) PRINTF_LIKE(1, 2);

#endif
