#include "args.h"

#include <errno.h>
#include <stdarg.h>

int usage_error(const char *help_hint, const char *format, ...) {
    va_list arguments;
    fputs("bench: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\nTry '%s'.\n", help_hint);
    return EXIT_USAGE;
}

static void print_wrapped(const char *text, int indent) {
    enum { LINE_WIDTH = 96 };
    int column = indent;
    while (*text != '\0') {
        size_t word = strcspn(text, " ");
        if (column > indent && column + 1 + (int)word > LINE_WIDTH) {
            printf("\n%*s", indent, "");
            column = indent;
        } else if (column > indent) {
            putchar(' ');
            column++;
        }
        printf("%.*s", (int)word, text);
        column += (int)word;
        text += word;
        text += strspn(text, " ");
    }
    putchar('\n');
}

static void print_help(const command_line *line) {
    enum { HELP_COLUMN = 28 };
    printf("usage: %s\n\n%s\n", line->usage, line->description);
    for (size_t g = 0; g < line->group_count; g++) {
        const arg_group *group = &line->groups[g];
        printf("\n%s:\n", group->title);
        for (size_t i = 0; i < group->count; i++) {
            const arg *option = &group->args[i];
            int width = printf("  --%s%s%s", option->name, option->placeholder == NULL ? "" : " ",
                               option->placeholder == NULL ? "" : option->placeholder);
            if (width + 2 > HELP_COLUMN) {
                printf("\n%*s", HELP_COLUMN, "");
            } else {
                printf("%*s", HELP_COLUMN - width, "");
            }
            print_wrapped(option->help, HELP_COLUMN);
        }
    }
}

static const arg *find(const command_line *line, const char *name, size_t length) {
    for (size_t g = 0; g < line->group_count; g++) {
        for (size_t i = 0; i < line->groups[g].count; i++) {
            const arg *option = &line->groups[g].args[i];
            if (strlen(option->name) == length && memcmp(option->name, name, length) == 0) {
                return option;
            }
        }
    }
    return NULL;
}

static bool in_bounds(const arg *option, double value) {
    return value >= option->min && value <= option->max;
}

/* A whole number at the start of `text` that ends at `*end`; false if there is none. */
static bool whole_number(const char *text, char **end, uint64_t *value) {
    if (*text < '0' || *text > '9') {
        return false;
    }
    errno = 0;
    *value = strtoull(text, end, 10);
    return errno == 0;
}

static bool set_numbers(const arg *option, const char *text) {
    number_list list = {.count = 0};
    for (;;) {
        char *end;
        uint64_t value;
        if (list.count == ARG_LIST_MAX || !whole_number(text, &end, &value) ||
            !in_bounds(option, (double)value)) {
            return false;
        }
        list.items[list.count++] = (uint32_t)value;
        if (*end == '\0') {
            *(number_list *)option->value = list;
            return true;
        }
        if (*end != ',') {
            return false;
        }
        text = end + 1;
    }
}

static bool set_value(const arg *option, const char *text) {
    char *end;
    uint64_t number;
    switch (option->kind) {
    case ARG_TEXT:
        *(const char **)option->value = text;
        return true;
    case ARG_TEXTS: {
        text_list *list = option->value;
        if (list->count == ARG_LIST_MAX) {
            return false;
        }
        list->items[list->count++] = text;
        return true;
    }
    case ARG_U32:
    case ARG_U64:
        if (!whole_number(text, &end, &number) || *end != '\0' || !in_bounds(option, (double)number)) {
            return false;
        }
        if (option->kind == ARG_U32) {
            *(uint32_t *)option->value = (uint32_t)number;
        } else {
            *(uint64_t *)option->value = number;
        }
        return true;
    case ARG_FLOAT: {
        double value = strtod(text, &end);
        if (end == text || *end != '\0' || !in_bounds(option, value)) {
            return false;
        }
        *(float *)option->value = (float)value;
        return true;
    }
    case ARG_NUMBERS:
        return set_numbers(option, text);
    case ARG_FLAG:
        break;
    }
    return false;
}

static int explain_wrong_value(const command_line *line, const arg *option, const char *value) {
    switch (option->kind) {
    case ARG_NUMBERS:
        return usage_error(line->help_hint, "--%s is '%s', want at most %d numbers from %.0f to %.0f as in 1,2,4",
                    option->name, value, ARG_LIST_MAX, option->min, option->max);
    case ARG_TEXTS:
        return usage_error(line->help_hint, "--%s is given more than %d times", option->name, ARG_LIST_MAX);
    case ARG_FLOAT:
        return usage_error(line->help_hint, "--%s is '%s', want a number from %g to %g", option->name, value,
                    option->min, option->max);
    default:
        return usage_error(line->help_hint, "--%s is '%s', want a whole number from %.0f to %.0f", option->name,
                    value, option->min, option->max);
    }
}

/* The value of the option at argv[*at]: behind its '=', or the next word. NULL if there is none. */
static const char *value_of(const char *name, size_t length, int argc, char **argv, int *at) {
    if (name[length] == '=') {
        return name + length + 1;
    }
    return *at + 1 < argc ? argv[++*at] : NULL;
}

/* Parses the option at argv[*at] and moves `*at` to its last word. */
static int parse_one(const command_line *line, int argc, char **argv, int *at) {
    const char *word = argv[*at];
    if (strncmp(word, "--", 2) != 0) {
        return usage_error(line->help_hint, "'%s' is no option", word);
    }
    const char *name = word + 2;
    size_t length = strcspn(name, "=");
    const arg *option = find(line, name, length);
    if (option == NULL) {
        return usage_error(line->help_hint, "there is no option --%.*s", (int)length, name);
    }
    if (option->given != NULL) {
        *option->given = true;
    }
    if (option->kind == ARG_FLAG) {
        *(bool *)option->value = true;
        return name[length] == '=' ? usage_error(line->help_hint, "--%s takes no value", option->name) : EXIT_OK;
    }
    const char *value = value_of(name, length, argc, argv, at);
    if (value == NULL) {
        return usage_error(line->help_hint, "--%s wants a value: %s", option->name, option->placeholder);
    }
    return set_value(option, value) ? EXIT_OK : explain_wrong_value(line, option, value);
}

bool parse_arguments(const command_line *line, int argc, char **argv, int *exit_code) {
    *exit_code = EXIT_OK;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help(line);
            return false;
        }
        *exit_code = parse_one(line, argc, argv, &i);
        if (*exit_code != EXIT_OK) {
            return false;
        }
    }
    return true;
}
