/* Ctrl-C. The library installs no signal handlers; this is the program's own. */
#ifndef BENCH_INTERRUPT_H
#define BENCH_INTERRUPT_H

#include <stdbool.h>

/* From now on a first SIGINT is only remembered; a second one ends the program as usual. */
void interrupt_install(void);

/* Whether SIGINT has come. */
bool interrupted(void);

#endif
