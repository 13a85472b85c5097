/* body.c: the body scanner. The first byte says the path and into what chunks the rest is cut: the cuts change nothing. */
#include <stdlib.h>
#include <string.h>

#include "brixflow.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
extern const char *const fuzz_seeds[];

const char *const fuzz_seeds[] = {
    "\x01{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\\u00e9\\ud83d\\ude00\"}],\"stream\":true}",
    "\x13{\"model\":\"m\",\"prompt\":[[1,2],[3]],\"max_tokens\":-1.5e+9,\"user\":\"u\"}",
    "\x22{\"input\":[{\"content\":[{\"type\":\"text\"}]}],\"model\":\"\xc3\xa9\"}",
    "\x34{\"stream_options\":{\"include_usage\":true},\"query\":\"q\",\"documents\":[\"a\",{\"text\":\"b\"}]}",
    "\x05 {\"model\":null,\"messages\":[],\"stream\":false,\"model\":\"again\"} ",
    NULL,
};

static const char *const PATHS[] = {"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/rerank",
                                    "/v1/embeddings", "/v1/classify", "/v1/messages", "/v1/images/generations"};

typedef struct {
    char model[24], text[256];
    brix_scan_result result;
} scanned;

static void scan(const char *path, const uint8_t *data, size_t size, size_t chunk, scanned *found)
{
    memset(found, 0, sizeof *found);
    if (brix_scan_body(path, strlen(path), (const char *)data, size, chunk, found->model, sizeof found->model,
                       found->text, sizeof found->text, &found->result) != BRIX_OK)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static scanned whole, cut;
    if (size == 0)
        return 0;
    const char *path = PATHS[data[0] >> 4 & 7];
    scan(path, data + 1, size - 1, 0, &whole);
    scan(path, data + 1, size - 1, 1 + (data[0] & 15), &cut);
    if (whole.result.valid != cut.result.valid)
        abort();
    if (whole.result.valid && memcmp(&whole, &cut, sizeof whole) != 0)
        abort();
    return 0;
}
