/*
 * threads.c: writer and readers as threads over one mapping, under ThreadSanitizer.
 *
 *   threads PATH SECONDS        linked with -Wl,--wrap=mmap,--wrap=munmap
 *
 * The wrapped mmap gives every opener of one file the same addresses, as ThreadSanitizer sees a race only
 * between accesses to one address. One thread publishes, sweeps and now and then replaces the segment;
 * the others decide and drive requests. At the end nothing is in flight and nothing was miscounted.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "brixflow.h"

#define READERS 3
#define FILES 4096

void *__real_mmap(void *address, size_t length, int protection, int flags, int file, off_t offset);
void *__wrap_mmap(void *address, size_t length, int protection, int flags, int file, off_t offset);
int __wrap_munmap(void *address, size_t length);

static struct {
    ino_t file;
    void *base;
} mapped[FILES];
static int mappings;
static pthread_mutex_t mapping = PTHREAD_MUTEX_INITIALIZER;

void *__wrap_mmap(void *address, size_t length, int protection, int flags, int file, off_t offset)
{
    struct stat facts;
    if (file < 0 || fstat(file, &facts) < 0)
        return __real_mmap(address, length, protection, flags, file, offset);
    pthread_mutex_lock(&mapping);
    int at = 0;
    while (at < mappings && mapped[at].file != facts.st_ino)
        at++;
    if (at == FILES)
        abort();
    if (at == mappings) {
        mapped[at].file = facts.st_ino;
        mapped[at].base = __real_mmap(address, length, protection, flags, file, offset);
        mappings++;
    }
    void *base = mapped[at].base;
    pthread_mutex_unlock(&mapping);
    return base;
}

/* Others may still look through it. */
int __wrap_munmap(void *address, size_t length)
{
    (void)address;
    (void)length;
    return 0;
}

static const char *path;
static time_t end;
static brix_reader *shared;

static void need(brix_status status)
{
    if (status != BRIX_OK)
        abort();
}

static void publish(brix_writer *writer, uint32_t round)
{
    brix_settings settings = {.default_strategy = {"least-request", 13}, .api_key = {"", 0},
                              .users = BRIX_USERS_KNOWN, .pod_in_flight = 1000, .model_in_flight = 1000};
    brix_profile profile = {.name = {"p", 1}, .is_default = 1, .requests_per_second = 1u << 31};
    uint32_t index, pods = 1 + round % 5;
    brix_status status = brix_writer_begin(writer);
    if (status == BRIX_BUSY)
        return;
    need(status);
    need(brix_writer_settings(writer, &settings));
    for (uint32_t i = 0; i < pods; i++) {
        char key[8];
        size_t length = (size_t)snprintf(key, sizeof key, "p%u", (round + i) % 40);
        brix_pod pod = {.key = {key, length}, .name = {key, length}, .address = {key, length},
                        .labels = {"a\0b\0", 4}, .ready = 1};
        if (brix_writer_pod(writer, &pod, &index) != BRIX_OK)
            return;
    }
    need(brix_writer_model(writer, "m", 1));
    need(brix_writer_profiles(writer, (brix_text){"", 0}, &profile, 1));
    for (uint32_t i = 0; i < pods; i++)
        need(brix_writer_member(writer, i));
    need(brix_writer_publish(writer));
}

/* What the pods say of themselves, beside the readers. */
static void gauge(brix_writer *writer, uint32_t round)
{
    brix_sample sample;
    for (uint32_t i = 0; i < BRIX_GAUGES; i++)
        sample.values[i] = round % 7;
    sample.values[BRIX_GAUGE_TAKEN] = 1;
    for (uint32_t i = 0; brix_writer_gauges(writer, i, &sample) == BRIX_OK; i++)
        need(brix_writer_sample(writer, i, 1500000000u, &sample));
}

/* Users come and go beside the readers, and so do names that nobody has. */
static void limit(brix_writer *writer, uint32_t round)
{
    char name[16];
    uint64_t key;
    uint32_t index = 0;
    brix_owed owed;
    brix_user_record user = {.exists = 1, .rpm = 1u << 31, .tpm = 1u << 31}, nobody = {0};
    if (round % 5 == 0)
        brix_writer_users_begin(writer);
    need(brix_writer_user_limits(writer, (brix_text){"ada", 3}, &user, 0, &key));
    for (uint32_t i = 0; i < 50; i++) {
        size_t length = (size_t)snprintf(name, sizeof name, "n%u", round * 50 + i);
        need(brix_writer_user_limits(writer, (brix_text){name, length}, i % 25 ? &nobody : &user, 0, &key));
    }
    if (round % 5 == 0)
        brix_writer_users_end(writer);
    while (brix_writer_owed(writer, &index, 0, &owed) == BRIX_OK)
        need(owed.tokens > 0 ? BRIX_OK : BRIX_BAD);
}

