/*
 * answer.c: what an engine answers. The first byte says the status and into what chunks the rest is cut. The body of a
 * success is never changed; any other is one JSON text or goes on as it came.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "brixflow.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
extern const char *const fuzz_seeds[];

const char *const fuzz_seeds[] = {
    "\x08" "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":20,\"total_tokens\":30}}\n\n",
    "\x10{\"usage\":{\"prompt_tokens_details\":{\"x\":[\"}\"]},\"input_tokens\":1,\"output_tokens\":2}}",
    "\x20" "event: response.completed\r\ndata: {\"response\":{\"usage\":{\"input_tokens\":7}}}\r\n\r\ndata: [DONE]\r\n\r\n",
    "\x09{\"error\":{\"message\":\"m \\\" \",\"type\":\"t\",\"param\":null,\"code\":400}}",
    "\x11{\"object\":\"error\",\"message\":\"m\",\"code\":[1,{\"a\":\"}\"}]}",
    "\x03plain \xff text",
    NULL,
};

static brix_reader *reader;
static char output[BRIX_OUTPUT_BYTES];

static void need(int holds)
{
    if (!holds)
        abort();
}

static void make(void)
{
    char path[64];
    brix_limits limits = {2, 4, 8, 1024, 2};
    brix_settings settings = {.default_strategy = {"random", 6}};
    brix_pod pod = {.key = {"a", 1}, .name = {"a", 1}, .address = {"10.0.0.1:8000", 13}, .ready = 1};
    brix_writer *writer;
    brix_origin origin;
    uint32_t index;
    snprintf(path, sizeof path, "/dev/shm/brixflow-fuzz-%d", (int)getpid());
    need(brix_writer_open(path, &limits, &writer, &origin) == BRIX_OK && brix_writer_begin(writer) == BRIX_OK);
    need(brix_writer_settings(writer, &settings) == BRIX_OK && brix_writer_pod(writer, &pod, &index) == BRIX_OK);
    need(brix_writer_model(writer, "m", 1) == BRIX_OK && brix_writer_member(writer, index) == BRIX_OK);
    need(brix_writer_publish(writer) == BRIX_OK);
    brix_writer_close(writer);
    need(brix_reader_open(path, 2, &reader) == BRIX_OK);
    unlink(path);
    strcat(path, ".lock");
    unlink(path);
}

static size_t put(char *to, uint32_t field, const char *from, size_t length)
{
    char *at = to;
    *at++ = (char)(field << 3 | 2);
    for (size_t rest = length; ; rest >>= 7) {
        *at++ = (char)((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
        if (rest <= 0x7f)
            break;
    }
    memcpy(at, from, length);
    return (size_t)(at - to) + length;
}

/* One message: a header of this name and value, or a body with its end. Returns the bytes of the reply. */
static size_t say(brix_flow *flow, uint32_t kind, const char *name, const char *value, size_t length, int end)
{
    static char line[8192], map[8192], content[8192], message[8192];
    size_t size = length, written = 0;
    const char *inner = value;
    if (name) {
        size = put(line, 1, name, strlen(name));
        size += put(line + size, 3, value, length);
        size = put(map, 1, line, size);
        inner = map;
    }
    size = put(content, 1, inner, size);
    if (end) {
        content[size++] = 0x10;
        content[size++] = 1;
    }
    size = put(message, kind, content, size);
    need(brix_flow_message(flow, message, size, output, sizeof output, &written) == BRIX_OK);
    return written;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const statuses[] = {"200", "400", "503", "201", "429", "500", "404", "999"};
    static const char *const asked[] = {"{\"model\":\"m\",\"messages\":[{}]}",
                                        "{\"model\":\"m\",\"messages\":[{}],\"stream\":true}"};
    brix_flow *flow;
    brix_record record;
    if (reader == NULL)
        make();
    if (size == 0 || size > 4096)
        return 0;
    const char *body = asked[data[0] >> 7];
    size_t chunk = (size_t)1 << (data[0] >> 3 & 15), rest = size - 1;
    need(brix_flow_begin(reader, "", 0, &flow) == BRIX_OK);
    say(flow, 2, ":path", "/v1/chat/completions", 20, 0);
    say(flow, 4, NULL, body, strlen(body), 1);
    say(flow, 3, ":status", statuses[data[0] & 7], 3, 0);
    for (const char *at = (const char *)data + 1; ; at += chunk) {
        size_t some = rest < chunk ? rest : chunk;
        rest -= some;
        say(flow, 5, NULL, at, some, rest == 0);
        if (rest == 0)
            break;
    }
    brix_flow_record(flow, &record);
    need(record.outcome == (data[0] & 7 && (data[0] & 7) != 3 ? BRIX_OUTCOME_UPSTREAM_ERROR : BRIX_OUTCOME_OK));
    brix_flow_end(flow, BRIX_END_STREAM);
    return 0;
}
