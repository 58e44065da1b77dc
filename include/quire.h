/*
 * Quire runs language models inside your process, on MLX: many requests at a time in one batch, a paged
 * key-value cache that shares equal prefixes, answers streamed as they come.
 *
 * Generated from src/ffi by `make header`; this file is the authority on what the library promises.
 *
 *
 * LIFE CYCLE
 *
 *     quire_engine_options_init    defaults; then set `model`
 *     quire_engine_create          loads the model, starts the engine's thread
 *       quire_request_options_init   defaults; then set a prompt
 *       quire_engine_submit          returns at once with a request id
 *       quire_engine_wait            events: deltas, then exactly one terminal event a request
 *       quire_event_free
 *     quire_engine_suspend, _resume  optional: nothing runs in between
 *     quire_engine_shutdown        optional: drain, or cancel, by a deadline
 *     quire_engine_release         ends the threads, frees the model
 *
 * tests/c/readme_example.c is the whole of it in thirty lines.
 *
 *
 * ERRORS
 *
 * A call that can fail returns a quire_status, QUIRE_OK being 0, and takes a quire_error ** as its last
 * argument. Pass NULL if the status is enough. Otherwise, on failure and only then, *error becomes an error
 * that you own and free with quire_error_free; its message names the file, field or argument. Outputs are
 * written only on success. No call exits, aborts, prints, or installs a signal handler.
 *
 *
 * OWNERSHIP
 *
 * What a function copies out through a pointer to a pointer is yours until you free it with the function its
 * description names. Strings and arrays you pass in are copied during the call. Strings go in as pointer and
 * length, UTF-8, no NUL needed; those that come out have a NUL after them as well. A user_data pointer goes
 * back to you once, through the release function given beside it, after its last use.
 *
 * Every pointer must be valid for what its description says; where one may be NULL, it says so, and
 * elsewhere NULL is refused with QUIRE_INVALID_ARGUMENT.
 *
 *
 * THREADS
 *
 * An engine has a thread of its own, which alone touches the model. Every function may be called from any
 * thread, several at once, on the same engine; only quire_engine_release must be the last. Submit, cancel and
 * poll never wait for the model. Events are taken by quire_engine_poll and quire_engine_wait or, if you set
 * on_event, delivered on a dispatcher thread of the engine's; a slow reader holds up nobody, its deltas are
 * joined.
 *
 *
 * GROWTH
 *
 * Structs that can grow begin with struct_size: their size as your compiler sees it. Fields are only ever
 * added at the end, and their zero is what was before. Enumerations cross as integers and are checked; new
 * values may be added, so treat one you do not know as you would a default case.
 */

#ifndef QUIRE_H
#define QUIRE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Handles: made and freed by the library, never looked into. */
typedef struct quire_engine quire_engine;
typedef struct quire_error quire_error;
typedef struct quire_event quire_event;
typedef struct quire_detokenizer quire_detokenizer;


/* Version ------------------------------------------------------------------------------------------- */

// The ABI this header describes. Two versions with the same number are binary compatible; compare it
// with quire_abi_version() at start-up when the library is loaded at run time.
#define QUIRE_ABI_VERSION 1

// The ABI version of the library that is linked, to compare with QUIRE_ABI_VERSION.
//
// Any thread, any time.
uint32_t quire_abi_version(void);

// The library's version as "major.minor.patch", NUL-terminated and never freed.
//
// Any thread, any time.
const char *quire_version(void);


/* Statuses and errors ------------------------------------------------------------------------------- */

// An error: a status and a message. Owned by whoever received it, freed with quire_error_free.
typedef struct quire_error quire_error;

// What a call returns: 0 is success. Programs branch on the status; the message of a quire_error is
// for people.
typedef int32_t quire_status;

// Success.
#define QUIRE_OK 0

// An argument is NULL, out of range, empty, or contradicts another; the message names it.
#define QUIRE_INVALID_ARGUMENT 1

// A struct's struct_size is not one this library knows: the struct was not initialised with its
// _init function, or the header is newer than the library.
#define QUIRE_INVALID_STRUCT_SIZE 2

// A string is not valid UTF-8; the message says at which byte.
#define QUIRE_INVALID_UTF8 3

// The model path or name leads nowhere; for an "org/name" the message says how to download it.
#define QUIRE_MODEL_NOT_FOUND 4

// A file of the model is malformed, truncated or inconsistent; the message names file and field.
#define QUIRE_MODEL_INVALID 5

// The model is sound but of an architecture, quantization or format this library does not run.
#define QUIRE_MODEL_UNSUPPORTED 6

// The call needs text and the model came without a tokenizer; token ids still work.
#define QUIRE_TOKENIZER_MISSING 7

// The tokenizer's files are malformed.
#define QUIRE_TOKENIZER_INVALID 8

// The prompt and the tokens asked for do not fit into the context, or into the whole cache.
#define QUIRE_PROMPT_TOO_LONG 9

// Too many requests are live (running, waiting, or with events not yet taken); try again later.
#define QUIRE_QUEUE_FULL 10

// Memory ran out, on the host or the device.
#define QUIRE_OUT_OF_MEMORY 11

// No live request has this id: it never existed, has ended, or is already being cancelled.
#define QUIRE_NOT_FOUND 12

// The time given ran out first.
#define QUIRE_TIMEOUT 13

// The engine has been shut down; for quire_engine_wait, also: no event is left.
#define QUIRE_SHUT_DOWN 14

// The progress callback asked to stop loading.
#define QUIRE_ABORTED 15

