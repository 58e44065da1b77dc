/* The command line: options in groups, checked and explained from one table.
 *
 * "--name value" and "--name=value" both work. The values' defaults are whatever the variables hold
 * before parsing; --help is made from the same table. */
#ifndef BENCH_ARGS_H
#define BENCH_ARGS_H

#include "common.h"

enum { ARG_LIST_MAX = 16 };

/* A list of numbers, "1,2,4". */
typedef struct number_list {
    uint32_t items[ARG_LIST_MAX];
    size_t count;
} number_list;

/* Texts, one for each time the option is given. */
typedef struct text_list {
    const char *items[ARG_LIST_MAX];
    size_t count;
} text_list;

typedef enum arg_kind {
    ARG_FLAG,   /* bool; takes no value */
    ARG_TEXT,   /* const char * */
    ARG_TEXTS,  /* text_list; may be given again */
    ARG_U32,    /* uint32_t */
    ARG_U64,    /* uint64_t */
    ARG_FLOAT,  /* float */
    ARG_NUMBERS /* number_list */
} arg_kind;

typedef struct arg {
    const char *name; /* without the dashes */
    arg_kind kind;
    void *value;
    const char *placeholder; /* what --help shows for the value; NULL for flags */
    const char *help;
    double min; /* bounds of numbers, both included */
    double max;
    bool *given; /* set when the option occurs; may be NULL */
} arg;

typedef struct arg_group {
    const char *title;
    const arg *args;
    size_t count;
} arg_group;

typedef struct command_line {
    const char *usage;       /* "bench generate --model MODEL --prompt TEXT [options]" */
    const char *description; /* what it does and how to read what it prints */
    const char *help_hint;   /* "bench generate --help" */
    const arg_group *groups;
    size_t group_count;
} command_line;

/* Parses the arguments from argv[0] on. False: the program ends with `*exit_code`, since help was asked
 * for (it is on stdout) or something is wrong (it is on stderr, with a hint to --help). */
bool parse_arguments(const command_line *line, int argc, char **argv, int *exit_code);

/* Says on stderr what is wrong with the command line, hints to --help and returns EXIT_USAGE. */
int usage_error(const char *help_hint, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
