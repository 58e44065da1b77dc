/* A small writer of JSON: commas, indentation and escapes are its business, nesting is the caller's.
 *
 * Inside an object give each member its key; inside an array, and at the top, pass NULL for the key. */
#ifndef BENCH_JSON_H
#define BENCH_JSON_H

#include "common.h"

typedef struct json {
    FILE *file;
    unsigned depth;
    bool needs_comma;
} json;

/* A writer to an open file. */
json json_to(FILE *file);

void json_begin_object(json *writer, const char *key);
void json_end_object(json *writer);
void json_begin_array(json *writer, const char *key);
void json_end_array(json *writer);

/* Text of `length` bytes. What is not UTF-8 becomes U+FFFD. */
void json_text(json *writer, const char *key, const char *text, size_t length);
/* NUL-terminated text; NULL becomes null. */
void json_string(json *writer, const char *key, const char *text);
/* A number; NaN and infinities, which JSON lacks, become null. */
void json_number(json *writer, const char *key, double value);
void json_integer(json *writer, const char *key, uint64_t value);
void json_bool(json *writer, const char *key, bool value);

/* Ends the text with a line break. False if anything could not be written. */
bool json_finish(json *writer);

#endif
