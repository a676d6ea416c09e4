/* Strings, messages, verdicts, handshakes and what the gateway offers. */
#include "wsgate.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FORMATTED_BYTES = 1024 };

/* Memory that ran out ends the instance, as the gateway's memory_limit means it. */
static void *allocated(size_t size) {
    void *memory = malloc(size ? size : 1);
    if (!memory) __builtin_trap();
    return memory;
}

wsgate_string wsgate_copy_n(const void *bytes, size_t length) {
    wsgate_string copy = {allocated(length), length};
    if (length) memcpy(copy.ptr, bytes, length);
    return copy;
}

wsgate_string wsgate_copy(const char *text) { return wsgate_copy_n(text, strlen(text)); }

static wsgate_string formatted(const char *format, va_list arguments) {
    char text[FORMATTED_BYTES];
    int wanted = vsnprintf(text, sizeof text, format, arguments);
    size_t length = wanted < 0 ? 0 : (size_t)wanted < sizeof text ? (size_t)wanted : sizeof text - 1;
    /* Not within a character. */
    if (length == sizeof text - 1) {
        size_t start = length;
        while (start > 0 && ((unsigned char)text[start - 1] & 0xc0) == 0x80) start--;
        length = start > 0 ? start - 1 : 0;
    }
    return wsgate_copy_n(text, length);
}

wsgate_string wsgate_format(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    wsgate_string text = formatted(format, arguments);
    va_end(arguments);
    return text;
}

bool wsgate_equals(const wsgate_string *text, const char *other) {
    return text->len == strlen(other) && memcmp(text->ptr, other, text->len) == 0;
}

bool wsgate_starts_with(const wsgate_string *text, const char *prefix) {
    size_t length = strlen(prefix);
    return text->len >= length && memcmp(text->ptr, prefix, length) == 0;
}

/* What only reads a string takes it as it is. */
static wsgate_string borrowed(const char *text) { return (wsgate_string){(uint8_t *)text, strlen(text)}; }

/* ---- Messages, verdicts and actions. */

wsgate_message wsgate_text_n(const void *utf8, size_t length) {
    wsgate_message message = {.tag = WSGATE_TEXT};
    message.val.text = wsgate_copy_n(utf8, length);
    return message;
}

wsgate_message wsgate_text(const char *text) { return wsgate_text_n(text, strlen(text)); }

wsgate_message wsgate_binary(const void *bytes, size_t length) {
    wsgate_string copy = wsgate_copy_n(bytes, length);
    wsgate_message message = {.tag = WSGATE_BINARY};
    message.val.binary = (wsgate_bytes){copy.ptr, copy.len};
    return message;
}

wsgate_bytes wsgate_payload(const wsgate_message *message) {
    if (message->tag == WSGATE_BINARY) return message->val.binary;
    return (wsgate_bytes){message->val.text.ptr, message->val.text.len};
}

static wsgate_verdict verdict(uint8_t tag) {
    wsgate_verdict result = {.is_err = false};
    result.val.ok.tag = tag;
    return result;
}

wsgate_verdict wsgate_forward(void) { return verdict(WSGATE_FILTER_TYPES_VERDICT_FORWARD); }

wsgate_verdict wsgate_drop(void) { return verdict(WSGATE_FILTER_TYPES_VERDICT_DROP); }

wsgate_verdict wsgate_replace(wsgate_message message) {
    wsgate_verdict result = verdict(WSGATE_FILTER_TYPES_VERDICT_REPLACE);
    result.val.ok.val.replace = message;
    return result;
}

wsgate_verdict wsgate_reply(wsgate_message message) {
    wsgate_verdict result = verdict(WSGATE_FILTER_TYPES_VERDICT_REPLY);
    result.val.ok.val.reply = message;
    return result;
}

wsgate_verdict wsgate_close(uint16_t code, const char *reason) {
    wsgate_verdict result = verdict(WSGATE_FILTER_TYPES_VERDICT_CLOSE);
    result.val.ok.val.close = (wsgate_close_info){code, wsgate_copy(reason)};
    return result;
}

wsgate_verdict wsgate_route(const char *upstream) {
    wsgate_verdict result = verdict(WSGATE_FILTER_TYPES_VERDICT_ROUTE);
    result.val.ok.val.route = wsgate_copy(upstream);
    return result;
}

