/*
 * envoy_side.h: Envoy's side of the module's interface, for envoy_host.c: one stream, and the callbacks on it.
 *
 *   stream: headers of the side that is under way | bodies: received, buffered, answer | what became of it
 *
 * Each callback aborts when the module does what Envoy forbids.
 */
#ifndef ENVOY_SIDE_H
#define ENVOY_SIDE_H

#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "module.h"

#define LINES 32

typedef struct stream stream;

struct stream {
    const void *inside; /* what the module made for it */
    char *names[LINES], *values[LINES];
    size_t lines;
    char *body[3];
    size_t length[3];
    int replied, gone, due;
    int asked, held; /* a question is out, a request waits for its answer */
    stream *again; /* the one that took over */
};

static void must(int holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "broken: %s\n", what);
    abort();
}

static char *copy_of(const char *at, size_t length)
{
    char *copy = malloc(length ? length : 1);
    memcpy(copy, at, length);
    return copy;
}

/* --- Envoy's side: headers ------------------------------------------------------------------ */

static void forget_header(stream *s, size_t line)
{
    free(s->names[line]);
    free(s->values[line]);
    s->lines--;
    s->names[line] = s->names[s->lines];
    s->values[line] = s->values[s->lines];
}

static void put_header(stream *s, const char *name, const char *value)
{
    must(s->lines < LINES, "no more headers than the module was given and sets");
    s->names[s->lines] = strdup(name);
    s->values[s->lines++] = strdup(value);
}

bool envoy_dynamic_module_callback_http_get_header(void *host, int map, envoy_text name, envoy_text *value,
                                                   size_t index, size_t *count)
{
    stream *s = host;
    must(!s->gone && map != ENVOY_REQUEST_TRAILERS && index == 0 && count == NULL, "single headers are read once");
    for (size_t i = 0; i < s->lines; i++) {
        if (strlen(s->names[i]) != name.length || memcmp(s->names[i], name.at, name.length) != 0)
            continue;
        *value = (envoy_text){s->values[i], strlen(s->values[i])};
        return true;
    }
    *value = (envoy_text){NULL, 0};
    return false;
}

size_t envoy_dynamic_module_callback_http_get_headers_size(void *host, int map)
{
    stream *s = host;
    must(!s->gone && map != ENVOY_REQUEST_TRAILERS, "headers of a living stream");
    return s->lines;
}

bool envoy_dynamic_module_callback_http_get_headers(void *host, int map, envoy_header *headers)
{
    stream *s = host;
    (void)map;
    for (size_t i = 0; i < s->lines; i++)
        headers[i] = (envoy_header){s->names[i], strlen(s->names[i]), s->values[i], strlen(s->values[i])};
    return true;
}

bool envoy_dynamic_module_callback_http_add_header(void *host, int map, envoy_text name, envoy_text value)
{
    envoy_text there;
    must(!envoy_dynamic_module_callback_http_get_header(host, map, name, &there, 0, NULL), "a header is added once");
    char *words = strndup(name.at, name.length), *meaning = strndup(value.at, value.length);
    put_header(host, words, meaning);
    free(words);
    free(meaning);
    return true;
}

bool envoy_dynamic_module_callback_http_set_header(void *host, int map, envoy_text name, envoy_text value)
{
    stream *s = host;
    must(!s->gone && (map == ENVOY_REQUEST_HEADERS || map == ENVOY_RESPONSE_HEADERS), "headers of a living stream");
    char *words = strndup(name.at, name.length), *meaning = value.length ? strndup(value.at, value.length) : NULL;
    for (size_t i = s->lines; i > 0; i--)
        if (strcasecmp(s->names[i - 1], words) == 0)
            forget_header(s, i - 1);
    if (meaning)
        put_header(s, words, meaning);
    free(words);
    free(meaning);
    return true;
}

/* --- Envoy's side: bodies ------------------------------------------------------------------- */

size_t envoy_dynamic_module_callback_http_get_body_size(void *host, int body)
{
    return ((stream *)host)->length[body];
}

size_t envoy_dynamic_module_callback_http_get_body_chunks_size(void *host, int body)
{
    return ((stream *)host)->length[body] ? 2 : 0;
}