// The device failed; the requests in flight failed with it, the engine goes on.
#define QUIRE_DEVICE_ERROR 16

// The call is not allowed here: from inside a callback, or not with this engine's event delivery.
#define QUIRE_INVALID_STATE 17

// A file could not be read or written.
#define QUIRE_IO 18

// The request's own deadline passed before it was done.
#define QUIRE_DEADLINE_EXCEEDED 19

// A defect of this library; the message says where. The process and, where it can, the engine go on.
#define QUIRE_INTERNAL 20

// A saved cache is damaged, or was saved for another model, page format or version; the message says which.
#define QUIRE_CACHE_INVALID 21

// The call needs a chat template and the model has none.
#define QUIRE_TEMPLATE_MISSING 22

// The model's chat template is malformed, refuses the conversation, or does too much work.
#define QUIRE_TEMPLATE_ERROR 23

// A grammar is malformed, allows no text, or is too complex; the message says what is wrong and where. As the
// status of a failed request: the grammar became too complex on the way.
#define QUIRE_GRAMMAR_INVALID 24

// The name of a status in lower case ("queue full"), NUL-terminated and never freed; "unknown status"
// for a number that is none.
//
// Any thread, any time.
const char *quire_status_name(quire_status status);

// The error's status. QUIRE_INVALID_ARGUMENT if error is NULL.
//
// Any thread.
quire_status quire_error_status(const quire_error *error);

// The error's message in English, UTF-8, NUL-terminated; it lives as long as the error. An empty string
// if error is NULL.
//
// Any thread.
const char *quire_error_message(const quire_error *error);

// Frees an error. NULL is allowed and does nothing.
//
// Any thread.
void quire_error_free(quire_error *error);


/* Logging ------------------------------------------------------------------------------------------- */

// How important a log line is.
typedef int32_t quire_log_level;

// Something failed.
#define QUIRE_LOG_ERROR 1

// Something is not as it should be; the library copes.
#define QUIRE_LOG_WARNING 2

// What happens: models loaded, kernels chosen.
#define QUIRE_LOG_INFO 3

// Detail for whoever debugs this library.
#define QUIRE_LOG_DEBUG 4

// Receives a log line: message_len bytes of UTF-8 and a NUL after them, valid until the function
// returns. Called from any thread, several at once; must not call into this library.
typedef void (*quire_log_fn)(void *user_data,
                             quire_log_level level,
                             const char *message,
                             size_t message_len);

// Called once when the library has no more use for a user_data, after the last callback that gets it.
typedef void (*quire_release_fn)(void *user_data);

// Sets the process's log callback, replacing any before it; function NULL turns logging off. Lines less
// important than max_level are not made. release, if not NULL, is called once with user_data when
// the callback has been replaced and no call of it is running; also if this function fails.
//
// Any thread. Fails with QUIRE_INVALID_ARGUMENT for a level that is none.
quire_status quire_set_log_callback(quire_log_fn function,
                                    void *user_data,
                                    quire_release_fn release,
                                    quire_log_level max_level,
                                    quire_error **error);


/* Engine options ------------------------------------------------------------------------------------ */

// How weights are held in memory.
typedef int32_t quire_weight_format;

// As stored on a GPU; on a CPU dense 32-bit floats if these take at most a quarter of the physical
// memory (a CPU multiplies them several times faster), as stored otherwise.
#define QUIRE_WEIGHTS_AUTO 0

// As the model's files store them.
#define QUIRE_WEIGHTS_AS_STORED 1

// Dense 32-bit floats.
#define QUIRE_WEIGHTS_FLOAT32 2

// Called with each event of an engine, one at a time, in order, on the engine's dispatcher thread. The
// event is the library's and valid until the function returns. The function may call any function of
// this library but quire_engine_shutdown; it must not throw or jump out.
typedef void (*quire_event_fn)(void *user_data, const quire_event *event);

// Called while a model loads, on the thread that called quire_engine_create. fraction runs from 0 to
// 1; stage is a short NUL-terminated description, valid until the function returns. Return 0 to go on,
// anything else to stop: create then fails with QUIRE_ABORTED.
typedef int32_t (*quire_progress_fn)(void *user_data, float fraction, const char *stage);

// What an engine is made of. Fill with quire_engine_options_init, then set model and what else you
// like. Everything is copied during quire_engine_create.
typedef struct quire_engine_options {
    // Size of this struct in bytes; set by quire_engine_options_init.
    size_t struct_size;
    // The model: a directory (config.json, safetensors, tokenizer.json), a GGUF file, or a name
    // "org/name" in the local Hugging Face cache. UTF-8, model_len bytes, no NUL needed. Required.
    const char *model;
    // Length of model in bytes.
    size_t model_len;
    // Most sequences that run at the same time, 1 to 4096. Default 64.
    uint32_t max_sequences;
    // Most requests beyond those that may wait, 0 to 1,000,000. Default 1024. A request that finds no
    // place is refused with QUIRE_QUEUE_FULL.
    uint32_t max_waiting;
    // Longest prompt plus answer in tokens. Default 0: what the model was made for.
    uint32_t max_context;
    // Most tokens computed in one step, 16 to 32768 and more than max_sequences. Long prompts are cut into
    // chunks that leave room for the streams that are decoding. Default 512.
    uint32_t max_step_tokens;
    // Tokens in one page of the key-value cache, a power of two from 1 to 1024. Default 16.
    uint32_t block_tokens;
    // How to hold weights: QUIRE_WEIGHTS_AUTO (default), QUIRE_WEIGHTS_AS_STORED or
    // QUIRE_WEIGHTS_FLOAT32.
    quire_weight_format weight_format;
    // Memory for the key-value cache in bytes. Default 0: chosen from what the device has left. For a model with
    // recurrent layers (Mamba-2) it also holds max_sequences states and snapshots of such.
    uint64_t cache_bytes;
    // 1 to compute every prompt in full, never reusing pages of equal prefixes. Default 0.
    int32_t disable_prefix_sharing;
    // Receives all events on a thread of the engine's own. Default NULL: events are taken with
    // quire_engine_poll and quire_engine_wait instead.
    quire_event_fn on_event;
    // First argument of on_event.
    void *on_event_data;
    // Called once with on_event_data after the last event, also when create fails, unless it fails because
    // the options are NULL or of an unknown size. May be NULL.
    quire_release_fn release_on_event_data;
    // Receives loading progress during quire_engine_create. May be NULL.
    quire_progress_fn on_progress;
    // First argument of on_progress.
    void *on_progress_data;
} quire_engine_options;

