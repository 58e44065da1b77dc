#include "chat.h"

/* Appends `text` at `*end`, as a JSON string's inside. */
static void append_escaped(char **end, const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\' || c < 0x20) {
            *end += sprintf(*end, "\\u%04x", c);
        } else {
            *(*end)++ = (char)c;
        }
    }
}

static void append_message(char **end, const char *role, const char *text, size_t length) {
    *end += sprintf(*end, "{\"role\": \"%s\", \"content\": \"", role);
    append_escaped(end, text, length);
    *end += sprintf(*end, "\"}");
}

char *chat_from(quire_chat *chat, const char *system, const char *question, size_t question_len) {
    size_t system_len = system == NULL ? 0 : strlen(system);
    /* A byte becomes six at most. */
    char *json = allocate(6 * (system_len + question_len) + 256, 1);
    char *end = json;
    *end++ = '[';
    if (system != NULL) {
        append_message(&end, "system", system, system_len);
        *end++ = ',';
    }
    append_message(&end, "user", question, question_len);
    *end++ = ']';
    *chat = (quire_chat){.struct_size = sizeof *chat, .messages = json, .messages_len = (size_t)(end - json)};
    return json;
}
