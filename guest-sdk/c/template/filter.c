/* Puts `replacement` for `word` in what clients send. */
#include "wsgate.h"

#include <stdlib.h>
#include <string.h>

static const char *word;
static const char *replacement;

/* One connection. */
struct words {
    unsigned replaced;
};

static wsgate_string init(wsgate_config *config, wsgate_interest *interest) {
    word = wsgate_config_string(config, "word", "teh");
    replacement = wsgate_config_string(config, "replacement", "the");
    if (!*word) wsgate_config_wrong(config, "word", "must not be empty");
    interest->hooks &= WSGATE_FILTER_TYPES_HOOKS_TO_UPSTREAM;
    interest->kinds = WSGATE_FILTER_TYPES_KINDS_TEXT;
    return (wsgate_string){NULL, 0};
}

static void *words(unsigned replaced) {
    struct words *words = malloc(sizeof *words);
    if (words) words->replaced = replaced;
    return words;
}

static void *open_connection(const wsgate_handshake *handshake, wsgate_admission *admission, wsgate_refusal *refusal) {
    (void)admission;
    if (handshake->query.is_some && wsgate_equals(&handshake->query.val, "token=")) {
        wsgate_refuse(refusal, 401, "{\"error\":\"who are you?\"}");
        wsgate_refusal_header(refusal, "content-type", "application/json");
        return NULL;
    }
    return words(0);
}

static wsgate_verdict on_message(void *connection, int direction, const wsgate_message *message) {
    (void)direction;
    struct words *words = connection;
    const wsgate_string *text = &message->val.text;
    if (wsgate_equals(text, "how many?")) {
        wsgate_message answer = {.tag = WSGATE_TEXT};
        answer.val.text = wsgate_format("{\"replaced\":%u}", words->replaced);
        return wsgate_reply(answer);
    }
    size_t from = strlen(word), to = strlen(replacement), length = 0;
    /* Each byte becomes at most as many as the replacement has. */
    char *mended = malloc(text->len * (to + 1) + 1);
    if (!mended) return wsgate_fail("out of memory");
    unsigned found = 0;
    for (size_t i = 0; i < text->len;) {
        if (text->len - i >= from && memcmp(text->ptr + i, word, from) == 0) {
            memcpy(mended + length, replacement, to);
            length += to;
            i += from;
            found++;
        } else {
            mended[length++] = (char)text->ptr[i++];
        }
    }
    words->replaced += found;
    wsgate_verdict verdict = found ? wsgate_replace(wsgate_text_n(mended, length)) : wsgate_forward();
    free(mended);
    return verdict;
}

/* What a connection has counted outlives every reload of this filter. */
static bool save(void *connection, wsgate_bytes *state) {
    wsgate_string text = wsgate_format("%u", ((struct words *)connection)->replaced);
    *state = (wsgate_bytes){text.ptr, text.len};
    return true;
}

static void *resume(const wsgate_handshake *handshake, const wsgate_bytes *state, int cause, wsgate_rejection *rejection) {
    (void)handshake, (void)cause, (void)rejection;
    char digits[16] = {0};
    if (state) memcpy(digits, state->ptr, state->len < sizeof digits ? state->len : sizeof digits - 1);
    return words((unsigned)strtoul(digits, NULL, 10));
}

const wsgate_filter wsgate_the_filter = {
    .init = init,
    .open = open_connection,
    .resume = resume,
    .on_message = on_message,
    .save = save,
};
