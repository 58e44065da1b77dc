/* A model of some 100 kB, written on the spot, for what needs the engine but no answers. */
#ifndef BENCH_TINY_MODEL_H
#define BENCH_TINY_MODEL_H

#include "common.h"

enum { TINY_PATH_SIZE = 512, TINY_VOCABULARY = 512 };

/* Writes a one-layer model with zero weights and no tokenizer to a new temporary directory and puts its
 * path, NUL-terminated, into `path`. */
int tiny_model_create(char path[TINY_PATH_SIZE]);

/* Removes it. */
void tiny_model_remove(const char *path);

#endif