wsgate_verdict wsgate_act(const wsgate_action *actions, size_t count) {
    wsgate_verdict result = verdict(WSGATE_FILTER_TYPES_VERDICT_ACT);
    wsgate_string copy = wsgate_copy_n(actions, count * sizeof *actions);
    result.val.ok.val.act.ptr = (wsgate_action *)copy.ptr;
    result.val.ok.val.act.len = count;
    return result;
}

wsgate_verdict wsgate_fail_with(wsgate_string text) {
    wsgate_verdict result = {.is_err = true};
    result.val.err = text;
    return result;
}

wsgate_verdict wsgate_fail(const char *text) { return wsgate_fail_with(wsgate_copy(text)); }

wsgate_action wsgate_to_client(wsgate_message message) {
    wsgate_action action = {.tag = WSGATE_FILTER_TYPES_ACTION_TO_CLIENT};
    action.val.to_client = message;
    return action;
}

wsgate_action wsgate_to_upstream(wsgate_message message) {
    wsgate_action action = {.tag = WSGATE_FILTER_TYPES_ACTION_TO_UPSTREAM};
    action.val.to_upstream = message;
    return action;
}

wsgate_action wsgate_close_action(uint16_t code, const char *reason) {
    wsgate_action action = {.tag = WSGATE_FILTER_TYPES_ACTION_CLOSE};
    action.val.close = (wsgate_close_info){code, wsgate_copy(reason)};
    return action;
}

wsgate_actions_result wsgate_actions(const wsgate_action *actions, size_t count) {
    wsgate_actions_result result = {.is_err = false};
    result.val.ok.ptr = (wsgate_action *)wsgate_copy_n(actions, count * sizeof *actions).ptr;
    result.val.ok.len = count;
    return result;
}

wsgate_actions_result wsgate_actions_fail(const char *text) {
    wsgate_actions_result result = {.is_err = true};
    result.val.err = wsgate_copy(text);
    return result;
}

/* ---- Handshakes. */

const wsgate_bytes *wsgate_header(const wsgate_handshake *handshake, const char *name) {
    for (size_t i = 0; i < handshake->headers.len; i++) {
        if (wsgate_equals(&handshake->headers.ptr[i].name, name)) return &handshake->headers.ptr[i].value;
    }
    return NULL;
}

const wsgate_string *wsgate_parameter(const wsgate_handshake *handshake, const char *name) {
    for (size_t i = 0; i < handshake->parameters.len; i++) {
        if (wsgate_equals(&handshake->parameters.ptr[i].f0, name)) return &handshake->parameters.ptr[i].f1;
    }
    return NULL;
}

/* One more element at the end of a list. */
static void *grown(void *list, size_t length, size_t element) {
    void *larger = realloc(list, (length + 1) * element);
    if (!larger) __builtin_trap();
    return larger;
}

static void push_header(wsgate_filter_types_list_header_t *list, const char *name, const char *value) {
    wsgate_string text = wsgate_copy(value);
    list->ptr = grown(list->ptr, list->len, sizeof *list->ptr);
    list->ptr[list->len++] = (wsgate_filter_types_header_t){wsgate_copy(name), {text.ptr, text.len}};
}

void wsgate_set_header(wsgate_header_edits *edits, const char *name, const char *value) {
    push_header(&edits->set, name, value);
}

void wsgate_append_header(wsgate_header_edits *edits, const char *name, const char *value) {
    push_header(&edits->append, name, value);
}

void wsgate_remove_header(wsgate_header_edits *edits, const char *name) {
    edits->remove.ptr = grown(edits->remove.ptr, edits->remove.len, sizeof *edits->remove.ptr);
    edits->remove.ptr[edits->remove.len++] = wsgate_copy(name);
}

void wsgate_tag(wsgate_admission *admission, const char *name, const char *value) {
    bindings_list_tuple2_string_string_t *tags = &admission->tags;
    tags->ptr = grown(tags->ptr, tags->len, sizeof *tags->ptr);
    tags->ptr[tags->len++] = (bindings_tuple2_string_string_t){wsgate_copy(name), wsgate_copy(value)};
}

void wsgate_refuse(wsgate_refusal *refusal, uint16_t status, const char *body) {
    wsgate_string text = wsgate_copy(body);
    free(refusal->body.len ? refusal->body.ptr : NULL);
    refusal->status = status;
    refusal->body = (wsgate_bytes){text.ptr, text.len};
}