static void decide(brix_reader *reader, uint64_t random)
{
    static const char *const strategies[] = {"least-request", "least-kv-cache", "least-request:2,least-latency",
                                             "vtc-basic"};
    static const char *const users[] = {"ada", "bob", "", "eve"};
    const char *strategy = strategies[random >> 40 & 3], *user = users[random >> 42 & 3];
    brix_request request = {.model = {"m", 1}, .strategy = {strategy, strlen(strategy)}, .filter = {"a=b", 3},
                            .user = {user, strlen(user)}, .prompt_tokens = random & 255, .random = random,
                            .now = 2000000000u + (random & 0xffffffffu)};
    brix_decision decision;
    need(brix_reader_decide(reader, &request, &decision));
    if (decision.verdict != BRIX_CHOSEN || decision.pod_name_length != decision.address_length ||
        memcmp(decision.pod_name, decision.address, decision.address_length) != 0)
        abort();
    brix_reader_finish(reader, &decision);
}

static void request(brix_reader *reader)
{
    static const char headers[] = "\x12\x2f\x0a\x2d\x0a\x1e\x0a\x05:path\x1a\x15/v1/chat/completions/"
                                  "\x0a\x0b\x0a\x04user\x1a\x03" "ada";
    static const char body[] = "\x22\x24\x0a\x20{\"model\":\"m\",\"messages\":[{},{}]}\x10\x01";
    static _Thread_local char output[BRIX_OUTPUT_BYTES];
    brix_flow *flow;
    size_t written;
    if (brix_flow_begin(reader, "", 0, &flow) != BRIX_OK)
        return;
    need(brix_flow_message(flow, headers, sizeof headers - 1, output, sizeof output, &written));
    brix_status status = brix_flow_message(flow, body, sizeof body - 1, output, sizeof output, &written);
    if (status == BRIX_ASKS)
        status = brix_flow_answer(flow, "L", 1, output, sizeof output, &written);
    need(status);
    brix_record record;
    brix_flow_record(flow, &record);
    if (record.pod.length == 0)
        abort();
    brix_flow_end(flow, BRIX_END_STREAM);
}

static void *read_along(void *argument)
{
    uint64_t random = (uint64_t)(uintptr_t)argument;
    while (time(NULL) < end)
        for (int i = 0; i < 50; i++) {
            decide(shared, random += 0x9e3779b97f4a7c15u);
            request(shared);
        }
    return NULL;
}

static brix_writer *open_writer(uint32_t round)
{
    brix_limits limits = {4 + round % 3, 64, 64, 8192, 4};
    brix_writer *writer;
    brix_origin origin;
    need(brix_writer_open(path, &limits, &writer, &origin));
    return writer;
}

int main(int count, char **arguments)
{
    pthread_t readers[READERS];
    brix_swept swept;
    brix_totals totals;
    if (count != 3)
        return 2;
    path = arguments[1];
    end = time(NULL) + atol(arguments[2]);
    brix_writer *writer = open_writer(0);
    publish(writer, 0);
    need(brix_reader_open(path, 8, &shared));
    for (uintptr_t i = 0; i < READERS; i++)
        pthread_create(&readers[i], NULL, read_along, (void *)(i + 1));
    for (uint32_t round = 1; time(NULL) < end; round++) {
        if (round % 500 == 0 && round / 500 < FILES) {
            brix_writer_close(writer);
            writer = open_writer(round / 500);
        }
        publish(writer, round);
        gauge(writer, round);
        limit(writer, round);
        brix_users users;
        need(brix_writer_users(writer, 2000000000u, &users));
        need(brix_writer_sweep(writer, &swept));
        brix_writer_totals(writer, &totals);
    }
    for (int i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    brix_writer_totals(writer, &totals);
    printf("%llu requests, in flight %lld, anomalies %llu\n", (unsigned long long)totals.requests,
           (long long)totals.in_flight, (unsigned long long)totals.anomalies);
    return totals.in_flight == 0 && totals.anomalies == 0 && totals.requests > 0 ? 0 : 1;
}