// Fills options with defaults. struct_size is sizeof(quire_engine_options) as your compiler sees it.
//
// Any thread. Fails with QUIRE_INVALID_ARGUMENT (NULL) or QUIRE_INVALID_STRUCT_SIZE.
quire_status quire_engine_options_init(quire_engine_options *options,
                                       size_t struct_size,
                                       quire_error **error);


/* Engines ------------------------------------------------------------------------------------------- */

// A model, its cache, and the thread that runs it.
typedef struct quire_engine quire_engine;

// What an engine does with the requests it still has when it is shut down.
typedef int32_t quire_shutdown_mode;

// Let them finish, within the time given; cancel what is left then.
#define QUIRE_SHUTDOWN_DRAIN 1

// Cancel them all.
#define QUIRE_SHUTDOWN_CANCEL 2

// Loads a model and starts an engine. *engine becomes the engine, to be released with
// quire_engine_release. Returns when the model is ready, which can take seconds; on_progress tells how
// far it is and can stop it.
//
// Any thread but a callback's. Fails with QUIRE_INVALID_ARGUMENT, QUIRE_INVALID_STRUCT_SIZE,
// QUIRE_INVALID_UTF8, QUIRE_MODEL_NOT_FOUND, QUIRE_MODEL_INVALID, QUIRE_MODEL_UNSUPPORTED,
// QUIRE_TOKENIZER_INVALID, QUIRE_OUT_OF_MEMORY, QUIRE_ABORTED, QUIRE_DEVICE_ERROR or QUIRE_IO.
quire_status quire_engine_create(const quire_engine_options *options,
                                 quire_engine **engine,
                                 quire_error **error);

// Ends an engine's work: no request is accepted any more; those it has are drained or cancelled, as mode
// says; returns when the last has had its terminal event. Events not yet taken can still be taken. Calling
// it again is allowed: from then on the stricter mode and the earlier deadline hold.
//
// deadline_ms bounds QUIRE_SHUTDOWN_DRAIN: what is not done by then is cancelled. Negative: no bound.
//
// Any thread but a callback's. Fails with QUIRE_INVALID_ARGUMENT or, from inside a callback,
// QUIRE_INVALID_STATE.
quire_status quire_engine_shutdown(const quire_engine *engine,
                                   quire_shutdown_mode mode,
                                   int64_t deadline_ms,
                                   quire_error **error);

// Suspends an engine, as an app does that goes to the background: the step that is running ends, and no other
// begins until quire_engine_resume. When this returns the device has nothing to do. Requests are accepted and
// cancelled meanwhile, wait, and keep their pages; their deadlines run on, and are looked at after the resumption.
// Saving and loading the cache works too. Suspended twice is suspended once; quire_engine_shutdown ends it.
//
// Any thread, callbacks too; waits for the step. Fails with QUIRE_SHUT_DOWN, or with QUIRE_DEVICE_ERROR or
// QUIRE_OUT_OF_MEMORY if that step failed; then the engine is suspended all the same.
quire_status quire_engine_suspend(const quire_engine *engine,
                                  quire_error **error);

// Resumes an engine that was suspended; harmless if it was not.
//
// Any thread, callbacks too; does not wait.
quire_status quire_engine_resume(const quire_engine *engine, quire_error **error);

// Releases an engine: cancels what it still runs, ends its threads, frees the model. The handle is gone,
// whatever is returned. With callback delivery every terminal event and then release_on_event_data come
// before this returns; without it, events not taken are dropped.
//
// Any thread, once, when no other call on the engine is running. From inside a callback of this engine it
// returns at once and the rest happens after the callback has returned. NULL is allowed and does nothing.
quire_status quire_engine_release(quire_engine *engine,
                                  quire_error **error);


/* Conversations ------------------------------------------------------------------------------------- */

// Whether a model is to think before it answers, where its chat template has that switch
// (enable_thinking or thinking).
typedef int32_t quire_thinking;

