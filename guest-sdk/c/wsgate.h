/* What filters in C are written with, on top of the generated bindings.
 *
 * A filter defines one `const wsgate_filter wsgate_the_filter`. Every function but `open` may be NULL, and then is not called.
 * What a function is given belongs to the gateway and is freed after the call; what it returns is copied by the functions that
 * make it, or was allocated with malloc. A connection is whatever `open` returns. */
#ifndef WSGATE_H
#define WSGATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "generated/bindings.h"

typedef bindings_string_t wsgate_string;
typedef bindings_list_u8_t wsgate_bytes;
typedef wsgate_filter_types_message_t wsgate_message;
typedef wsgate_filter_types_handshake_t wsgate_handshake;
typedef wsgate_filter_types_identity_t wsgate_identity;
typedef wsgate_filter_types_close_info_t wsgate_close_info;
typedef wsgate_filter_types_action_t wsgate_action;
typedef wsgate_filter_types_interest_t wsgate_interest;
typedef wsgate_filter_types_header_edits_t wsgate_header_edits;
typedef wsgate_filter_types_refusal_t wsgate_refusal;
typedef exports_wsgate_filter_handler_rejection_t wsgate_rejection;
/* A verdict, or an error: wsgate_forward(), …, wsgate_fail(). */
typedef exports_wsgate_filter_handler_result_verdict_string_t wsgate_verdict;
/* Things to do, or an error: wsgate_actions(), wsgate_actions_fail(). */
typedef exports_wsgate_filter_handler_result_list_action_string_t wsgate_actions_result;

enum { WSGATE_TO_UPSTREAM = 0, WSGATE_TO_CLIENT = 1 };
enum { WSGATE_TEXT = 0, WSGATE_BINARY = 1 };
enum { WSGATE_RELOAD = 0, WSGATE_FAULT = 1, WSGATE_ADDED = 2, WSGATE_ROLLBACK = 3 };
enum { WSGATE_TRACE, WSGATE_DEBUG, WSGATE_INFO, WSGATE_WARN, WSGATE_ERROR };

/* ---- What a filter defines. */

typedef struct wsgate_config wsgate_config;

/* How a connection is let in. All of it may stay as it is given. */
typedef struct {
    wsgate_header_edits upstream_headers;
    wsgate_header_edits client_headers;
    bindings_option_string_t subprotocol;
    bindings_option_string_t upstream;
    exports_wsgate_filter_handler_option_interest_t interest;
    bindings_list_tuple2_string_string_t tags;
} wsgate_admission;

typedef struct {
    /* Once for each instance. `interest` comes with the hooks that are not NULL; narrow it here. What `config` finds wrong
     * is reported when this returns. Returns an error of its own, as wsgate_copy makes it, or an empty string. */
    wsgate_string (*init)(wsgate_config *config, wsgate_interest *interest);
    /* Returns the connection, which must not be NULL, or NULL with `refusal` filled in (status 500 is preset). */
    void *(*open)(const wsgate_handshake *handshake, wsgate_admission *admission, wsgate_refusal *refusal);
    /* Takes over a connection that is open already. `state` is NULL where there is none. NULL: `open` is called instead.
     * Returns NULL with `rejection` filled in to stay with the old generation (which is preset) or to close. */
    void *(*resume)(const wsgate_handshake *handshake, const wsgate_bytes *state, int cause, wsgate_rejection *rejection);
    wsgate_verdict (*on_message)(void *connection, int direction, const wsgate_message *message);
    wsgate_verdict (*on_delivery)(void *connection, const wsgate_string *topic, const wsgate_message *message);
    wsgate_actions_result (*on_tick)(void *connection);
    wsgate_actions_result (*on_identity)(void *connection, const wsgate_identity *identity);
    void (*on_close)(void *connection, int by, const wsgate_close_info *info);
    /* State for `resume` of the next generation; false for none. */
    bool (*save)(void *connection, wsgate_bytes *state);
    /* Frees a connection; NULL: free(). */
    void (*drop)(void *connection);
} wsgate_filter;

extern const wsgate_filter wsgate_the_filter;

/* ---- Strings. They are UTF-8 and not terminated by a zero. */

