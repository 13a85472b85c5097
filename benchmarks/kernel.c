/*
 * kernel.c: what the kernel costs by itself, without a host.
 *
 *   kernel PATH MESSAGES     MESSAGES: a file of ext_proc messages, each behind its length in decimal
 *
 * Prints one figure a line: name TAB nanoseconds (or bytes per nanosecond for the scanner).
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "plain.h"
#include "scan.h"

#define PODS 256
#define SAMPLES 20000
#define BATCH 8

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* Of this thread alone: what others do to a shared machine is no cost of a decision. */
static uint64_t spent(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void need(brix_status status)
{
    if (status == BRIX_OK)
        return;
    fprintf(stderr, "status %d\n", (int)status);
    exit(1);
}

static int by_size(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static void publish(brix_writer *writer)
{
    brix_settings settings = {.default_strategy = {"least-request", 13}};
    uint32_t index;
    need(brix_writer_begin(writer));
    need(brix_writer_settings(writer, &settings));
    for (uint32_t i = 0; i < PODS; i++) {
        char key[16], address[24];
        int named = snprintf(key, sizeof key, "pod-%u", i);
        int placed = snprintf(address, sizeof address, "10.86.%u.%u:8000", i / 250, i % 250 + 1);
        brix_pod pod = {.key = {key, (size_t)named}, .name = {key, (size_t)named}, .address = {address, (size_t)placed},
                        .labels = {"tier\0a\0", 7}, .ready = 1};
        need(brix_writer_pod(writer, &pod, &index));
    }
    need(brix_writer_model(writer, "llama2-7b", 9));
    for (uint32_t i = 0; i < PODS; i++)
        need(brix_writer_member(writer, i));
    need(brix_writer_publish(writer));
}

/* Every pod tells of itself, as a scrape would have left it. */
static void gauge(brix_writer *writer)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    brix_sample sample;
    for (uint32_t i = 0; i < PODS; i++) {
        for (uint32_t line = 0; line < BRIX_GAUGES; line++)
            sample.values[line] = (double)((i * 7919 + line * 104729) % 97) / 97;
        sample.values[BRIX_GAUGE_LOCAL] = 0;
        sample.values[BRIX_GAUGE_REMOTE] = i % 8 == 0; /* other nodes have something on one pod in eight */
        sample.values[BRIX_GAUGE_RUNNING] = i % 8 == 0;
        sample.values[BRIX_GAUGE_TAKEN] = (double)time.tv_sec + (double)time.tv_nsec / 1e9;
        need(brix_writer_gauges(writer, i, &sample));
    }
}

static void measure_decide(brix_reader *reader, const char *name, brix_text strategy, brix_text filter)
{
    static double samples[SAMPLES];
    brix_request request = {.model = {"llama2-7b", 9}, .strategy = strategy, .filter = filter};
    brix_decision decision;
    for (int i = 0; i < SAMPLES; i++) {
        uint64_t from = spent();
        for (int j = 0; j < BATCH; j++) {
            request.random = (uint64_t)i * BATCH + (uint64_t)j;
            need(brix_reader_decide(reader, &request, &decision));
            brix_reader_finish(reader, &decision);
        }
        samples[i] = (double)(spent() - from) / BATCH;
    }
    qsort(samples, SAMPLES, sizeof samples[0], by_size);
    printf("decide and finish, 256 pods, %s, p50\t%.0f\n", name, samples[SAMPLES / 2]);
    printf("decide and finish, 256 pods, %s, p99\t%.0f\n", name, samples[SAMPLES * 99 / 100]);
}

static size_t read_messages(const char *path, char **messages, size_t *lengths)
{
    FILE *file = fopen(path, "rb");
    size_t count = 0;
    while (file && count < 8 && fscanf(file, "%zu%*c", &lengths[count]) == 1) {
        messages[count] = malloc(lengths[count] + 1);
        if (fread(messages[count], 1, lengths[count], file) != lengths[count])
            exit(1);
        count++;
    }
    if (file)
        fclose(file);
    return count;
}

static void pass(brix_reader *reader, char **messages, const size_t *lengths, size_t count)
{
    static char output[BRIX_OUTPUT_BYTES];
    size_t written;
    brix_flow *flow;
    need(brix_flow_begin(reader, "", 0, &flow));
    for (size_t i = 0; i < count; i++)
        need(brix_flow_message(flow, messages[i], lengths[i], output, sizeof output, &written));
    brix_flow_end(flow, BRIX_END_STREAM);
}

static void measure_round(brix_reader *reader, const char *path)
{
    static double samples[SAMPLES];
    char *messages[8];
    size_t lengths[8], count = read_messages(path, messages, lengths);
    for (int i = 0; i < SAMPLES; i++) {
        uint64_t from = now();
        for (int j = 0; j < BATCH; j++)
            pass(reader, messages, lengths, count);
        samples[i] = (double)(now() - from) / BATCH;
    }
    qsort(samples, SAMPLES, sizeof samples[0], by_size);
    printf("one request, all %zu messages, 1 KB body, p50\t%.0f\n", count, samples[SAMPLES / 2]);
    printf("one message of it, mean of p50\t%.0f\n", samples[SAMPLES / 2] / (double)count);
    for (size_t i = 0; i < count; i++)
        free(messages[i]);
}

/* Not to be inlined: the compiler would see that each round does the same. */
__attribute__((noinline)) static const char *scalar(const char *at, const char *end)
{
    __asm__ volatile("" : "+r"(at));
    return brix_plain_scalar(at, end);
}

static void measure_scan(size_t size)
{
    static const char head[] = "{\"model\":\"llama2-7b\",\"messages\":[{\"role\":\"user\",\"content\":\"";
    static const char words[] = "plain words of a prompt as people write them, ";
    char *body = malloc(size + 1), model[64];
    size_t at = sizeof head - 1;
    memcpy(body, head, at);
    for (; at + 4 < size; at++)
        body[at] = words[at % (sizeof words - 1)];
    memcpy(body + at, "\"}]}", 4);
    uint64_t from = now();
    int rounds = (int)(400000000u / size);
    for (int i = 0; i < rounds; i++) {
        brix_scan scan;
        brix_scan_begin(&scan, BRIX_TEXT_NONE, model, sizeof model, NULL, NULL);
        brix_scan_feed(&scan, body, at + 4);
        if (!brix_scan_is_complete(&scan))
            exit(1);
    }
    printf("body scanner, %zu KB\t%.2f\n", size / 1024, (double)rounds * (double)(at + 4) / (double)(now() - from));
    from = now();
    for (int i = 0; i < rounds / 4; i++)
        if (scalar(body + sizeof head, body + at) != body + at)
            exit(1);
    printf("scalar reference of its loop, %zu KB\t%.2f\n", size / 1024,
           (double)(rounds / 4) * (double)(at - sizeof head) / (double)(now() - from));
    free(body);
}

int main(int count, char **arguments)
{
    brix_limits limits = {16, 512, 1024, 1 << 18, 8};
    brix_writer *writer;
    brix_reader *reader;
    brix_origin origin;
    if (count != 3)
        return 2;
    need(brix_writer_open(arguments[1], &limits, &writer, &origin));
    publish(writer);
    need(brix_reader_open(arguments[1], 64, &reader));
    gauge(writer);
    measure_decide(reader, "random", (brix_text){"random", 6}, (brix_text){"", 0});
    measure_decide(reader, "least-request", (brix_text){"", 0}, (brix_text){"", 0});
    gauge(writer);
    measure_decide(reader, "power-of-two", (brix_text){"power-of-two", 12}, (brix_text){"", 0});
    measure_decide(reader, "session-affinity", (brix_text){"session-affinity", 16}, (brix_text){"", 0});
    measure_decide(reader, "least-kv-cache", (brix_text){"least-kv-cache", 14}, (brix_text){"", 0});
    gauge(writer);
    measure_decide(reader, "least-latency", (brix_text){"least-latency", 13}, (brix_text){"", 0});
    gauge(writer);
    static const char three[] = "least-request:2,least-kv-cache:1,throughput:1";
    measure_decide(reader, "a list of three", (brix_text){three, sizeof three - 1}, (brix_text){"", 0});
    measure_decide(reader, "least-request with a filter", (brix_text){"", 0}, (brix_text){"tier in (a,b)", 13});
    measure_round(reader, arguments[2]);
    measure_scan(16 * 1024);
    brix_reader_close(reader);
    brix_writer_close(writer);
    return 0;
}
