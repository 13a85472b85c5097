/*
 * guided.c: a fuzzer that keeps what reaches new code, for targets with libFuzzer's entry point.
 *
 *   target SECONDS SEED CRASH_FILE
 *
 *   seeds --> corpus --> mutate --> LLVMFuzzerTestOneInput --> new edges or counts of edges? --> corpus
 *                ^                        | compared values          |
 *                '------ splice <---------'--> dictionary            '--> no: forgotten
 *
 * The kernel is compiled with gcc's -fsanitize-coverage=trace-pc,trace-cmp, whose hooks stand here. With clang the same
 * targets run under libFuzzer (-fsanitize=fuzzer) without this file. An input on which the process dies, or that takes
 * longer than ten seconds, is written to CRASH_FILE. Prints runs, inputs kept and edges.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define EDGES 65536
#define INPUTS 8192
#define INPUT_BYTES 4096
#define COMPARED 256
#define SLOW_SECONDS 10

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
extern const char *const fuzz_seeds[]; /* ends with NULL */
void __sanitizer_set_death_callback(void (*callback)(void));

typedef struct {
    uint8_t *bytes;
    size_t size;
} input;

static uint8_t edges[EDGES], known[EDGES];
static uintptr_t previous;
static input corpus[INPUTS];
static uint32_t kept;
static uint64_t compared[COMPARED], state;
static uint32_t compared_count;
static uint8_t *current; /* in memory of exactly its size */
static size_t current_size;
static const char *crash_file;

void __sanitizer_cov_trace_pc(void);
void __sanitizer_cov_trace_pc(void)
{
    uintptr_t here = (uintptr_t)__builtin_return_address(0);
    uint8_t *edge = &edges[(here ^ previous) % EDGES];
    *edge = (uint8_t)(*edge + (*edge < 255));
    previous = here >> 1;
}

static void note(uint64_t left, uint64_t right)
{
    if (left != right) {
        compared[compared_count++ % COMPARED] = right;
        compared[compared_count++ % COMPARED] = left;
    }
}

#define COMPARES(name, type) \
    void __sanitizer_cov_trace_##name(type left, type right); \
    void __sanitizer_cov_trace_##name(type left, type right) \
    { \
        note((uint64_t)left, (uint64_t)right); \
    }
COMPARES(cmp1, uint8_t)
COMPARES(cmp2, uint16_t)
COMPARES(cmp4, uint32_t)
COMPARES(cmp8, uint64_t)
COMPARES(const_cmp1, uint8_t)
COMPARES(const_cmp2, uint16_t)
COMPARES(const_cmp4, uint32_t)
COMPARES(const_cmp8, uint64_t)

void __sanitizer_cov_trace_cmpf(float left, float right);
void __sanitizer_cov_trace_cmpd(double left, double right);
void __sanitizer_cov_trace_switch(uint64_t value, uint64_t *cases);

void __sanitizer_cov_trace_cmpf(float left, float right)
{
    (void)left;
    (void)right;
}

void __sanitizer_cov_trace_cmpd(double left, double right)
{
    (void)left;
    (void)right;
}

void __sanitizer_cov_trace_switch(uint64_t value, uint64_t *cases)
{
    for (uint64_t i = 0; i < cases[0] && i < 8; i++)
        note(value, cases[2 + i]);
}

static uint32_t dice(uint32_t bound)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 33) % bound);
}

static void save(void)
{
    FILE *file = fopen(crash_file, "wb");
    if (file == NULL)
        return;
    fwrite(current, 1, current_size, file);
    fclose(file);
}

static void too_slow(int number)
{
    (void)number;
    save();
    static const char words[] = "an input took too long\n";
    if (write(2, words, sizeof words - 1) < 0)
        _exit(3);
    _exit(3);
}

/* AFL's classes of how often an edge was taken: 1, 2, 3, 4 to 7, ... */
static uint8_t class_of(uint8_t count)
{
    uint8_t bit = 0;
    while (count > 3) {
        count >>= 1;
        bit++;
    }
    return (uint8_t)(count == 0 ? 0 : 1 << (bit + count - 1 > 7 ? 7 : bit + count - 1));
}

static int is_new(void)
{
    int fresh = 0;
    for (size_t i = 0; i < EDGES; i += 8) {
        uint64_t eight;
        memcpy(&eight, edges + i, 8);
        for (size_t at = i; eight && at < i + 8; at++)
            if (edges[at] && (class_of(edges[at]) & ~known[at])) {
                known[at] |= class_of(edges[at]);
                fresh = 1;
            }
    }
    return fresh;
}