wsgate_string wsgate_copy(const char *text);
wsgate_string wsgate_copy_n(const void *bytes, size_t length);
/* As printf. The result is never longer than 1,023 bytes. */
wsgate_string wsgate_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool wsgate_equals(const wsgate_string *text, const char *other);
bool wsgate_starts_with(const wsgate_string *text, const char *prefix);

/* ---- Messages, verdicts and actions. The texts are copied. */

wsgate_message wsgate_text(const char *text);
wsgate_message wsgate_text_n(const void *utf8, size_t length);
wsgate_message wsgate_binary(const void *bytes, size_t length);
/* The payload of either kind. */
wsgate_bytes wsgate_payload(const wsgate_message *message);

wsgate_verdict wsgate_forward(void);
wsgate_verdict wsgate_drop(void);
wsgate_verdict wsgate_replace(wsgate_message message);
wsgate_verdict wsgate_reply(wsgate_message message);
wsgate_verdict wsgate_close(uint16_t code, const char *reason);
wsgate_verdict wsgate_route(const char *upstream);
wsgate_verdict wsgate_act(const wsgate_action *actions, size_t count);
/* The call failed: the filter's failure_policy decides about the connection, and the text goes to the log. */
wsgate_verdict wsgate_fail(const char *text);
wsgate_verdict wsgate_fail_with(wsgate_string text);

wsgate_action wsgate_to_client(wsgate_message message);
wsgate_action wsgate_to_upstream(wsgate_message message);
wsgate_action wsgate_close_action(uint16_t code, const char *reason);
wsgate_actions_result wsgate_actions(const wsgate_action *actions, size_t count);
wsgate_actions_result wsgate_actions_fail(const char *text);

/* ---- Handshakes. */

/* The value of the first header of this name, which is in lower case; NULL where there is none. */
const wsgate_bytes *wsgate_header(const wsgate_handshake *handshake, const char *name);
/* What the part {name} of the route's path matched; NULL where there is none. */
const wsgate_string *wsgate_parameter(const wsgate_handshake *handshake, const char *name);
void wsgate_set_header(wsgate_header_edits *edits, const char *name, const char *value);
void wsgate_append_header(wsgate_header_edits *edits, const char *name, const char *value);
void wsgate_remove_header(wsgate_header_edits *edits, const char *name);
void wsgate_tag(wsgate_admission *admission, const char *name, const char *value);
void wsgate_refuse(wsgate_refusal *refusal, uint16_t status, const char *body);
void wsgate_refusal_header(wsgate_refusal *refusal, const char *name, const char *value);

/* ---- Configuration. Each function notes the key as known; the first error, which names its key, makes `init` fail, and so
 * does a key that was never asked for. */

/* Terminated by a zero; lives as long as the instance. */
const char *wsgate_config_string(wsgate_config *config, const char *key, const char *otherwise);
int64_t wsgate_config_integer(wsgate_config *config, const char *key, int64_t otherwise, int64_t least, int64_t most);
bool wsgate_config_boolean(wsgate_config *config, const char *key, bool otherwise);
/* The same without a default: the key has to be there. */
const char *wsgate_config_required_string(wsgate_config *config, const char *key);
/* The JSON of a key, for what these do not read; false where it is absent. */
bool wsgate_config_json(wsgate_config *config, const char *key, wsgate_string *json);
/* Notes an error of one's own with a key. */
void wsgate_config_wrong(wsgate_config *config, const char *key, const char *text);

/* ---- What the gateway offers. The rest is in generated/bindings.h: wsgate_filter_messaging_*, wsgate_filter_metrics_*, … */

void wsgate_log(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));
void wsgate_reason(const char *label);

/* NULL, or the contract's word for why a call of a store failed, such as "denied". */
const char *wsgate_store_increment(const char *store, const char *key, int64_t by, int64_t *value);
/* `value` is NULL where the key is absent; free() it. */
const char *wsgate_store_get(const char *store, const char *key, uint8_t **value, size_t *length);
/* `ttl_ms` 0: for good. */
const char *wsgate_store_set(const char *store, const char *key, const void *value, size_t length, uint64_t ttl_ms);
const char *wsgate_store_delete(const char *store, const char *key);
/* NULL, or why publishing failed. `exclude` may be NULL. The message is freed. */
const char *wsgate_publish(const char *topic, wsgate_message message, const wsgate_string *exclude);
const char *wsgate_subscribe(const wsgate_string *connection, const char *topic);

#endif
