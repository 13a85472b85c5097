#include "endpoint.h"

/* A routing text collected for tests. */
typedef struct {
    const brix_scan *scan;
    char *at;
    size_t query; /* bytes of it at the front */
    size_t length;
    size_t capacity;
} collected;

static void forget(collected *text)
{
    if (!brix_scan_is_query(text->scan)) {
        text->length = text->query;
        return;
    }
    text->length -= text->query;
    memmove(text->at, text->at + text->query, text->length);
    text->query = 0;
}

static void collect(void *context, const char *bytes, size_t length)
{
    collected *text = context;
    if (bytes == NULL) {
        forget(text);
        return;
    }
    int is_query = brix_scan_is_query(text->scan);
    size_t room = text->capacity - text->length, taken = length < room ? length : room;
    size_t at = is_query ? text->query : text->length;
    memmove(text->at + at + taken, text->at + at, text->length - at);
    memcpy(text->at + at, bytes, taken);
    text->length += taken;
    text->query += is_query ? taken : 0;
}

brix_status brix_scan_body(const char *path, size_t path_length, const char *body, size_t length, size_t chunk,
                           char *model, size_t model_capacity, char *text, size_t text_capacity,
                           brix_scan_result *result)
{
    const brix_endpoint *endpoint = brix_endpoint_find((brix_text){path, path_length});
    brix_scan scan;
    collected found = {&scan, text, 0, 0, text_capacity};
    if (!endpoint)
        return BRIX_BAD;
    brix_scan_begin(&scan, endpoint->text, model, model_capacity, collect, &found);
    size_t step = chunk > 0 ? chunk : length;
    for (size_t at = 0; at < length; at += step)
        brix_scan_feed(&scan, body + at, length - at < step ? length - at : step);
    result->valid = (uint32_t)brix_scan_is_complete(&scan);
    for (int i = 0; i < BRIX_FIELDS; i++) {
        result->kinds[i] = scan.found[i].kind;
        result->elements[i] = scan.found[i].elements;
    }
    result->model_length = (uint32_t)(scan.model_length < model_capacity ? scan.model_length : model_capacity);
    result->text_length = (uint32_t)found.length;
    return BRIX_OK;
}
