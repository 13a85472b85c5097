/*
 * segment.c: a reader on a damaged segment. The input is a list of patches of a sound one, 8 bytes each: where (three
 * in four times a word that is not empty), how it is changed, and a value. Whatever it says, the reader refuses it, or decides without leaving it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "brixflow.h"

#define ROWS 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
extern const char *const fuzz_seeds[];

const char *const fuzz_seeds[] = {"", "12345678", "\x01\x01\x01\x02\xff\xff\xff\xff\x02\x01\x01\x01\x01\x01\x01\x01", NULL};

static char path[64];
static unsigned char *mapped, *sound;
static size_t bytes;
static uint32_t *filled, filled_count; /* words that a sound segment has something in */

static void leave(void)
{
    unlink(path);
    strcat(path, ".lock");
    unlink(path);
}

static void need(int holds)
{
    if (!holds)
        abort();
}

static void publish(brix_writer *writer)
{
    brix_settings settings = {.default_strategy = {"least-request", 13}, .api_key = {"key", 3}};
    uint32_t index;
    need(brix_writer_begin(writer) == BRIX_OK && brix_writer_settings(writer, &settings) == BRIX_OK);
    for (uint32_t i = 0; i < 3; i++) {
        char key = (char)('a' + i);
        brix_pod pod = {.key = {&key, 1}, .name = {&key, 1}, .address = {"10.0.0.1:8000", 13}, .labels = {"a\0b\0", 4},
                        .ready = 1};
        need(brix_writer_pod(writer, &pod, &index) == BRIX_OK);
    }
    need(brix_writer_model(writer, "m", 1) == BRIX_OK);
    for (uint32_t i = 0; i < 3; i++)
        need(brix_writer_member(writer, i) == BRIX_OK);
    need(brix_writer_model(writer, "s", 1) == BRIX_OK && brix_writer_claim(writer, BRIX_CLAIM_SLEEPING) == BRIX_OK);
    need(brix_writer_publish(writer) == BRIX_OK);
}

static void make(void)
{
    brix_limits limits = {2, 4, 8, 1024, 2};
    brix_writer *writer;
    brix_origin origin;
    struct stat facts;
    snprintf(path, sizeof path, "/dev/shm/brixflow-fuzz-%d", (int)getpid());
    need(brix_writer_open(path, &limits, &writer, &origin) == BRIX_OK);
    publish(writer);
    brix_writer_close(writer);
    int file = open(path, O_RDWR | O_CLOEXEC);
    need(file >= 0 && fstat(file, &facts) == 0);
    bytes = (size_t)facts.st_size;
    mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    need(mapped != MAP_FAILED && (sound = malloc(bytes)) != NULL);
    close(file);
    memcpy(sound, mapped, bytes);
    need((filled = malloc(bytes)) != NULL);
    for (uint32_t i = 0; i < bytes / 4; i++)
        if (memcmp(sound + i * 4, "\0\0\0\0", 4) != 0)
            filled[filled_count++] = i;
    atexit(leave);
}

static void patch(const uint8_t *data)
{
    uint32_t where, value, word;
    memcpy(&where, data, 4);
    memcpy(&value, data + 4, 4);
    uint32_t index = where & 12 ? filled[(where >> 4) % filled_count] : (where >> 4) % (uint32_t)(bytes / 4);
    unsigned char *at = mapped + (size_t)index * 4;
    memcpy(&word, at, 4);
    switch (where & 3) {
    case 0:
        word = value;
        break;
    case 1:
        word += value % 17 - 8;
        break;
    case 2:
        word ^= 1u << (value & 31);
        break;
    default:
        word = UINT32_MAX - value % 3;
    }
    memcpy(at, &word, 4);
}

static void look(void)
{
    static const char *const strategies[] = {"", "vtc-basic", "least-kv-cache,least-request:2", "session-affinity"};
    static brix_explained rows[ROWS];
    brix_explained_item items[BRIX_EXPLAINED_ITEMS];
    brix_reader *reader;
    uint32_t some, count;
    if (brix_reader_open(path, 2, &reader) != BRIX_OK)
        return;
    for (uint32_t i = 0; i < 4; i++) {
        brix_request request = {.model = {i == 2 ? "s" : "m", 1}, .strategy = {strategies[i], strlen(strategies[i])},
                                .filter = {"a=b", i & 1 ? 3 : 0}, .user = {"ada", 3}, .session_key = {"s", 1},
                                .random = i, .now = 2000000000u};
        brix_decision decision, shown;
        brix_reader_decide(reader, &request, &decision);
        brix_reader_explain(reader, &request, items, &some, rows, ROWS, &count, &shown);
        brix_reader_finish(reader, &decision);
    }
    brix_reader_close(reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (mapped == NULL)
        make();
    memcpy(mapped, sound, bytes);
    for (size_t at = 0; at + 8 <= size && at < 64 * 8; at += 8)
        patch(data + at);
    look();
    return 0;
}