bool envoy_dynamic_module_callback_http_get_body_chunks(void *host, int body, envoy_text *chunks)
{
    stream *s = host;
    size_t half = s->length[body] / 2;
    chunks[0] = (envoy_text){s->body[body], half};
    chunks[1] = (envoy_text){s->body[body] + half, s->length[body] - half};
    return s->length[body] > 0;
}

/* Envoy adds slices, it never moves what is there: the first bytes stay readable until the hook returns. */
static char *kept[4096];
static size_t kept_count;

static void keep(char *old)
{
    must(kept_count < 4096, "not so many edits in one hook");
    kept[kept_count++] = old;
}

bool envoy_dynamic_module_callback_http_append_body(void *host, int body, envoy_text data)
{
    stream *s = host;
    must(!s->gone, "bodies of a living stream");
    char *longer = malloc(s->length[body] + data.length);
    memcpy(longer, s->body[body], s->length[body]);
    memcpy(longer + s->length[body], data.at, data.length);
    keep(s->body[body]);
    s->body[body] = longer;
    s->length[body] += data.length;
    return true;
}

bool envoy_dynamic_module_callback_http_drain_body(void *host, int body, size_t bytes)
{
    stream *s = host;
    must(!s->gone && bytes <= s->length[body], "no more is drained than there is");
    memmove(s->body[body], s->body[body] + bytes, s->length[body] - bytes);
    s->length[body] -= bytes;
    return true;
}

/* --- Envoy's side: later -------------------------------------------------------------------- */

void *envoy_dynamic_module_callback_http_filter_scheduler_new(void *host)
{
    must(!((stream *)host)->gone, "a living stream asks to be called again");
    return host;
}

void envoy_dynamic_module_callback_http_filter_scheduler_commit(void *scheduler, uint64_t event)
{
    must(event == 0, "there is one event");
    ((stream *)scheduler)->due = 1;
}

void envoy_dynamic_module_callback_http_filter_scheduler_delete(void *scheduler)
{
    must(scheduler != NULL, "a scheduler is given back");
}

/* --- Envoy's side: the rest ------------------------------------------------------------------ */

void envoy_dynamic_module_callback_http_send_response(void *host, uint32_t status, envoy_header *headers,
                                                      size_t count, envoy_text body, envoy_text details)
{
    stream *s = host;
    must(!s->gone && !s->replied, "one reply a stream");
    must(status >= 400 && status <= 599 && body.length > 0 && body.at[0] == '{', "replies are errors with an envelope");
    must(details.length == 7 && memcmp(details.at, "gateway", 7) == 0, "replies say that they are the gateway's");
    for (size_t i = 0; i < count; i++)
        must(headers[i].name_length > 0, "headers of replies have names");
    s->replied = 1;
}

void envoy_dynamic_module_callback_http_clear_route_cache(void *host)
{
    must(!((stream *)host)->gone, "routes of a living stream");
}

bool envoy_dynamic_module_callback_http_set_filter_state_bytes(void *host, envoy_text key, envoy_text value)
{
    must(!((stream *)host)->gone && key.length > 9 && value.length, "what is noted is of a living stream");
    must(memcmp(key.at, "brixflow.", 9) == 0, "what is noted bears our name");
    return true;
}

int envoy_dynamic_module_callback_http_filter_http_callout(void *host, uint64_t *id, envoy_text cluster,
                                                           envoy_header *headers, size_t count, envoy_text body,
                                                           uint64_t timeout_ms)
{
    stream *s = host;
    must(!s->gone && !s->asked && cluster.length > 0 && timeout_ms == 50, "one question at a time, with a deadline");
    must(count >= 3 && headers[0].name[0] == ':' && body.length > 0 && body.at[0] == '{', "a request with a body");
    *id = 7;
    if (body.length % 7 == 0)
        return 1; /* no such cluster */
    s->asked = 1;
    return 0;
}

void envoy_dynamic_module_callback_http_filter_continue_decoding(void *host)
{
    stream *s = host;
    must(!s->gone && !s->replied && s->held, "only what was held back goes on");
    s->held = 0;
}

void envoy_dynamic_module_callback_log(int level, envoy_text message)
{
    must(level >= ENVOY_LOG_INFO && message.length > 0, "log lines have words");
}

#endif