static void keep(const uint8_t *bytes, size_t size)
{
    input *place = &corpus[kept < INPUTS ? kept++ : dice(INPUTS)];
    free(place->bytes);
    place->bytes = malloc(size ? size : 1);
    memcpy(place->bytes, bytes, size);
    place->size = size;
}

static void run(const uint8_t *bytes, size_t size)
{
    current = malloc(size ? size : 1);
    current_size = size;
    memcpy(current, bytes, size);
    memset(edges, 0, sizeof edges);
    previous = 0;
    LLVMFuzzerTestOneInput(current, size);
    if (is_new())
        keep(bytes, size);
    free(current);
    current = NULL;
}

static size_t insert(uint8_t *bytes, size_t size, const void *what, size_t length)
{
    size_t at = dice((uint32_t)size + 1);
    if (size + length > INPUT_BYTES)
        return size;
    memmove(bytes + at + length, bytes + at, size - at);
    memcpy(bytes + at, what, length);
    return size + length;
}

static size_t mutate(uint8_t *bytes, size_t size)
{
    static const char *const pieces[] = {"\"", "\\u00", "{}", "[", "]", ":", ",", "e9", "\n\n", "data: ", "\xed\xa0\x80",
                                         "\xff", "null", "true", "-0", "=", " in (", "{", "}", "\\"};
    uint32_t at = size ? dice((uint32_t)size) : 0, length = 1 + dice(16);
    switch (size ? dice(9) : 7) {
    case 0:
        bytes[at] ^= (uint8_t)(1 << dice(8));
        return size;
    case 1:
        bytes[at] = (uint8_t)dice(256);
        return size;
    case 2:
        bytes[at] = (uint8_t)(bytes[at] + dice(9) - 4);
        return size;
    case 3:
        length = length > size - at ? (uint32_t)size - at : length;
        memmove(bytes + at, bytes + at + length, size - at - length);
        return size - length;
    case 4: {
        uint8_t copy[16];
        length = length > size - at ? (uint32_t)size - at : length;
        memcpy(copy, bytes + at, length);
        return insert(bytes, size, copy, length);
    }
    case 5: {
        uint64_t value = compared[dice(COMPARED)];
        size_t width = (size_t)1 << dice(4);
        if (dice(2))
            return insert(bytes, size, &value, width);
        memcpy(bytes + at, &value, width < size - at ? width : size - at);
        return size;
    }
    case 6: {
        const input *other = &corpus[dice(kept)];
        size_t from = other->size ? dice((uint32_t)other->size) : 0, some = other->size - from;
        some = some > INPUT_BYTES - at ? INPUT_BYTES - at : some;
        memcpy(bytes + at, other->bytes + from, some);
        return at + some;
    }
    case 7: {
        const char *piece = pieces[dice(sizeof pieces / sizeof pieces[0])];
        return insert(bytes, size, piece, strlen(piece));
    }
    default:
        return at + 1;
    }
}

int main(int count, char **arguments)
{
    uint8_t bytes[INPUT_BYTES + 16];
    unsigned long runs = 0, reached = 0;
    if (count != 4)
        return 2;
    state = strtoull(arguments[2], NULL, 10);
    crash_file = arguments[3];
    __sanitizer_set_death_callback(save);
    signal(SIGALRM, too_slow);
    for (int i = 0; fuzz_seeds[i]; i++)
        run((const uint8_t *)fuzz_seeds[i], strlen(fuzz_seeds[i]));
    keep((const uint8_t *)"", 0);
    for (time_t end = time(NULL) + atol(arguments[1]); time(NULL) < end;) {
        alarm(SLOW_SECONDS);
        for (int i = 0; i < 100; i++, runs++) {
            const input *base = &corpus[dice(2) ? dice(kept) : kept - 1 - dice(kept < 16 ? kept : 16)];
            size_t size = base->size;
            memcpy(bytes, base->bytes, size);
            for (uint32_t steps = 1 + dice(dice(4) ? 4 : 16); steps > 0; steps--)
                size = mutate(bytes, size);
            run(bytes, size);
        }
    }
    alarm(0);
    for (size_t i = 0; i < EDGES; i++)
        reached += known[i] != 0;
    printf("%lu runs, %u inputs kept, %lu edges\n", runs, kept, reached);
    return 0;
}
