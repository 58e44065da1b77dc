/* The commands. Each gets the words behind its name and returns the program's exit code. */
#ifndef BENCH_COMMANDS_H
#define BENCH_COMMANDS_H

int command_single(int argc, char **argv);
int command_generate(int argc, char **argv);
int command_batch(int argc, char **argv);
int command_prefix(int argc, char **argv);
int command_paged(int argc, char **argv);
int command_memory(int argc, char **argv);
int command_detok(int argc, char **argv);
int command_latency(int argc, char **argv);

#endif