// A conversation. Zero it, set struct_size to sizeof(quire_chat), then set messages and what else you
// like. All JSON is UTF-8; an optional one is left out by length 0.
typedef struct quire_chat {
    // Size of this struct in bytes; set by the caller.
    size_t struct_size;
    // A JSON array of messages: objects with a "role" ("system", "user", "assistant", "tool") and a
    // "content". What else a message may have is for the model's template to say; most know "tool_calls"
    // ([{"type": "function", "function": {"name": ..., "arguments": {...}}}]) and "reasoning_content".
    const char *messages;
    // Length of messages in bytes.
    size_t messages_len;
    // Optional: the tools that the model may call, a JSON array of objects
    // ([{"type": "function", "function": {"name": ..., "description": ..., "parameters": {a JSON schema}}}]).
    const char *tools;
    // Length of tools in bytes.
    size_t tools_len;
    // Optional: documents to consult, a JSON array of objects ([{"title": ..., "text": ...}]).
    const char *documents;
    // Length of documents in bytes.
    size_t documents_len;
    // Optional: further variables for the template, a JSON object. They come before all others.
    const char *template_arguments;
    // Length of template_arguments in bytes.
    size_t template_arguments_len;
    // One of QUIRE_THINKING_*.
    quire_thinking thinking;
    // 1 to end the text after the last message, not where the model's answer begins. Default 0.
    int32_t no_generation_prompt;
} quire_chat;

// As the template has it by itself.
#define QUIRE_THINKING_DEFAULT 0

// Think.
#define QUIRE_THINKING_ON 1

// Do not think.
#define QUIRE_THINKING_OFF 2

// Makes the prompt that the model's chat template makes of a conversation. *text_len becomes its length in
// bytes; the first capacity bytes are written to text, without a NUL, so call once with capacity 0 to
// learn the length. A request with the same chat runs on the same text.
//
// The template is the model's, in the language Jinja: from chat_template.jinja, tokenizer_config.json or
// GGUF metadata. It runs in bounded time and memory, on a thread of its own.
//
// Any thread, callbacks too; does not touch the engine's own thread. Fails with QUIRE_INVALID_ARGUMENT
// (also for JSON that is none, or is no conversation), QUIRE_INVALID_STRUCT_SIZE, QUIRE_INVALID_UTF8,
// QUIRE_TEMPLATE_MISSING, or QUIRE_TEMPLATE_ERROR, with file and line, if the template is malformed or
// refuses the conversation.
quire_status quire_engine_render_chat(const quire_engine *engine,
                                      const quire_chat *chat,
                                      char *text,
                                      size_t capacity,
                                      size_t *text_len,
                                      quire_error **error);


/* Requests ------------------------------------------------------------------------------------------ */

// A piece of text that goes in: UTF-8, no NUL needed.
typedef struct quire_string {
    // The bytes; may be NULL if len is 0.
    const char *bytes;
    // Their number.
    size_t len;
} quire_string;

// Whether an answer is taken apart. The model's chat template tells how it marks reasoning (<think>) and
// tool calls: JSON or functions in <tool_call> (Qwen, Hermes, Nemotron), [TOOL_CALLS] (Mistral), or JSON by
// itself (Llama, only where there are tools). In other formats all is text.
typedef int32_t quire_parse;

// What is added to a token's logit.
typedef struct quire_logit_bias {
    // The token.
    uint32_t token;
    // Added to its logit before anything else happens; minus infinity bans it.
    float bias;
} quire_logit_bias;

// In which form a grammar is written.
typedef int32_t quire_grammar_kind;

// There is no grammar.
#define QUIRE_GRAMMAR_NONE 0

// A JSON schema; the answer is JSON that it validates.
#define QUIRE_GRAMMAR_JSON_SCHEMA 1

// Any JSON object; there is no text.
#define QUIRE_GRAMMAR_JSON_OBJECT 2

// A regular expression (syntax of Rust's regex crate) that the whole answer matches.
#define QUIRE_GRAMMAR_REGEX 3

// A grammar in llguidance's dialect of Lark.
#define QUIRE_GRAMMAR_LARK 4

// A JSON array of strings; the answer is one of them.
#define QUIRE_GRAMMAR_CHOICE 5

