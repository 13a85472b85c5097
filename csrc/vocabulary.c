#define _GNU_SOURCE
#include "vocabulary.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC 0x316b303031636c63u
#define MOST_TOKENS (1u << 20)
#define MOST_NODES (1u << 23)

static uint64_t align(uint64_t bytes)
{
    return (bytes + 63) & ~63ull;
}

/* Lay the tables out behind the header; the whole size. */
static uint64_t lay_out(brix_vocabulary *v, char *base, const brix_vocabulary_header *h)
{
    uint64_t at = align(sizeof *h);
    v->header = (brix_vocabulary_header *)(void *)base;
    v->offsets = (uint32_t *)(void *)(base + at);
    at += align(((uint64_t)h->tokens + 1) * sizeof *v->offsets);
    v->halves = (brix_halves *)(void *)(base + at);
    at += align((uint64_t)h->tokens * sizeof *v->halves);
    v->pairs = (uint32_t *)(void *)(base + at);
    at += align((uint64_t)h->pair_slots * sizeof *v->pairs);
    v->wholes = (uint32_t *)(void *)(base + at);
    at += align((uint64_t)h->whole_slots * sizeof *v->wholes);
    v->branches = (brix_branch *)(void *)(base + at);
    at += align((uint64_t)h->branch_slots * sizeof *v->branches);
    v->node_token = (uint32_t *)(void *)(base + at);
    at += align((uint64_t)h->nodes * sizeof *v->node_token);
    v->classes = (uint8_t *)(base + at);
    at += align(BRIX_POINTS / 4);
    v->text = base + at;
    return align(at + h->text_bytes);
}

static uint64_t checksum(const char *base, uint64_t bytes)
{
    uint64_t sum = bytes, word;
    for (uint64_t at = align(sizeof(brix_vocabulary_header)); at + sizeof word <= bytes; at += sizeof word) {
        memcpy(&word, base + at, sizeof word);
        sum = (sum ^ word) * 0x9e3779b97f4a7c15u;
        sum ^= sum >> 29;
    }
    return sum;
}

static int is_power(uint32_t slots, uint32_t least)
{
    return slots > least && (slots & (slots - 1)) == 0;
}

static int is_sane(const brix_vocabulary_header *h, uint64_t bytes)
{
    return h->magic == MAGIC && h->bytes == bytes && h->tokens > 256 && h->tokens < MOST_TOKENS && h->nodes > 0 &&
           h->nodes < MOST_NODES && is_power(h->pair_slots, h->tokens) && is_power(h->whole_slots, h->tokens) &&
           is_power(h->branch_slots, h->nodes - 1) && h->text_bytes < h->tokens * BRIX_TOKEN_BYTES;
}

static brix_status map_file(int file, brix_vocabulary *v)
{
    struct stat info;
    if (fstat(file, &info) != 0)
        return BRIX_SYSTEM;
    if (info.st_size < (off_t)sizeof(brix_vocabulary_header))
        return BRIX_FOREIGN;
    uint64_t bytes = (uint64_t)info.st_size;
    char *base = mmap(NULL, bytes, PROT_READ, MAP_SHARED, file, 0);
    if (base == MAP_FAILED)
        return BRIX_SYSTEM;
    const brix_vocabulary_header *header = (const brix_vocabulary_header *)(const void *)base;
    if (is_sane(header, bytes) && lay_out(v, base, header) == bytes && checksum(base, bytes) == header->checksum)
        return BRIX_OK;
    munmap(base, bytes);
    return BRIX_FOREIGN;
}

brix_status brix_vocabulary_open(const char *segment, brix_vocabulary **result)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s" BRIX_VOCABULARY_SUFFIX, segment) >= (int)sizeof path)
        return BRIX_BAD;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return errno == ENOENT ? BRIX_MISSING : BRIX_SYSTEM;
    brix_vocabulary *v = calloc(1, sizeof *v);
    brix_status status = v ? map_file(file, v) : BRIX_SYSTEM;
    close(file);
    if (status != BRIX_OK)
        free(v);
    else
        *result = v;
    return status;
}

void brix_vocabulary_close(brix_vocabulary *v)
{
    if (!v)
        return;
    munmap(v->header, v->header->bytes);
    free(v);
}

/* --- writing one ------------------------------------------------------------------------- */

static uint32_t slots_for(uint32_t count)
{
    uint32_t slots = 2;
    while (slots < count * 2)
        slots *= 2;
    return slots;
}

/* A tree has at most one branch a byte. */
static uint32_t slots_above(uint32_t count)
{
    return slots_for(count / 2 + 1);
}

static void put_slot(uint32_t *table, uint32_t slots, uint32_t hash, uint32_t token)
{
    uint32_t at = hash & (slots - 1);
    while (table[at] != 0)
        at = (at + 1) & (slots - 1);
    table[at] = token + 1;
}

