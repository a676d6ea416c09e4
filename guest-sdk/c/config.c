/* A reader of one JSON object: the configuration of a filter. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_KEYS = 64, DEEPEST = 64 };

typedef struct {
    char *key;
    wsgate_string json;
    bool known;
} member;

struct wsgate_config {
    member members[MOST_KEYS];
    size_t count;
    wsgate_string asked[MOST_KEYS];
    size_t asked_count;
    wsgate_string error;
};

typedef struct {
    const char *at, *end;
} cursor;

static void skip_space(cursor *c) {
    while (c->at < c->end && strchr(" \t\r\n", *c->at)) c->at++;
}

static bool take(cursor *c, char wanted) {
    skip_space(c);
    if (c->at == c->end || *c->at != wanted) return false;
    c->at++;
    return true;
}

static int hex4(const char *digits) {
    int value = 0;
    for (int i = 0; i < 4; i++) {
        const char *set = "0123456789abcdef", *found = strchr(set, digits[i] | 0x20);
        if (!digits[i] || !found) return -1;
        value = value * 16 + (int)(found - set);
    }
    return value;
}

static char *put_utf8(char *to, unsigned c) {
    if (c < 0x80) {
        *to++ = (char)c;
    } else if (c < 0x800) {
        *to++ = (char)(0xc0 | c >> 6);
        *to++ = (char)(0x80 | (c & 0x3f));
    } else {
        if (c < 0x10000) {
            *to++ = (char)(0xe0 | c >> 12);
        } else {
            *to++ = (char)(0xf0 | c >> 18);
            *to++ = (char)(0x80 | (c >> 12 & 0x3f));
        }
        *to++ = (char)(0x80 | (c >> 6 & 0x3f));
        *to++ = (char)(0x80 | (c & 0x3f));
    }
    return to;
}

/* The escape behind a backslash; false where it is none. */
static bool take_escape(cursor *c, char **to) {
    const char *names = "\"\\/bfnrt", *meant = "\"\\/\b\f\n\r\t";
    if (c->at == c->end) return false;
    const char *found = *c->at ? strchr(names, *c->at) : NULL;
    if (found) {
        c->at++;
        *(*to)++ = meant[found - names];
        return true;
    }
    if (*c->at != 'u' || c->end - c->at < 5) return false;
    int first = hex4(c->at + 1);
    if (first < 0) return false;
    c->at += 5;
    unsigned code = (unsigned)first;
    if (code >= 0xd800 && code < 0xdc00 && c->end - c->at >= 6 && c->at[0] == '\\' && c->at[1] == 'u') {
        int second = hex4(c->at + 2);
        if (second >= 0xdc00 && second < 0xe000) {
            c->at += 6;
            code = 0x10000 + ((code & 0x3ff) << 10) + ((unsigned)second & 0x3ff);
        }
    }
    *to = put_utf8(*to, code >= 0xd800 && code < 0xe000 ? 0xfffd : code);
    return true;
}

/* A string, decoded and terminated; NULL where there is none. An escape is never shorter than what it stands for. */
static char *take_string(cursor *c) {
    if (!take(c, '"')) return NULL;
    char *text = malloc((size_t)(c->end - c->at) + 1), *to = text;
    if (!text) __builtin_trap();
    while (c->at < c->end && *c->at != '"') {
        bool control = (unsigned char)*c->at < 0x20;
        if (*c->at != '\\' && !control) {
            *to++ = *c->at++;
        } else if (control || (c->at++, !take_escape(c, &to))) {
            break;
        }
    }
    if (c->at < c->end && *c->at == '"') {
        c->at++;
        *to = 0;
        return text;
    }
    free(text);
    return NULL;
}

static bool skip_value(cursor *c, int depth) {
    skip_space(c);
    if (c->at == c->end || depth > DEEPEST) return false;
    if (*c->at == '"') {
        char *text = take_string(c);
        free(text);
        return text != NULL;
    }
    if (*c->at != '{' && *c->at != '[') {
        const char *start = c->at;
        while (c->at < c->end && !strchr(",]} \t\r\n", *c->at)) c->at++;
        return c->at > start;
    }
    char close = *c->at == '{' ? '}' : ']';
    c->at++;
    if (take(c, close)) return true;
    do {
        if (close == '}') {
            char *key = take_string(c);
            free(key);
            if (!key || !take(c, ':')) return false;
        }
        if (!skip_value(c, depth + 1)) return false;
    } while (take(c, ','));
    return take(c, close);
}