// One request. Fill with quire_request_options_init, then set a prompt (one of prompt, prompt_tokens
// and chat) and what else you like. Everything is copied during quire_engine_submit.
typedef struct quire_request_options {
    // Size of this struct in bytes; set by quire_request_options_init.
    size_t struct_size;
    // The prompt as UTF-8 text of prompt_len bytes; no NUL needed. Special tokens written out in it
    // (such as "<|im_start|>") are recognised. Needs a model with a tokenizer.
    const char *prompt;
    // Length of prompt in bytes.
    size_t prompt_len;
    // The prompt as prompt_token_count token ids, run as they are.
    const uint32_t *prompt_tokens;
    // Number of prompt tokens.
    size_t prompt_token_count;
    // Most tokens to generate, at least 1. Default 256.
    uint32_t max_tokens;
    // Divides the logits, 0 to 100; 0 always takes the most likely token. Default 0.
    float temperature;
    // Keep only the top_k most likely tokens. Default 0: keep all.
    uint32_t top_k;
    // Keep the smallest set of most likely tokens that together have this probability, above 0 and at
    // most 1. Default 1.
    float top_p;
    // Drop tokens less likely than this times the most likely one, 0 to 1. Default 0.
    float min_p;
    // Seeds the random draws: the same seed, prompt and settings give the same tokens, whatever else
    // runs. Default: a fresh random number, drawn by quire_request_options_init.
    uint64_t seed;
    // Further tokens that end the answer, besides the model's own end-of-sequence tokens.
    const uint32_t *stop_tokens;
    // Number of stop tokens.
    size_t stop_token_count;
    // 1 to go on past the model's end-of-sequence tokens. Default 0.
    int32_t ignore_eos;
    // Requests of higher priority start first and are put aside last. Default 0.
    int32_t priority;
    // The request fails with QUIRE_DEADLINE_EXCEEDED if it is not done this many milliseconds after
    // submit. Default 0: no deadline.
    uint64_t timeout_ms;
    // Requests reuse each other's pages only if their salts are equal: give each tenant its own.
    // cache_salt_len bytes of anything. Default: empty.
    const char *cache_salt;
    // Length of cache_salt in bytes.
    size_t cache_salt_len;
    // Comes back in each of the request's events. The library never looks at it. Default NULL.
    void *tag;
    // Texts that end the answer, wherever token boundaries lie: at most 64, of 1 to 1024 bytes each. A stop
    // string is never part of the answer, nor is any piece of it; text that may become one is held back until
    // it is certain. Needs a model with a tokenizer. Special tokens count as their text ("<|im_end|>").
    const quire_string *stop_strings;
    // Number of stop strings.
    size_t stop_string_count;
    // The prompt as a conversation, put into text by the model's chat template (quire_engine_render_chat)
    // on the thread that submits. Needs a model with a tokenizer and a template.
    const quire_chat *chat;
    // Whether the answer is taken apart into text, reasoning and tool calls: one of QUIRE_PARSE_*.
    quire_parse parse;
    // How many answers to give, 1 to 128; more than 1 needs a temperature. Each is a request of its own, with
    // its own events and id: the first id comes from quire_engine_submit, the others follow it. They compute
    // their common prompt once and share its pages. The first answer is what it would be alone. Default 1.
    uint32_t n;
    // Tokens to generate before the answer may end: until then neither end-of-sequence tokens (unless
    // ignore_eos) nor stop tokens are chosen. At most max_tokens. Default 0.
    uint32_t min_tokens;
    // Keep the smallest set of tokens, most typical first, that together have this probability (locally
    // typical sampling), above 0 and at most 1. It acts on what top_k, top_p and min_p have left. Default 1.
    float typical_p;
    // How often, 0 to 1, XTC takes place for a token: then, of the tokens with a probability of
    // xtc_threshold or more, only the least likely is kept. Default 0.
    float xtc_probability;
    // From which probability on a token is one of XTC's top choices, 0 to 0.5. Default 0.1.
    float xtc_threshold;
    // Divides the positive logits and multiplies the negative ones of tokens that are in the prompt or the
    // answer, above 0 and at most 100. Default 1: nothing.
    float repetition_penalty;
    // Taken from the logits of tokens that are in the answer, -100 to 100. Default 0.
    float presence_penalty;
    // Taken from the logits of tokens in the answer once for each time they are there, -100 to 100. Default 0.
    float frequency_penalty;
    // How many of the latest tokens, prompt and answer together, the three penalties look at. Default 0: all.
    uint32_t penalty_window;
    // What is added to the logits of some tokens, at most 4096, none twice.
    const quire_logit_bias *logit_bias;
    // Number of biases.
    size_t logit_bias_count;
    // 1 for the log-probability of each token of the answer. Log-probabilities are natural logarithms of the
    // model's own probabilities, before bias, penalties, temperature and everything else. Default 0.
    int32_t logprobs;
    // With each of them this many of the most likely tokens and theirs, at most 20. Default 0.
    uint32_t top_logprobs;
    // 1 for the log-probabilities of the prompt's tokens too; the prompt is then computed whole, whatever is cached.
    // top_logprobs holds for them as well. Of n answers the first gives them. Default 0.
    int32_t prompt_logprobs;
    // Makes the answer follow a grammar: one of QUIRE_GRAMMAR_*. Every other setting still holds, but what the
    // grammar needs is never banned. An answer cut off by max_tokens is the beginning of such a text. If the prompt
    // ends inside reasoning (<think>) and the answer is taken apart (parse), the model may finish thinking
    // and the grammar is for what follows; else it is for all of the answer, so that a model that opens its
    // reasoning itself gives none. Needs a model with a tokenizer. Default QUIRE_GRAMMAR_NONE.
    quire_grammar_kind grammar_kind;
    // The grammar as UTF-8 text of grammar_len bytes, at most 1 MiB, and a regular expression, by itself or in a
    // schema, at most 64 KiB; no NUL needed.
    const char *grammar;
    // Length of grammar in bytes.
    size_t grammar_len;
} quire_request_options;

// If the prompt is a chat.
#define QUIRE_PARSE_DEFAULT 0

// Also if it is prompt, whose text may end inside <think>.
#define QUIRE_PARSE_ON 1

// No: the whole answer comes as text, as the model wrote it.
#define QUIRE_PARSE_OFF 2

// Fills options with defaults. struct_size is sizeof(quire_request_options) as your compiler sees it.
//
// Any thread. Fails with QUIRE_INVALID_ARGUMENT (NULL) or QUIRE_INVALID_STRUCT_SIZE.
quire_status quire_request_options_init(quire_request_options *options,
                                        size_t struct_size,
                                        quire_error **error);

// Submits a request and returns at once; the answer comes as events. *request becomes its id: never 0,
// never used twice by one engine.
//
// Any thread, callbacks too. Tokenizes the prompt and compiles the grammar on the calling thread. Fails with
// QUIRE_INVALID_ARGUMENT, QUIRE_INVALID_STRUCT_SIZE, QUIRE_INVALID_UTF8, QUIRE_TOKENIZER_MISSING,
// QUIRE_TEMPLATE_MISSING, QUIRE_TEMPLATE_ERROR, QUIRE_PROMPT_TOO_LONG, QUIRE_GRAMMAR_INVALID,
// QUIRE_QUEUE_FULL or QUIRE_SHUT_DOWN; then no event will come.
quire_status quire_engine_submit(const quire_engine *engine,
                                 const quire_request_options *options,
                                 uint64_t *request,
                                 quire_error **error);

