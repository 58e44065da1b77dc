// The header in C++17: it compiles alone, and its handles fit into std::unique_ptr.
//
// runs-on: mock mlx
#include "quire.h"

#include "test.h"

#include <memory>
#include <string>
#include <vector>

namespace {

struct Release {
    void operator()(quire_engine *engine) const { quire_engine_release(engine, nullptr); }
    void operator()(quire_event *event) const { quire_event_free(event); }
    void operator()(quire_error *error) const { quire_error_free(error); }
};

using Engine = std::unique_ptr<quire_engine, Release>;
using Event = std::unique_ptr<quire_event, Release>;
using Error = std::unique_ptr<quire_error, Release>;

Engine open(const std::string &model) {
    quire_engine_options options;
    quire_error *error = nullptr;
    CHECK_OK(quire_engine_options_init(&options, sizeof options, &error), error);
    options.model = model.data();
    options.model_len = model.size();
    quire_engine *engine = nullptr;
    CHECK_OK(quire_engine_create(&options, &engine, &error), error);
    return Engine(engine);
}

std::vector<std::uint32_t> tokenize(const Engine &engine, const std::string &text) {
    std::size_t count = 0;
    quire_error *error = nullptr;
    CHECK_OK(quire_engine_tokenize(engine.get(), text.data(), text.size(), 1, nullptr, 0, &count, &error), error);
    std::vector<std::uint32_t> tokens(count);
    CHECK_OK(quire_engine_tokenize(engine.get(), text.data(), text.size(), 1, tokens.data(), count, &count, &error),
             error);
    return tokens;
}

std::string answer(const Engine &engine, const std::vector<std::uint32_t> &prompt, std::size_t *tokens) {
    quire_request_options request;
    quire_error *error = nullptr;
    CHECK_OK(quire_request_options_init(&request, sizeof request, &error), error);
    request.prompt_tokens = prompt.data();
    request.prompt_token_count = prompt.size();
    request.max_tokens = 16;
    request.ignore_eos = 1;
    std::uint64_t id = 0;
    CHECK_OK(quire_engine_submit(engine.get(), &request, &id, &error), error);

    std::string text;
    for (;;) {
        quire_event *taken = nullptr;
        CHECK_OK(quire_engine_wait(engine.get(), -1, &taken, &error), error);
        const Event event(taken);
        CHECK_EQUAL(event->request, id);
        if (event->kind != QUIRE_EVENT_DELTA) {
            CHECK_EQUAL(event->kind, QUIRE_EVENT_FINISHED);
            return text;
        }
        text.append(event->text, event->text_len);
        *tokens += event->token_count;
    }
}

} // namespace

int main() {
    test_guard_against_hanging();
    const char *data = std::getenv("QUIRE_TEST_DATA");
    const std::string model = std::string(data == nullptr ? "tests/data" : data) + "/mock-model";
    const Engine engine = open(model);
    std::size_t tokens = 0;
    const std::string first = answer(engine, tokenize(engine, "Hello"), &tokens);
    const std::string second = answer(engine, tokenize(engine, "Hello"), &tokens);
    CHECK_EQUAL(tokens, 32);
    CHECK_TEXT(first.c_str(), second.c_str());

    quire_error *raw = nullptr;
    std::uint64_t id = 0;
    CHECK_EQUAL(quire_engine_submit(engine.get(), nullptr, &id, &raw), QUIRE_INVALID_ARGUMENT);
    const Error error(raw);
    CHECK(std::string(quire_error_message(error.get())).find("NULL") != std::string::npos);
    return 0;
}
