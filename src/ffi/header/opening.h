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