// Cancels a request: it takes part in no further step, its pages are free, and its terminal event is
// QUIRE_EVENT_CANCELLED (or the one it was about to have, if it ended first).
//
// Any thread, callbacks too; does not wait. Fails with QUIRE_NOT_FOUND if the id is unknown, has ended
// or is being cancelled already: harmless.
quire_status quire_engine_cancel(const quire_engine *engine,
                                 uint64_t request,
                                 quire_error **error);

// Cancels every live request.
//
// Any thread, callbacks too; does not wait.
quire_status quire_engine_cancel_all(const quire_engine *engine, quire_error **error);


/* Events -------------------------------------------------------------------------------------------- */

// What an event says.
typedef int32_t quire_event_kind;

// New text and tokens of an answer. Deltas that were not taken in time come joined into one.
#define QUIRE_EVENT_DELTA 1

// Terminal: the answer is complete; finish_reason says why it ended.
#define QUIRE_EVENT_FINISHED 2

// Terminal: the request was cancelled, or the engine shut down before it was done.
#define QUIRE_EVENT_CANCELLED 3

// Terminal: the request failed; status and message say how.
#define QUIRE_EVENT_FAILED 4

// New reasoning of an answer that is taken apart (quire_parse), in text: what the model thinks before it
// answers. Comes joined like other deltas.
#define QUIRE_EVENT_REASONING 5

// A complete tool call of an answer that is taken apart: tool_name is the tool, text its arguments, a
// JSON object. The call's turn ends with the answer; run the tool, and put call and result into messages.
#define QUIRE_EVENT_TOOL_CALL 6

// Why an answer ended.
typedef int32_t quire_finish_reason;

// Not finished: the event is not QUIRE_EVENT_FINISHED.
#define QUIRE_FINISH_NONE 0

// One of the model's end-of-sequence tokens came.
#define QUIRE_FINISH_END_OF_SEQUENCE 1

// One of the request's stop tokens came.
#define QUIRE_FINISH_STOP_TOKEN 2

// max_tokens tokens were generated.
#define QUIRE_FINISH_LENGTH 3

// One of the request's stop strings came.
#define QUIRE_FINISH_STOP_STRING 4

// The request's grammar is complete: nothing could follow.
#define QUIRE_FINISH_GRAMMAR 5

// A token and the natural logarithm of its probability.
typedef struct quire_token_logprob {
    // The token.
    uint32_t token;
    // Its log-probability.
    float logprob;
} quire_token_logprob;

// One event of one request. Every accepted request has any number of deltas and then exactly one terminal
// event, when its pages are already free.
//
// Made by the library and read-only: one from quire_engine_poll or quire_engine_wait is freed with
// quire_event_free; one passed to a callback is the library's.
typedef struct quire_event {
    // Size of this struct in bytes, as the library was built.
    size_t struct_size;
    // What the event says: one of QUIRE_EVENT_*.
    quire_event_kind kind;
    // Why the answer ended: one of QUIRE_FINISH_*.
    quire_finish_reason finish_reason;
    // The request, as quire_engine_submit returned it.
    uint64_t request;
    // The request's tag.
    void *tag;
    // A delta's text: whole UTF-8 characters, text_len bytes and a NUL after them; never NULL. Empty if
    // the model has no tokenizer, or while a character is still incomplete.
    const char *text;
    // Length of text in bytes.
    size_t text_len;
    // A delta's token ids. The token that ended an answer is not among them, nor is one with a part in
    // the stop string that did.
    const uint32_t *tokens;
    // Number of tokens.
    size_t token_count;
    // The token that ended the answer, where finish_reason is QUIRE_FINISH_END_OF_SEQUENCE or
    // QUIRE_FINISH_STOP_TOKEN; else 0.
    uint32_t stop_token;
    // Why the request failed; QUIRE_OK unless kind is QUIRE_EVENT_FAILED.
    quire_status status;
    // The failure in words, NUL-terminated; never NULL.
    const char *message;
    // Tokens in the prompt. This and what follows is filled in terminal events.
    uint32_t prompt_tokens;
    // Prompt tokens whose pages were reused instead of computed.
    uint32_t cached_tokens;
    // Tokens generated, the one that ended the answer included.
    uint32_t generated_tokens;
    // Nanoseconds from submit until the request first ran.
    uint64_t queue_ns;
    // Nanoseconds from submit until its first token was known; 0 if there was none.
    uint64_t first_token_ns;
    // Nanoseconds from submit until its end.
    uint64_t total_ns;
    // The index of the stop string that ended the answer, where finish_reason is
    // QUIRE_FINISH_STOP_STRING; else 0.
    uint32_t stop_string;
    // The tool that is called, tool_name_len bytes and a NUL after them; never NULL, empty unless kind is
    // QUIRE_EVENT_TOOL_CALL.
    const char *tool_name;
    // Length of tool_name in bytes.
    size_t tool_name_len;
    // Which of the answers to its prompt this is, from 0 on; see n of quire_request_options.
    uint32_t answer_index;
    // The log-probabilities of a delta's tokens, token_count of them, if the request asked for them; else
    // NULL.
    const float *logprobs;
    // For each of a delta's tokens, in order, top_logprob_count of the most likely tokens in its place, most
    // likely first; NULL if that is 0.
    const quire_token_logprob *top_logprobs;
    // How many of these each token has: as many as the request asked for.
    size_t top_logprob_count;
    // In a request's first delta, if it asked for them: the log-probabilities of its prompt's tokens from the second
    // on, prompt_logprob_count of them; else NULL. Such a delta may have no token of the answer.
    const float *prompt_logprobs;
    // For each of these, prompt_top_logprobs_each of the most likely tokens in its place; NULL if that is 0.
    const quire_token_logprob *prompt_top_logprobs;
    // How many of the prompt's tokens have one: one less than the prompt has tokens.
    size_t prompt_logprob_count;
    // How many of the most likely tokens each has: as many as the request asked for.
    size_t prompt_top_logprobs_each;
} quire_event;

