#include "endpoint.h"

/* A routing text collected for tests. */
typedef struct {
    char *at;
    size_t length;
    size_t capacity;
} collected;

static void collect(void *context, const char *bytes, size_t length)
{
    collected *text = context;
    if (bytes == NULL)
        text->length = 0;
    else
        text->length += brix_text_copy(text->at + text->length, text->capacity - text->length, (brix_text){bytes, length});
}

brix_status brix_scan_body(const char *path, size_t path_length, const char *body, size_t length, size_t chunk,
                           char *model, size_t model_capacity, char *text, size_t text_capacity,
                           brix_scan_result *result)
{
    const brix_endpoint *endpoint = brix_endpoint_find((brix_text){path, path_length});
    collected found = {text, 0, text_capacity};
    brix_scan scan;
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