static void wrong(wsgate_config *config, wsgate_string error) {
    if (config->error.len == 0) config->error = error;
    else free(error.ptr);
}

wsgate_config *wsgate_config_parse(wsgate_string json) {
    wsgate_config *config = calloc(1, sizeof *config);
    if (!config) __builtin_trap();
    cursor c = {(const char *)json.ptr, (const char *)json.ptr + json.len};
    bool whole = take(&c, '{');
    while (whole && !take(&c, '}') && config->count < MOST_KEYS) {
        member *found = &config->members[config->count];
        found->key = take_string(&c);
        whole = found->key && take(&c, ':');
        skip_space(&c);
        const char *start = c.at;
        whole = whole && skip_value(&c, 0);
        found->json = (wsgate_string){(uint8_t *)start, (size_t)(c.at - start)};
        if (found->key) config->count++;
        if (!take(&c, ',') && (c.at == c.end || *c.at != '}')) whole = false;
    }
    if (!whole) wrong(config, wsgate_copy("the configuration is not a JSON object"));
    return config;
}

static member *find(wsgate_config *config, const char *key) {
    if (config->asked_count < MOST_KEYS) config->asked[config->asked_count++] = (wsgate_string){(uint8_t *)key, strlen(key)};
    for (size_t i = 0; i < config->count; i++) {
        if (strcmp(config->members[i].key, key) == 0) {
            config->members[i].known = true;
            return &config->members[i];
        }
    }
    return NULL;
}

static void expected(wsgate_config *config, const member *found, const char *what) {
    int length = found->json.len > 60 ? 60 : (int)found->json.len;
    wrong(config, wsgate_format("%s: expected %s, got %.*s", found->key, what, length, (const char *)found->json.ptr));
}

static const char *string_of(wsgate_config *config, member *found) {
    cursor c = {(const char *)found->json.ptr, (const char *)found->json.ptr + found->json.len};
    const char *text = take_string(&c);
    if (!text) expected(config, found, "a string");
    return text;
}

const char *wsgate_config_string(wsgate_config *config, const char *key, const char *otherwise) {
    member *found = find(config, key);
    const char *text = found ? string_of(config, found) : NULL;
    return text ? text : otherwise;
}

const char *wsgate_config_required_string(wsgate_config *config, const char *key) {
    member *found = find(config, key);
    if (!found) wrong(config, wsgate_format("%s: missing", key));
    const char *text = found ? string_of(config, found) : NULL;
    return text ? text : "";
}

int64_t wsgate_config_integer(wsgate_config *config, const char *key, int64_t otherwise, int64_t least, int64_t most) {
    member *found = find(config, key);
    if (!found) return otherwise;
    char digits[24] = {0};
    char *end = digits;
    if (found->json.len < sizeof digits) memcpy(digits, found->json.ptr, found->json.len);
    long long value = strtoll(digits, &end, 10);
    if (end != digits && *end == 0 && value >= least && value <= most) return value;
    char what[80];
    snprintf(what, sizeof what, "a whole number from %lld to %lld", (long long)least, (long long)most);
    expected(config, found, what);
    return otherwise;
}

bool wsgate_config_boolean(wsgate_config *config, const char *key, bool otherwise) {
    member *found = find(config, key);
    if (!found) return otherwise;
    if (wsgate_equals(&found->json, "true")) return true;
    if (!wsgate_equals(&found->json, "false")) expected(config, found, "true or false");
    return false;
}

bool wsgate_config_json(wsgate_config *config, const char *key, wsgate_string *json) {
    member *found = find(config, key);
    if (found) *json = found->json;
    return found != NULL;
}

void wsgate_config_wrong(wsgate_config *config, const char *key, const char *text) {
    wrong(config, wsgate_format("%s: %s", key, text));
}

wsgate_string wsgate_config_finish(wsgate_config *config) {
    char list[256] = "there are none";
    size_t length = 0;
    for (size_t i = 0; i < config->asked_count && length < sizeof list; i++) {
        length += (size_t)snprintf(list + length, sizeof list - length, "%s`%.*s`", i ? ", " : "expected ",
                                   (int)config->asked[i].len, (const char *)config->asked[i].ptr);
    }
    for (size_t i = 0; i < config->count; i++) {
        if (!config->members[i].known) wrong(config, wsgate_format("%s: unknown key, %s", config->members[i].key, list));
        free(config->members[i].key);
    }
    wsgate_string error = config->error;
    free(config);
    return error;
}
