#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "module.h"

#define RETRY_MS 100

struct brix_gateway {
    char *path;
    uint32_t requests;
    uint64_t held; /* bytes of bodies at one time */
    _Atomic(brix_reader *) reader; /* NULL until there is a segment */
    _Atomic int64_t next_try_ms;
    _Atomic int told; /* the last status that was logged */
};

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static const char *meaning(brix_status status)
{
    switch (status) {
    case BRIX_OK:
        return "is open";
    case BRIX_MISSING:
        return "is not there yet: requests are answered with 503 until the collector has published it";
    case BRIX_FOREIGN:
        return "is damaged or of an unknown version: requests are answered with 503 until the collector replaces it";
    case BRIX_FULL:
        return "has no free reader slot: requests are answered with 503";
    default:
        return "cannot be opened: requests are answered with 503";
    }
}

/* One line a change, not one a try. */
static void tell(brix_gateway *gateway, brix_status status)
{
    char line[512];
    if (atomic_exchange(&gateway->told, (int)status) == (int)status)
        return;
    int length = snprintf(line, sizeof line, "brixflow: segment %s %s", gateway->path, meaning(status));
    if (length >= (int)sizeof line)
        length = sizeof line - 1;
    envoy_dynamic_module_callback_log(status == BRIX_OK ? ENVOY_LOG_INFO : ENVOY_LOG_WARN,
                                      (envoy_text){line, (size_t)length});
}

/* One thread tries, the others go without. */
static brix_reader *try_open(brix_gateway *gateway)
{
    int64_t now = now_ms(), due = atomic_load(&gateway->next_try_ms);
    brix_reader *reader = NULL;
    if (now < due || !atomic_compare_exchange_strong(&gateway->next_try_ms, &due, INT64_MAX))
        return atomic_load_explicit(&gateway->reader, memory_order_acquire);
    brix_status status = brix_reader_open(gateway->path, gateway->requests, &reader);
    tell(gateway, status);
    if (status == BRIX_OK)
        brix_reader_bound(reader, gateway->held, 0);
    if (status == BRIX_OK)
        atomic_store_explicit(&gateway->reader, reader, memory_order_release);
    else
        atomic_store(&gateway->next_try_ms, now + RETRY_MS);
    return reader;
}

static void tell_of_bad_text(void)
{
    static const char line[] = "brixflow: the configuration must be \"<requests> <bytes> <path of the segment>\"";
    envoy_dynamic_module_callback_log(ENVOY_LOG_WARN, (envoy_text){line, sizeof line - 1});
}

/* The next word as a number above 0. */
static int next_number(brix_text *rest, uint64_t *number)
{
    brix_text word;
    return brix_text_cut(rest, ' ', &word) && brix_text_is_number(word) && (*number = brix_text_number(word)) > 0;
}

static int parse(brix_text text, brix_gateway *gateway, brix_text *path)
{
    brix_text rest = brix_text_trim(text);
    uint64_t requests;
    if (!next_number(&rest, &requests) || requests > 9999999 || !next_number(&rest, &gateway->held) || !rest.at)
        return 0;
    gateway->requests = (uint32_t)requests;
    *path = brix_text_trim(rest);
    return path->length > 0;
}

brix_gateway *brix_gateway_open(brix_text text)
{
    brix_text path = BRIX_NOTHING;
    brix_gateway *gateway = calloc(1, sizeof *gateway);
    if (!gateway)
        return NULL;
    if (parse(text, gateway, &path))
        gateway->path = strndup(path.at, path.length);
    else
        tell_of_bad_text();
    if (!gateway->path) {
        free(gateway);
        return NULL;
    }
    atomic_store(&gateway->told, -1);
    try_open(gateway);
    return gateway;
}

void brix_gateway_close(brix_gateway *gateway)
{
    brix_reader *reader = atomic_load(&gateway->reader);
    if (reader)
        brix_reader_close(reader);
    free(gateway->path);
    free(gateway);
}

brix_flow *brix_gateway_begin(brix_gateway *gateway)
{
    brix_flow *flow = NULL;
    brix_reader *reader = atomic_load_explicit(&gateway->reader, memory_order_acquire);
    if (!reader)
        reader = try_open(gateway);
    if (!reader || brix_flow_begin(reader, NULL, 0, &flow) != BRIX_OK)
        return NULL;
    flow->whole_bodies = flow->holders = 1;
    return flow;
}
