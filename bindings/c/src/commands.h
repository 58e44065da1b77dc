/* The commands. Each gets the words behind its name and returns the program's exit code. */
#ifndef BENCH_COMMANDS_H
#define BENCH_COMMANDS_H

int command_single(int argc, char **argv);
int command_generate(int argc, char **argv);

#endif
