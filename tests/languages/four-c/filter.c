/* The filter of tests/languages.rs: the same in Rust, JavaScript, Python and C. */
#include "wsgate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *greeting;
static uint32_t first_count;

struct four {
    uint32_t count;
};

static wsgate_string init(wsgate_config *config, wsgate_interest *interest) {
    greeting = wsgate_config_string(config, "greeting", "hello");
    first_count = (uint32_t)wsgate_config_integer(config, "first_count", 0, 0, UINT32_MAX);
    interest->hooks &= WSGATE_FILTER_TYPES_HOOKS_TO_UPSTREAM;
    return (wsgate_string){NULL, 0};
}

static void *four(uint32_t count) {
    struct four *four = malloc(sizeof *four);
    if (four) four->count = count;
    return four;
}

static void *open_connection(const wsgate_handshake *handshake, wsgate_admission *admission, wsgate_refusal *refusal) {
    if (wsgate_header(handshake, "x-refuse")) {
        wsgate_refuse(refusal, 403, "not today 😀");
        wsgate_refusal_header(refusal, "x-why", "four");
        return NULL;
    }
    wsgate_set_header(&admission->client_headers, "x-four", "yes");
    return four(first_count);
}

static void *resume(const wsgate_handshake *handshake, const wsgate_bytes *state, int cause, wsgate_rejection *rejection) {
    (void)handshake, (void)cause, (void)rejection;
    if (!state) return four(first_count);
    char digits[16] = {0};
    memcpy(digits, state->ptr, state->len < sizeof digits ? state->len : sizeof digits - 1);
    return four((uint32_t)strtoul(digits, NULL, 10));
}

static wsgate_verdict reversed(const wsgate_bytes *bytes) {
    wsgate_message message = wsgate_binary(bytes->ptr, bytes->len);
    for (size_t i = 0; i < bytes->len; i++) message.val.binary.ptr[i] = bytes->ptr[bytes->len - 1 - i];
    return wsgate_replace(message);
}

static wsgate_verdict number(long long value) {
    wsgate_message message = {.tag = WSGATE_TEXT};
    message.val.text = wsgate_format("%lld", value);
    return wsgate_reply(message);
}

static wsgate_verdict store(const wsgate_string *text) {
    if (wsgate_equals(text, "hits")) {
        int64_t hits;
        const char *error = wsgate_store_increment("shared", "hits", 1, &hits);
        return error ? wsgate_fail(error) : number(hits);
    }
    uint8_t *value;
    size_t length;
    const char *error = wsgate_store_get(wsgate_equals(text, "read") ? "shared" : "others", "hits", &value, &length);
    if (error) return wsgate_reply(wsgate_text(error));
    wsgate_verdict verdict = wsgate_reply(wsgate_binary(value, length));
    free(value);
    return verdict;
}

/* The object with one member more. */
static wsgate_verdict seen(const wsgate_string *json) {
    size_t end = json->len;
    while (end > 0 && json->ptr[end - 1] != '}') end--;
    if (end == 0) return wsgate_fail("not an object");
    const char *comma = end > 2 ? "," : "";
    size_t length = end + strlen(comma) + strlen("\"seen\":true}");
    char *text = malloc(length);
    if (!text) return wsgate_fail("out of memory");
    memcpy(text, json->ptr, end - 1);
    char *to = text + end - 1;
    memcpy(to, comma, strlen(comma));
    memcpy(to + strlen(comma), "\"seen\":true}", strlen("\"seen\":true}"));
    wsgate_verdict verdict = wsgate_replace(wsgate_text_n(text, length - 1));
    free(text);
    return verdict;
}

static wsgate_verdict command(const struct four *four, const wsgate_string *text) {
    if (wsgate_equals(text, "characters")) return wsgate_reply(wsgate_text("grüße 😀 𝄞"));
    if (wsgate_equals(text, "several")) {
        wsgate_action actions[] = {
            wsgate_to_client(wsgate_text("one")),
            wsgate_to_upstream(wsgate_text("two")),
            wsgate_to_client(wsgate_text("three 😀")),
        };
        return wsgate_act(actions, 3);
    }
    if (wsgate_equals(text, "drop")) return wsgate_drop();
    if (wsgate_equals(text, "bye")) return wsgate_close(4001, "auf Wiedersehen 👋");
    if (wsgate_equals(text, "count")) return number(four->count);
    if (wsgate_equals(text, "fail")) return wsgate_fail("four failed 😀");
    if (wsgate_equals(text, "hits") || wsgate_equals(text, "read") || wsgate_equals(text, "denied")) return store(text);
    if (wsgate_starts_with(text, "{")) return seen(text);
    if (!wsgate_starts_with(text, "greet ")) return wsgate_forward();
    wsgate_message message = {.tag = WSGATE_TEXT};
    message.val.text = wsgate_format("%s, %.*s", greeting, (int)text->len - 6, (const char *)text->ptr + 6);
    return wsgate_replace(message);
}

static wsgate_verdict on_message(void *connection, int direction, const wsgate_message *message) {
    (void)direction;
    struct four *four = connection;
    four->count++;
    return message->tag == WSGATE_BINARY ? reversed(&message->val.binary) : command(four, &message->val.text);
}

static bool save(void *connection, wsgate_bytes *state) {
    const struct four *four = connection;
    wsgate_string text = wsgate_format("%u", four->count);
    *state = (wsgate_bytes){text.ptr, text.len};
    return true;
}

const wsgate_filter wsgate_the_filter = {
    .init = init,
    .open = open_connection,
    .resume = resume,
    .on_message = on_message,
    .save = save,
};
