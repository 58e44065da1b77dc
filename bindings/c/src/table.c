#include "table.h"

#include <math.h>
#include <stdarg.h>

/* Characters, not bytes: continuation bytes of UTF-8 take no place on the screen. */
static size_t width_of(const char *text) {
    size_t width = 0;
    for (; *text != '\0'; text++) {
        width += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return width;
}

static void add(table *self, char *text) {
    if (self->count == self->capacity) {
        self->capacity = self->capacity == 0 ? 64 : self->capacity * 2;
        self->cells = reallocate(self->cells, self->capacity, sizeof *self->cells);
    }
    self->cells[self->count++] = text;
}

table table_new(const char *const *headings, size_t columns) {
    table self = {.columns = columns};
    for (size_t i = 0; i < columns; i++) {
        self.left_aligned[i] = headings[i][0] == '<';
        add(&self, duplicate(headings[i] + (self.left_aligned[i] ? 1 : 0)));
    }
    return self;
}

void table_cell(table *self, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    size_t size = length < 0 ? 1 : (size_t)length + 1;
    char *text = allocate(size, 1);
    va_start(arguments, format);
    vsnprintf(text, size, format, arguments);
    va_end(arguments);
    add(self, text);
}

void table_number(table *self, double value, int decimals) {
    if (isnan(value)) {
        table_cell(self, "-");
    } else {
        table_cell(self, "%.*f", decimals, value);
    }
}

static void pad(FILE *file, size_t count, char character) {
    for (size_t i = 0; i < count; i++) {
        fputc(character, file);
    }
}

void table_print(table *self, FILE *file) {
    size_t widths[TABLE_MAX_COLUMNS] = {0};
    for (size_t i = 0; i < self->count; i++) {
        size_t width = width_of(self->cells[i]);
        size_t column = i % self->columns;
        widths[column] = width > widths[column] ? width : widths[column];
    }
    for (size_t i = 0; i < self->count; i++) {
        size_t column = i % self->columns;
        bool last = column + 1 == self->columns;
        size_t padding = widths[column] - width_of(self->cells[i]);
        fputs("  ", file);
        if (self->left_aligned[column]) {
            fputs(self->cells[i], file);
            pad(file, last ? 0 : padding, ' ');
        } else {
            pad(file, padding, ' ');
            fputs(self->cells[i], file);
        }
        if (last) {
            fputc('\n', file);
        }
        if (i + 1 == self->columns) {
            for (size_t c = 0; c < self->columns; c++) {
                fputs("  ", file);
                pad(file, widths[c], '-');
            }
            fputc('\n', file);
        }
        free(self->cells[i]);
    }
    free(self->cells);
    *self = (table){0};
}
