/*
 * fuzz.c: the kernel under the sanitizers. Builds a segment, then drives flows, scanner, selector, strategy,
 * metrics parser and error normaliser with mutated messages for as many seconds as it is told.
 *
 *   fuzz PATH SECONDS SEED
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "flow.h"
#include "selector.h"
#include "strategy.h"
#include "upstream_error.h"

static uint64_t state;

static uint32_t dice(uint32_t bound)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 33) % bound);
}

static const char *const SEEDS[] = {
    "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\\u00e9\\ud83d\\ude00\"}],\"stream\":true}",
    "{\"error\":{\"message\":\"x\",\"type\":\"t\",\"param\":null,\"code\":400}}",
    "{\"object\":\"error\",\"message\":\"m\",\"code\":[1,{\"a\":\"}\"}]}",
    "data: {\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":20,\"x\":{\"y\":[1,\"]\"]}}}\n\n",
    "a in (b, c), d!=e, !f, g notin (h), i",
    "least-request:2,random:0, pd:1",
    "/v1/chat/completions?x=y",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "Bearer key",
    "429",
    "vllm:num_requests_running{engine=\"0\",model_name=\"m\"} 2.0\n# TYPE x gauge\nvllm:request_queue_time_seconds_sum 1e3 17\n",
    "sglang:per_stage_req_latency_seconds_count{stage=\"prefill_waiting\",model_name=\"a\\\"b\"} +Inf\nkv_cache_utilization NaN",
    "MTAuMC4wLjI6ODAwMA==",
};

/* A seed text, mutated, in memory of exactly its size so that every step beyond it is seen. */
static brix_text mutated(void)
{
    const char *seed = SEEDS[dice(sizeof SEEDS / sizeof SEEDS[0])];
    size_t length = strlen(seed);
    if (dice(4) == 0)
        length = dice((uint32_t)length + 1);
    char *copy = malloc(length ? length : 1);
    memcpy(copy, seed, length);
    for (uint32_t i = dice(4); i > 0 && length > 0; i--)
        copy[dice((uint32_t)length)] = dice(2) ? "\"\\{}[],:u0\xff\x80 "[dice(13)] : (char)dice(256);
    return (brix_text){copy, length};
}

static char *put(char *at, uint32_t field, brix_text bytes)
{
    *at++ = (char)(field << 3 | 2);
    uint64_t length = bytes.length;
    do {
        *at++ = (char)((length & 0x7f) | (length > 0x7f ? 0x80 : 0));
        length >>= 7;
    } while (length);
    memcpy(at, bytes.at, bytes.length);
    return at + bytes.length;
}

static brix_text nested(char *buffer, uint32_t field, brix_text inner)
{
    return (brix_text){buffer, (size_t)(put(buffer, field, inner) - buffer)};
}

static const char *const NAMES[] = {":path", ":method", ":status", "routing-strategy", "external-filter", "traceparent",
                                    "authorization", "target-pod", "x-error-x", "content-encoding", "x-session-id",
                                    "x-aibrix-session-key", "user"};

static brix_text header_map(char *buffer)
{
    char line[4096], *at = buffer;
    for (uint32_t i = dice(8); i > 0; i--) {
        brix_text value = mutated();
        const char *name = NAMES[dice(13)];
        char *end = put(line, 1, (brix_text){name, strlen(name)});
        if (strcmp(name, ":path") == 0 && dice(3))
            end = put(end, 3, BRIX_LITERAL("/v1/chat/completions"));
        else
            end = put(end, 3, value);
        at = put(at, 1, (brix_text){line, (size_t)(end - line)});
        free((void *)(uintptr_t)value.at);
    }
    return (brix_text){buffer, (size_t)(at - buffer)};
}

/* The collector's answer, sensible or not. */
static void answer(brix_flow *flow, char *output)
{
    brix_text value = mutated();
    char *words[] = {"A 7", "U", "R 10", "T 1", "S", "N", "L", "D", "r", "u"}, *word = words[dice(10)];
    size_t written;
    if (dice(2))
        brix_flow_answer(flow, word, strlen(word), output, BRIX_OUTPUT_BYTES, &written);
    else
        brix_flow_answer(flow, value.at, value.length, output, BRIX_OUTPUT_BYTES, &written);
    free((void *)(uintptr_t)value.at);
}

