#include "common.h"

#include "interrupt.h"

#include <signal.h>

static volatile sig_atomic_t requested = 0;

static void remember(int signal_number) {
    (void)signal_number;
    requested = 1;
}

void interrupt_install(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = remember;
    action.sa_flags = (int)SA_RESETHAND;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

bool interrupted(void) { return requested != 0; }