static uint32_t grow_branch(brix_vocabulary *v, uint32_t node, uint8_t byte)
{
    uint32_t found = brix_branch_find(v, node, byte), key = node << 8 | byte, mask = v->header->branch_slots - 1;
    if (found != BRIX_NO_TOKEN)
        return found;
    uint32_t at = brix_mix(key) & mask;
    while (v->branches[at].key != UINT32_MAX)
        at = (at + 1) & mask;
    v->branches[at] = (brix_branch){key, v->header->nodes};
    v->node_token[v->header->nodes] = BRIX_NO_TOKEN;
    return v->header->nodes++;
}

static void plant(brix_vocabulary *v, uint32_t token)
{
    brix_text text = brix_token(v, token);
    uint32_t node = 0;
    for (size_t i = text.length; i > 0; i--)
        node = grow_branch(v, node, (uint8_t)text.at[i - 1]);
    v->node_token[node] = token;
}

/* The two tokens that BPE would make this one of; a token that it never makes stays by itself. */
static void halve(brix_vocabulary *v, uint32_t token)
{
    brix_text text = brix_token(v, token);
    v->halves[token] = (brix_halves){token, token};
    for (size_t cut = text.length - 1; cut > 0; cut--) {
        uint32_t first = brix_token_find(v, text.at, cut);
        uint32_t second = brix_token_find(v, text.at + cut, text.length - cut);
        if (first >= token || second >= token || !brix_pair_stays(v, first, second))
            continue;
        v->halves[token] = (brix_halves){first, second};
        put_slot(v->pairs, v->header->pair_slots, brix_mix((uint64_t)first << 32 | second), token);
        return;
    }
}

static void fill(brix_vocabulary *v, const char *text, const uint32_t *offsets, const uint8_t *classes)
{
    brix_vocabulary_header *h = v->header;
    memcpy(v->offsets, offsets, ((size_t)h->tokens + 1) * sizeof *offsets);
    memcpy(v->text, text, h->text_bytes);
    for (uint32_t point = 0; point < BRIX_POINTS; point++)
        v->classes[point / 4] |= (uint8_t)((classes[point] & 3) << point % 4 * 2);
    for (uint32_t i = 0; i < h->branch_slots; i++)
        v->branches[i].key = UINT32_MAX;
    v->node_token[0] = BRIX_NO_TOKEN;
    for (uint32_t token = 0; token < h->tokens; token++) {
        brix_text bytes = brix_token(v, token);
        put_slot(v->wholes, h->whole_slots, brix_mix(brix_token_hash(bytes.at, bytes.length)), token);
        plant(v, token);
    }
    for (uint32_t token = 0; token < h->tokens; token++)
        halve(v, token);
}

/* Every distinct suffix is a node: at most one a byte. */
static int are_tokens(const uint32_t *offsets, uint32_t count)
{
    if (count <= 256 || count >= MOST_TOKENS || offsets[0] != 0)
        return 0;
    for (uint32_t i = 0; i < count; i++)
        if (offsets[i + 1] <= offsets[i] || offsets[i + 1] - offsets[i] > BRIX_TOKEN_BYTES)
            return 0;
    return offsets[count] < MOST_NODES;
}

static brix_status write_whole(const char *path, const char *base, size_t bytes)
{
    char fresh[4096];
    if (snprintf(fresh, sizeof fresh, "%s.new", path) >= (int)sizeof fresh)
        return BRIX_BAD;
    int file = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (file < 0)
        return BRIX_SYSTEM;
    int good = fchmod(file, 0640) == 0 && posix_fallocate(file, 0, (off_t)bytes) == 0;
    for (size_t at = 0; good && at < bytes;) {
        ssize_t wrote = pwrite(file, base + at, bytes - at, (off_t)at);
        good = wrote > 0;
        at += good ? (size_t)wrote : 0;
    }
    good = close(file) == 0 && good && rename(fresh, path) == 0;
    if (!good)
        unlink(fresh);
    return good ? BRIX_OK : BRIX_SYSTEM;
}

brix_status brix_vocabulary_write(const char *segment, const char *text, const uint32_t *offsets, uint32_t count,
                                  const uint8_t *classes)
{
    char path[4096];
    brix_vocabulary v, scratch;
    if (!are_tokens(offsets, count) ||
        snprintf(path, sizeof path, "%s" BRIX_VOCABULARY_SUFFIX, segment) >= (int)sizeof path)
        return BRIX_BAD;
    brix_vocabulary_header header = {.magic = MAGIC,
                                     .tokens = count,
                                     .nodes = offsets[count] + 1,
                                     .text_bytes = offsets[count],
                                     .pair_slots = slots_for(count),
                                     .whole_slots = slots_for(count),
                                     .branch_slots = slots_above(offsets[count])};
    uint64_t bytes = lay_out(&scratch, NULL, &header);
    char *base = calloc(1, bytes);
    if (!base)
        return BRIX_SYSTEM;
    memcpy(base, &header, sizeof header);
    lay_out(&v, base, &header);
    v.header->nodes = 1;
    fill(&v, text, offsets, classes);
    v.header->nodes = header.nodes; /* as laid out: the tables' places follow from it */
    v.header->bytes = bytes;
    v.header->checksum = checksum(base, bytes);
    brix_status status = write_whole(path, base, bytes);
    free(base);
    return status;
}