/* Send one well-formed message: headers (with a status when it is not 0) or a body. */
static void send(brix_flow *flow, uint32_t kind, brix_text name, brix_text value, char *output)
{
    char line[1024], map[2048], content[2048], message[4096];
    brix_text inner = value;
    size_t written;
    if (kind <= 3) {
        char *end = put(put(line, 1, name), 3, value);
        inner = nested(map, 1, (brix_text){line, (size_t)(end - line)});
    }
    brix_text whole = nested(message, kind, nested(content, 1, inner));
    if (kind == 4) {
        whole = nested(content, 1, inner);
        content[whole.length++] = 0x10;
        content[whole.length++] = 1;
        whole = nested(message, kind, whole);
    }
    brix_status status = brix_flow_message(flow, whole.at, whole.length, output, BRIX_OUTPUT_BYTES, &written);
    if (status != BRIX_OK && status != BRIX_ASKS)
        abort();
    if (status == BRIX_ASKS)
        answer(flow, output);
}

/* The way to an answer, so that what follows meets every stage. */
static void lead_in(brix_flow *flow, char *output)
{
    static const char *const statuses[] = {"200", "400", "503", "204"};
    send(flow, 2, BRIX_LITERAL(":path"), BRIX_LITERAL("/v1/chat/completions"), output);
    send(flow, 4, BRIX_NOTHING, BRIX_LITERAL("{\"model\":\"m\",\"messages\":[{}]}"), output);
    if (dice(4))
        send(flow, 3, BRIX_LITERAL(":status"), (brix_text){statuses[dice(4)], 3}, output);
}

static void drive(brix_reader *reader, char *output)
{
    brix_flow *flow;
    if (brix_flow_begin(reader, "", 0, &flow) != BRIX_OK)
        abort();
    if (dice(2))
        lead_in(flow, output);
    for (uint32_t events = 1 + dice(8); events > 0; events--) {
        char map[16384], content[32768], message[65536];
        uint32_t kind = 2 + dice(6);
        brix_text value = mutated(), inner;
        if (kind <= 3)
            inner = nested(content, 1, header_map(map));
        else
            inner = nested(content, 1, value);
        if (dice(2)) {
            content[inner.length++] = kind <= 3 ? 0x18 : 0x10;
            content[inner.length++] = 1;
        }
        brix_text whole = nested(message, kind, inner);
        char *exact = malloc(whole.length + 1);
        size_t written, kept = dice(20) == 0 ? dice((uint32_t)whole.length + 1) : whole.length;
        memcpy(exact, whole.at, whole.length);
        char *tight = realloc(exact, kept ? kept : 1);
        for (uint32_t i = dice(10) == 0; i > 0 && kept; i--)
            tight[dice((uint32_t)kept)] ^= (char)(1 << dice(8));
        if (brix_flow_message(flow, tight, kept, output, BRIX_OUTPUT_BYTES, &written) == BRIX_ASKS && dice(8))
            answer(flow, output);
        free(tight);
        free((void *)(uintptr_t)value.at);
    }
    brix_flow_end(flow, dice(2) ? BRIX_END_STREAM : BRIX_END_SHUTDOWN);
}

/* A page of a pod, as mutated as everything else; and a decision on what it said. */
static void scrape(brix_writer *writer, brix_reader *reader)
{
    static const char *const strategies[] = {"least-kv-cache", "least-latency:2,throughput,least-request:3",
                                             "session-affinity,least-busy-time", "vtc-basic"};
    brix_text page = mutated(), id = mutated();
    brix_sample sample;
    brix_decision decision;
    const char *strategy = strategies[dice(4)];
    brix_scrape given = {.page = page, .model = {"m", 1}, .rank = (int32_t)dice(3) - 1,
                         .now = 1000000000u + dice(2000000000u), .local = dice(4)};
    brix_request request = {.model = {"m", 1}, .strategy = {strategy, strlen(strategy)}, .session_id = id,
                            .session_key = page, .user = id, .prompt_tokens = dice(1000), .random = state,
                            .now = given.now};
    brix_users users;
    brix_writer_users(writer, given.now, &users);
    brix_writer_scrape(writer, dice(6), &given);
    brix_writer_sample(writer, dice(6), given.now, &sample);
    brix_reader_decide(reader, &request, &decision);
    brix_reader_finish(reader, &decision);
    free((void *)(uintptr_t)page.at);
    free((void *)(uintptr_t)id.at);
}