// Takes the next event if there is one. *event becomes the event, to be freed with quire_event_free,
// or NULL if none is there now.
//
// Any thread, several at once too. Fails with QUIRE_SHUT_DOWN once the engine has been shut down and
// every event was taken, or QUIRE_INVALID_STATE if the engine delivers to a callback.
quire_status quire_engine_poll(const quire_engine *engine,
                               quire_event **event,
                               quire_error **error);

// Takes the next event, waiting for it up to timeout_ms milliseconds, or for ever if that is negative.
// *event becomes the event, to be freed with quire_event_free.
//
// Any thread but a callback's, several at once too. Fails with QUIRE_TIMEOUT; with QUIRE_SHUT_DOWN
// once the engine has been shut down and every event was taken; or with QUIRE_INVALID_STATE if the
// engine delivers to a callback.
quire_status quire_engine_wait(const quire_engine *engine,
                               int64_t timeout_ms,
                               quire_event **event,
                               quire_error **error);

// Frees an event taken with quire_engine_poll or quire_engine_wait. NULL is allowed and does nothing.
//
// Any thread, also after the engine was released.
void quire_event_free(quire_event *event);


/* Statistics and model information ------------------------------------------------------------------ */

// A snapshot of what an engine does and has done. Set struct_size to sizeof(quire_statistics), then
// call quire_engine_statistics.
typedef struct quire_statistics {
    // Size of this struct in bytes; set by the caller.
    size_t struct_size;
    // Requests accepted since the engine was made.
    uint64_t requests_accepted;
    // Of these, finished.
    uint64_t requests_finished;
    // Of these, cancelled.
    uint64_t requests_cancelled;
    // Of these, failed.
    uint64_t requests_failed;
    // Requests running now.
    uint64_t requests_running;
    // Requests waiting now.
    uint64_t requests_waiting;
    // Steps run.
    uint64_t steps;
    // Prompt tokens that came in.
    uint64_t prompt_tokens;
    // Prompt tokens whose pages were reused instead of computed: the tokens saved.
    uint64_t cached_tokens;
    // Tokens generated.
    uint64_t generated_tokens;
    // Requests that found at least one token of theirs in the cache.
    uint64_t prefix_hits;
    // Times a running request was put aside for lack of pages, to be recomputed later.
    uint64_t preemptions;
    // Pages in the pool.
    uint64_t blocks_total;
    // Pages that hold nothing.
    uint64_t blocks_free;
    // Pages that no request uses and a later one may reuse.
    uint64_t blocks_cached;
    // Pages that running requests use; free + cached + in use = total.
    uint64_t blocks_in_use;
    // Pages that were taken for new content since the engine was made.
    uint64_t blocks_allocated;
    // Times a page was shared instead of computed anew.
    uint64_t blocks_shared;
    // Cached pages that were given up for new content.
    uint64_t blocks_evicted;
    // Bytes of weights as held.
    uint64_t weight_bytes;
    // Bytes of the page pool.
    uint64_t cache_bytes;
    // Most bytes the model's allocator ever held.
    uint64_t peak_bytes;
} quire_statistics;

// What a model is. Set struct_size to sizeof(quire_model_info), then call quire_engine_model_info.
// The strings live as long as the engine.
typedef struct quire_model_info {
    // Size of this struct in bytes; set by the caller.
    size_t struct_size;
    // The architecture's name ("llama"), NUL-terminated.
    const char *architecture;
    // How the weights are stored ("4-bit affine, groups of 32"), NUL-terminated.
    const char *quantization;
    // What the model runs on ("CPU", or the GPU's name), NUL-terminated.
    const char *device;
    // Tokens in the vocabulary.
    uint32_t vocab_size;
    // Longest prompt plus answer in tokens.
    uint32_t max_context;
    // Layers.
    uint32_t layers;
    // Size of the hidden state.
    uint32_t hidden_size;
    // Attention heads.
    uint32_t heads;
    // Key-value heads.
    uint32_t kv_heads;
    // Size of a head.
    uint32_t head_dim;
    // Tokens in one page.
    uint32_t block_tokens;
    // Pages in the pool.
    uint32_t blocks;
    // 1 if the model came with a tokenizer, else 0.
    int32_t has_tokenizer;
    // Bytes of weights as held.
    uint64_t weight_bytes;
} quire_model_info;

// Fills statistics.
//
// Any thread, callbacks too. Fails with QUIRE_INVALID_ARGUMENT or QUIRE_INVALID_STRUCT_SIZE.
quire_status quire_engine_statistics(const quire_engine *engine,
                                     quire_statistics *statistics,
                                     quire_error **error);

