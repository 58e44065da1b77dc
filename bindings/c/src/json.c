#include "json.h"

#include <math.h>

json json_to(FILE *file) {
    json writer = {.file = file, .depth = 0, .needs_comma = false};
    return writer;
}

/* Bytes of the well-formed UTF-8 character at the start of `text`, or 0 if there is none. */
static size_t utf8_length(const unsigned char *text, size_t length) {
    unsigned char first = text[0];
    size_t size = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
    if (size == 0 || size > length) {
        return 0;
    }
    for (size_t i = 1; i < size; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool overlong = (first == 0xe0 && text[1] < 0xa0) || (first == 0xf0 && text[1] < 0x90);
    bool surrogate = first == 0xed && text[1] > 0x9f;
    bool too_large = first == 0xf4 && text[1] > 0x8f;
    return overlong || surrogate || too_large ? 0 : size;
}

static void write_quoted(FILE *file, const char *text, size_t length) {
    const unsigned char *bytes = (const unsigned char *)text;
    fputc('"', file);
    for (size_t i = 0; i < length;) {
        size_t size = utf8_length(bytes + i, length - i);
        unsigned char byte = bytes[i];
        if (size == 0) {
            fputs("\xef\xbf\xbd", file);
            size = 1;
        } else if (byte == '"' || byte == '\\') {
            fputc('\\', file);
            fputc(byte, file);
        } else if (byte == '\n') {
            fputs("\\n", file);
        } else if (byte == '\t') {
            fputs("\\t", file);
        } else if (byte == '\r') {
            fputs("\\r", file);
        } else if (byte < 0x20 || byte == 0x7f) {
            fprintf(file, "\\u%04x", byte);
        } else {
            fwrite(bytes + i, 1, size, file);
        }
        i += size;
    }
    fputc('"', file);
}

static void line_break(json *writer) {
    fputc('\n', writer->file);
    for (unsigned i = 0; i < writer->depth; i++) {
        fputs("  ", writer->file);
    }
}

/* Goes to where the next value starts: after a comma, on a line of its own, behind its key. */
static void next_value(json *writer, const char *key) {
    if (writer->needs_comma) {
        fputc(',', writer->file);
    }
    if (writer->depth > 0) {
        line_break(writer);
    }
    if (key != NULL) {
        write_quoted(writer->file, key, strlen(key));
        fputs(": ", writer->file);
    }
    writer->needs_comma = true;
}

static void begin(json *writer, const char *key, char bracket) {
    next_value(writer, key);
    fputc(bracket, writer->file);
    writer->depth++;
    writer->needs_comma = false;
}

static void end(json *writer, char bracket) {
    bool empty = !writer->needs_comma;
    writer->depth--;
    if (!empty) {
        line_break(writer);
    }
    fputc(bracket, writer->file);
    writer->needs_comma = true;
}

void json_begin_object(json *writer, const char *key) { begin(writer, key, '{'); }
void json_end_object(json *writer) { end(writer, '}'); }
void json_begin_array(json *writer, const char *key) { begin(writer, key, '['); }
void json_end_array(json *writer) { end(writer, ']'); }

void json_text(json *writer, const char *key, const char *text, size_t length) {
    next_value(writer, key);
    write_quoted(writer->file, text, length);
}

void json_string(json *writer, const char *key, const char *text) {
    if (text != NULL) {
        json_text(writer, key, text, strlen(text));
    } else {
        next_value(writer, key);
        fputs("null", writer->file);
    }
}

void json_number(json *writer, const char *key, double value) {
    next_value(writer, key);
    if (isfinite(value)) {
        fprintf(writer->file, "%.9g", value);
    } else {
        fputs("null", writer->file);
    }
}

void json_integer(json *writer, const char *key, uint64_t value) {
    next_value(writer, key);
    fprintf(writer->file, "%" PRIu64, value);
}

void json_bool(json *writer, const char *key, bool value) {
    next_value(writer, key);
    fputs(value ? "true" : "false", writer->file);
}

bool json_finish(json *writer) {
    fputc('\n', writer->file);
    return fflush(writer->file) == 0 && ferror(writer->file) == 0;
}