void wsgate_refusal_header(wsgate_refusal *refusal, const char *name, const char *value) {
    push_header(&refusal->headers, name, value);
}

/* ---- What the gateway offers. */

void wsgate_log(int level, const char *format, ...) {
    if (!wsgate_filter_logging_enabled((uint8_t)level)) return;
    va_list arguments;
    va_start(arguments, format);
    wsgate_string text = formatted(format, arguments);
    va_end(arguments);
    bindings_list_tuple2_string_string_t none = {NULL, 0};
    wsgate_filter_logging_log((uint8_t)level, &text, &none);
    free(text.ptr);
}

void wsgate_reason(const char *label) {
    wsgate_string text = borrowed(label);
    wsgate_filter_logging_reason(&text);
}

/* The word of the contract. The text of the error, which is for the log, goes there. */
static const char *store_error(const char *store, wsgate_filter_key_value_error_t *error) {
    static const char *const words[] = {"denied", "invalid", "too-large", "unavailable"};
    const char *word = words[error->tag];
    if (error->tag == WSGATE_FILTER_KEY_VALUE_ERROR_INVALID || error->tag == WSGATE_FILTER_KEY_VALUE_ERROR_UNAVAILABLE) {
        wsgate_log(WSGATE_WARN, "store %s: %s: %.*s", store, word, (int)error->val.invalid.len, error->val.invalid.ptr);
    }
    wsgate_filter_key_value_error_free(error);
    return word;
}

const char *wsgate_store_increment(const char *store, const char *key, int64_t by, int64_t *value) {
    wsgate_string name = borrowed(store), of = borrowed(key);
    wsgate_filter_key_value_error_t error;
    if (wsgate_filter_key_value_increment(&name, &of, by, NULL, value, &error)) return NULL;
    return store_error(store, &error);
}

const char *wsgate_store_get(const char *store, const char *key, uint8_t **value, size_t *length) {
    wsgate_string name = borrowed(store), of = borrowed(key);
    wsgate_filter_key_value_option_entry_t entry;
    wsgate_filter_key_value_error_t error;
    *value = NULL;
    *length = 0;
    if (!wsgate_filter_key_value_get(&name, &of, &entry, &error)) return store_error(store, &error);
    if (!entry.is_some) return NULL;
    /* An empty value is not NULL. */
    *value = entry.val.value.len ? entry.val.value.ptr : allocated(1);
    *length = entry.val.value.len;
    return NULL;
}

const char *wsgate_store_set(const char *store, const char *key, const void *value, size_t length, uint64_t ttl_ms) {
    wsgate_string name = borrowed(store), of = borrowed(key);
    wsgate_bytes bytes = {(uint8_t *)value, length};
    uint64_t version;
    wsgate_filter_key_value_error_t error;
    bool done = wsgate_filter_key_value_set(&name, &of, &bytes, ttl_ms ? &ttl_ms : NULL, &version, &error);
    return done ? NULL : store_error(store, &error);
}

const char *wsgate_store_delete(const char *store, const char *key) {
    wsgate_string name = borrowed(store), of = borrowed(key);
    wsgate_filter_key_value_error_t error;
    return wsgate_filter_key_value_delete(&name, &of, &error) ? NULL : store_error(store, &error);
}

static const char *messaging_error(const wsgate_filter_messaging_error_t *error) {
    static const char *const words[] = {"denied", "not-found", "queue-full", "too-large"};
    return words[error->tag];
}

const char *wsgate_publish(const char *topic, wsgate_message message, const wsgate_string *exclude) {
    wsgate_string name = borrowed(topic);
    wsgate_filter_messaging_error_t error;
    bool done = wsgate_filter_messaging_publish(&name, &message, (wsgate_string *)exclude, &error);
    wsgate_filter_types_message_free(&message);
    return done ? NULL : messaging_error(&error);
}

const char *wsgate_subscribe(const wsgate_string *connection, const char *topic) {
    wsgate_string name = borrowed(topic), to = *connection;
    wsgate_filter_messaging_error_t error;
    return wsgate_filter_messaging_subscribe(&to, &name, &error) ? NULL : messaging_error(&error);
}