static void pieces(char *scratch_bytes)
{
    brix_text text = mutated(), labels = mutated();
    brix_selector selector;
    brix_plan plan;
    brix_scan_result result;
    char model[8], routing[16];
    brix_out scratch = {scratch_bytes, 0, dice(400), 0};
    if (brix_selector_parse(text, &selector))
        brix_selector_matches(&selector, labels);
    brix_plan_parse(text, &plan);
    brix_upstream_error(text, 400, &scratch);
    brix_scan_body("/v1/responses", 13, text.at, text.length, dice(9), model, sizeof model, routing, sizeof routing,
                   &result);
    free((void *)(uintptr_t)text.at);
    free((void *)(uintptr_t)labels.at);
}

static void publish(brix_writer *writer, uint32_t pods)
{
    brix_settings settings = {.default_strategy = BRIX_LITERAL("least-request"), .users = dice(16), .pod_in_flight = 3};
    uint32_t index;
    if (brix_writer_begin(writer) != BRIX_OK || brix_writer_settings(writer, &settings) != BRIX_OK)
        abort();
    for (uint32_t i = 0; i < pods; i++) {
        char key = (char)('a' + i);
        brix_pod pod = {.key = {&key, 1}, .name = {&key, 1}, .address = BRIX_LITERAL("10.0.0.1:8000"),
                        .labels = {"a\0b\0", 4}, .ready = 1};
        if (brix_writer_pod(writer, &pod, &index) != BRIX_OK)
            abort();
    }
    if (brix_writer_model(writer, "m", 1) != BRIX_OK)
        abort();
    for (uint32_t i = 0; i < pods; i++)
        brix_writer_member(writer, i);
    if (brix_writer_publish(writer) != BRIX_OK)
        abort();
}

static int settled(brix_writer *writer, uint64_t flows)
{
    brix_totals totals;
    brix_model_totals model;
    uint64_t endings = 0;
    brix_writer_totals(writer, &totals);
    for (uint32_t i = 0; brix_writer_model_totals(writer, i, &model) == BRIX_OK; i++) {
        for (uint32_t line = 0; line < BRIX_ENDINGS; line++)
            endings += model.endings[line];
        if (model.in_flight != 0)
            return 0;
    }
    return endings == flows && totals.requests == flows && totals.in_flight == 0 && totals.anomalies == 0;
}

int main(int count, char **arguments)
{
    static char output[BRIX_OUTPUT_BYTES];
    brix_limits limits = {4, 8, 16, 4096, 2};
    brix_writer *writer;
    brix_reader *reader;
    brix_origin origin;
    brix_swept swept;
    uint64_t flows = 0;
    if (count != 4 || brix_writer_open(arguments[1], &limits, &writer, &origin) != BRIX_OK)
        return 2;
    publish(writer, 2);
    if (brix_reader_open(arguments[1], 4, &reader) != BRIX_OK)
        return 2;
    state = strtoull(arguments[3], NULL, 10);
    for (time_t end = time(NULL) + atol(arguments[2]); time(NULL) < end;) {
        for (int i = 0; i < 200; i++, flows++) {
            drive(reader, output);
            pieces(output);
            scrape(writer, reader);
        }
        publish(writer, 1 + dice(5));
        brix_writer_sweep(writer, &swept);
    }
    int sound = settled(writer, flows);
    printf("%llu flows, %s\n", (unsigned long long)flows, sound ? "every one finished once" : "counts do not match");
    brix_reader_close(reader);
    brix_writer_close(writer);
    return sound ? 0 : 1;
}
