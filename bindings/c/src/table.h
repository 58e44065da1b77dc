/* Tables of text whose columns are as wide as they need to be. */
#ifndef BENCH_TABLE_H
#define BENCH_TABLE_H

#include "common.h"

enum { TABLE_MAX_COLUMNS = 12 };

typedef struct table {
    size_t columns;
    bool left_aligned[TABLE_MAX_COLUMNS];
    char **cells; /* row by row; the first row holds the headings */
    size_t count;
    size_t capacity;
} table;

/* A table with one column for each of `columns` headings. A heading that starts with '<' makes a
 * left-aligned column (the sign is not shown); the others are right-aligned, for numbers. */
table table_new(const char *const *headings, size_t columns);

/* Adds the next cell, left to right, row after row. */
void table_cell(table *self, const char *format, ...) PRINTF_LIKE(2, 3);

/* Adds a number with `decimals` decimals, or "-" if it is NaN. */
void table_number(table *self, double value, int decimals);

/* Prints the table, indented by two spaces, and frees it. */
void table_print(table *self, FILE *file);

#endif