// Fills info.
//
// Any thread, callbacks too. Fails with QUIRE_INVALID_ARGUMENT or QUIRE_INVALID_STRUCT_SIZE.
quire_status quire_engine_model_info(const quire_engine *engine,
                                     quire_model_info *info,
                                     quire_error **error);


/* Tokens and text ----------------------------------------------------------------------------------- */

// Turns text into token ids, as submit would. *token_count becomes the number of tokens; the first
// capacity of them are written to tokens, so call once with capacity 0 to learn the number.
//
// add_special is 1 to add what the model wants around a text (such as a begin-of-sequence token), else 0.
//
// Any thread, callbacks too; does not touch the engine's own thread. Fails with QUIRE_INVALID_ARGUMENT,
// QUIRE_INVALID_UTF8 or QUIRE_TOKENIZER_MISSING.
quire_status quire_engine_tokenize(const quire_engine *engine,
                                   const char *text,
                                   size_t text_len,
                                   int32_t add_special,
                                   uint32_t *tokens,
                                   size_t capacity,
                                   size_t *token_count,
                                   quire_error **error);

// Turns token ids into text. *text_len becomes its length in bytes; the first capacity bytes are
// written to text, without a NUL, so call once with capacity 0 to learn the length. Bytes that are not
// UTF-8 come as U+FFFD. Special tokens are left out if skip_special is 1.
//
// Any thread, callbacks too; does not touch the engine's own thread. Fails with QUIRE_INVALID_ARGUMENT
// (also for a token id outside the vocabulary) or QUIRE_TOKENIZER_MISSING.
quire_status quire_engine_detokenize(const quire_engine *engine,
                                     const uint32_t *tokens,
                                     size_t token_count,
                                     int32_t skip_special,
                                     char *text,
                                     size_t capacity,
                                     size_t *text_len,
                                     quire_error **error);

// As quire_engine_detokenize, by the decoder of the tokenizers library that Quire's own stands in for. The text is
// the same and comes many times slower; this is there to check and to measure the other one.
quire_status quire_engine_detokenize_reference(const quire_engine *engine,
                                               const uint32_t *tokens,
                                               size_t token_count,
                                               int32_t skip_special,
                                               char *text,
                                               size_t capacity,
                                               size_t *text_len,
                                               quire_error **error);


/* Streaming detokenizers ---------------------------------------------------------------------------- */

// Turns tokens into text one at a time. Used by one thread at a time.
typedef struct quire_detokenizer quire_detokenizer;

// Makes a detokenizer for the engine's model, at the cost of a few stores. *detokenizer becomes it, to be
// freed with quire_detokenizer_free, before or after the engine. Special tokens leave no text if
// skip_special is 1.
//
// Any thread, callbacks too. Fails with QUIRE_INVALID_ARGUMENT or QUIRE_TOKENIZER_MISSING.
quire_status quire_detokenizer_create(const quire_engine *engine,
                                      int32_t skip_special,
                                      quire_detokenizer **detokenizer,
                                      quire_error **error);

// Takes tokens and gives the text that is certain now: whole characters, *text_len bytes at *text and a
// NUL after them, which live until the next call for this detokenizer. A token that the vocabulary does not
// have leaves none.
//
// All texts, with that of quire_detokenizer_finish, are together what quire_engine_detokenize gives.
//
// One thread at a time. Fails with QUIRE_INVALID_ARGUMENT.
quire_status quire_detokenizer_push(quire_detokenizer *detokenizer,
                                    const uint32_t *tokens,
                                    size_t token_count,
                                    const char **text,
                                    size_t *text_len,
                                    quire_error **error);

// Ends the text and gives what was held back: a character that stayed incomplete is U+FFFD. The next token
// starts a new text. Else as quire_detokenizer_push.
quire_status quire_detokenizer_finish(quire_detokenizer *detokenizer,
                                      const char **text,
                                      size_t *text_len,
                                      quire_error **error);

// Frees a detokenizer. NULL is allowed and does nothing.
void quire_detokenizer_free(quire_detokenizer *detokenizer);


/* The prefix cache on disk -------------------------------------------------------------------------- */

// Writes every cached prefix to a file: its tokens and pages, for an engine of the same model to load later.
// *block_count, unless NULL, becomes the number of pages written. A file that is there already is replaced,
// and only when the new one is complete and on disk. Cache salts are written as hashes.
//
// Any thread; waits until it is done, while requests wait too. Fails with QUIRE_INVALID_ARGUMENT,
// QUIRE_INVALID_UTF8, QUIRE_IO, QUIRE_DEVICE_ERROR or QUIRE_SHUT_DOWN.
quire_status quire_engine_save_cache(const quire_engine *engine,
                                     const char *path,
                                     size_t path_len,
                                     uint64_t *block_count,
                                     quire_error **error);

// Takes the prefixes of a file written by quire_engine_save_cache, as far as there are free pages for them.
// *block_count, unless NULL, becomes the number of pages that came.
//
// Any thread; waits until it is done, while requests wait too. Fails, with nothing changed, with
// QUIRE_INVALID_ARGUMENT, QUIRE_INVALID_UTF8, QUIRE_IO, QUIRE_CACHE_INVALID (damaged, or saved for
// another model, page format or version) or QUIRE_SHUT_DOWN.
quire_status quire_engine_load_cache(const quire_engine *engine,
                                     const char *path,
                                     size_t path_len,
                                     uint64_t *block_count,
                                     quire_error **error);

#ifdef __cplusplus
}
#endif

#endif /* QUIRE_H */
