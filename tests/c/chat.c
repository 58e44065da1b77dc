/* Conversations: the text a template makes of one, requests that run on it, and what is refused.
 *
 * runs-on: mock */
#include "model.h"

static const char template[] =
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% for t in tools or [] %}<tool>{{ t | tojson }}{% endfor %}"
    "{% for d in documents or [] %}<document>{{ d.text }}{% endfor %}"
    "{{ extra }}{% if enable_thinking is defined %}<thinking {{ enable_thinking }}>{% endif %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}";

static const char hello[] = "[{\"role\": \"user\", \"content\": \"Gr\xc3\xbc\xc3\x9f""e!\"}]";

static const char *model_with(const char *text) {
    const char *model = new_model(NULL);
    char path[PATH_SIZE];
    join_path(path, model, "chat_template.jinja");
    write_file(path, text, strlen(text));
    return model;
}

static quire_chat chat_of(const char *messages) {
    quire_chat chat;
    memset(&chat, 0, sizeof chat);
    chat.struct_size = sizeof chat;
    chat.messages = messages;
    chat.messages_len = strlen(messages);
    return chat;
}

static void check_rendered(const quire_engine *engine, const quire_chat *chat, const char *expected) {
    quire_error *error = NULL;
    char text[512];
    size_t length = 0;
    CHECK_OK(quire_engine_render_chat(engine, chat, NULL, 0, &length, &error), error);
    CHECK_EQUAL(length, strlen(expected));
    CHECK(length < sizeof text);
    CHECK_OK(quire_engine_render_chat(engine, chat, text, sizeof text, &length, &error), error);
    text[length] = '\0';
    CHECK_TEXT(text, expected);
}

static void everything_reaches_the_template(const quire_engine *engine) {
    quire_chat chat = chat_of(hello);
    check_rendered(engine, &chat, "<user>Gr\xc3\xbc\xc3\x9f""e!<assistant>");
    chat.tools = "[{\"z\": 1, \"a\": null}]";
    chat.tools_len = strlen(chat.tools);
    chat.documents = "[{\"text\": \"d\"}]";
    chat.documents_len = strlen(chat.documents);
    chat.template_arguments = "{\"extra\": \"x\"}";
    chat.template_arguments_len = strlen(chat.template_arguments);
    chat.thinking = QUIRE_THINKING_OFF;
    chat.no_generation_prompt = 1;
    check_rendered(engine, &chat,
                   "<user>Gr\xc3\xbc\xc3\x9f""e!<tool>{\"z\": 1, \"a\": null}<document>dx<thinking False>");
}

static void refused(const quire_engine *engine, const quire_chat *chat, quire_status status, const char *names) {
    quire_error *error = NULL;
    size_t length = 99;
    CHECK_FAILS(quire_engine_render_chat(engine, chat, NULL, 0, &length, &error), error, status, names);
    CHECK_EQUAL(length, 99);
    quire_request_options request = request_for(4);
    request.prompt_tokens = NULL;
    request.prompt_token_count = 0;
    request.chat = chat;
    uint64_t id = 0;
    if (chat != NULL) {
        CHECK_FAILS(quire_engine_submit(engine, &request, &id, &error), error, status, names);
    }
}

static void bad_ones_are_refused(const quire_engine *engine) {
    quire_chat chat = chat_of("[{\"role\": 3}]");
    refused(engine, &chat, QUIRE_INVALID_ARGUMENT, "messages[0].role");
    chat = chat_of("[");
    refused(engine, &chat, QUIRE_INVALID_ARGUMENT, "messages");
    chat = chat_of("\xff");
    refused(engine, &chat, QUIRE_INVALID_UTF8, "messages");
    refused(engine, NULL, QUIRE_INVALID_ARGUMENT, "chat");
    chat = chat_of(hello);
    chat.struct_size--;
    refused(engine, &chat, QUIRE_INVALID_STRUCT_SIZE, "chat");
    chat = chat_of(hello);
    chat.thinking = 3;
    refused(engine, &chat, QUIRE_INVALID_ARGUMENT, "thinking");
    chat = chat_of(hello);
    chat.no_generation_prompt = 2;
    refused(engine, &chat, QUIRE_INVALID_ARGUMENT, "no_generation_prompt");
    chat = chat_of(hello);
    chat.tools = "{}";
    chat.tools_len = 2;
    refused(engine, &chat, QUIRE_INVALID_ARGUMENT, "tools");

    chat = chat_of(hello);
    quire_request_options both = request_for(4);
    both.chat = &chat;
    quire_error *error = NULL;
    uint64_t id = 0;
    CHECK_FAILS(quire_engine_submit(engine, &both, &id, &error), error, QUIRE_INVALID_ARGUMENT, "chat");
}

static void a_request_runs_on_it(const quire_engine *engine) {
    quire_chat chat = chat_of(hello);
    quire_request_options request = request_for(9);
    request.prompt_tokens = NULL;
    request.prompt_token_count = 0;
    request.chat = &chat;
    answer from_chat = wait_for_answer(engine, submit(engine, &request));
    CHECK_EQUAL(from_chat.end, QUIRE_EVENT_FINISHED);
    CHECK_EQUAL(from_chat.token_count, 9);
    CHECK_EQUAL(from_chat.prompt_tokens, strlen("<user>Gr__\x20__e!<assistant>") - 1);
    answer_clear(&from_chat);

    request.parse = 3;
    quire_error *error = NULL;
    uint64_t id = 0;
    CHECK_FAILS(quire_engine_submit(engine, &request, &id, &error), error, QUIRE_INVALID_ARGUMENT, "parse");
}

int main(void) {
    test_guard_against_hanging();
    quire_engine *engine = engine_for(model_with(template));
    everything_reaches_the_template(engine);
    bad_ones_are_refused(engine);
    a_request_runs_on_it(engine);
    check_engine_works(engine);
    release(engine);

    quire_chat chat = chat_of(hello);
    engine = engine_for(new_model(NULL));
    refused(engine, &chat, QUIRE_TEMPLATE_MISSING, "template");
    release(engine);
    engine = engine_for(model_with("\n{% for %}"));
    refused(engine, &chat, QUIRE_TEMPLATE_ERROR, "chat_template.jinja:2");
    check_engine_works(engine);
    release(engine);
    return 0;
}
