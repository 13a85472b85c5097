/*
 * vocabulary.h: the inside of a mapped vocabulary, for bpe.c and vocabulary.c. Each table's place and size follow
 * from the number of tokens and nodes; a checksum over all of it is compared once, when it is mapped.
 */
#ifndef BRIX_VOCABULARY_H
#define BRIX_VOCABULARY_H

#include "bpe.h"

#define BRIX_NO_TOKEN UINT32_MAX
#define BRIX_POINTS 0x110000u

enum { BRIX_CLASS_OTHER, BRIX_CLASS_LETTER, BRIX_CLASS_NUMBER, BRIX_CLASS_BLANK };

typedef struct {
    uint32_t first;
    uint32_t second;
} brix_halves; /* what BPE makes a token of; itself twice for a single byte */

typedef struct {
    uint32_t key; /* parent node << 8 | byte; UINT32_MAX: free */
    uint32_t node;
} brix_branch;

typedef struct {
    uint64_t magic;
    uint64_t bytes;
    uint64_t checksum; /* of all that follows the header */
    uint32_t tokens;
    uint32_t nodes;
    uint32_t text_bytes;
    uint32_t pair_slots; /* powers of two, as all slots */
    uint32_t whole_slots;
    uint32_t branch_slots;
    uint64_t spare[2];
} brix_vocabulary_header;

struct brix_vocabulary {
    brix_vocabulary_header *header;
    uint32_t *offsets; /* tokens + 1 */
    brix_halves *halves;
    uint32_t *pairs;  /* slot: token plus one, found by its halves */
    uint32_t *wholes; /* slot: token plus one, found by its bytes */
    brix_branch *branches;
    uint32_t *node_token;
    uint8_t *classes; /* two bits a code point */
    char *text;
};

static inline uint32_t brix_mix(uint64_t value)
{
    value *= 0x9e3779b97f4a7c15u;
    return (uint32_t)(value >> 32);
}

#define BRIX_HASH_OF_NOTHING 0xcbf29ce484222325u

static inline uint64_t brix_hash_on(uint64_t hash, char byte)
{
    return (hash ^ (unsigned char)byte) * 0x100000001b3u;
}

static inline uint64_t brix_token_hash(const char *bytes, size_t length)
{
    uint64_t hash = BRIX_HASH_OF_NOTHING;
    for (size_t i = 0; i < length; i++)
        hash = brix_hash_on(hash, bytes[i]);
    return hash;
}

static inline brix_text brix_token(const brix_vocabulary *v, uint32_t token)
{
    return (brix_text){v->text + v->offsets[token], v->offsets[token + 1] - v->offsets[token]};
}

/* The token with exactly these bytes, whose hash is known, or BRIX_NO_TOKEN. */
static inline uint32_t brix_token_at(const brix_vocabulary *v, uint64_t hash, const char *bytes, size_t length)
{
    uint32_t mask = v->header->whole_slots - 1;
    for (uint32_t at = brix_mix(hash) & mask; v->wholes[at] != 0; at = (at + 1) & mask)
        if (brix_text_is(brix_token(v, v->wholes[at] - 1), (brix_text){bytes, length}))
            return v->wholes[at] - 1;
    return BRIX_NO_TOKEN;
}

static inline uint32_t brix_token_find(const brix_vocabulary *v, const char *bytes, size_t length)
{
    return brix_token_at(v, brix_token_hash(bytes, length), bytes, length);
}

/* The token that BPE makes of these two, or BRIX_NO_TOKEN. */
static inline uint32_t brix_pair_find(const brix_vocabulary *v, uint32_t first, uint32_t second)
{
    uint32_t mask = v->header->pair_slots - 1;
    for (uint32_t at = brix_mix((uint64_t)first << 32 | second) & mask; v->pairs[at] != 0; at = (at + 1) & mask) {
        const brix_halves *halves = &v->halves[v->pairs[at] - 1];
        if (halves->first == first && halves->second == second)
            return v->pairs[at] - 1;
    }
    return BRIX_NO_TOKEN;
}

/* The node before this one, by the byte that precedes it; BRIX_NO_TOKEN when no token goes on so. */
static inline uint32_t brix_branch_find(const brix_vocabulary *v, uint32_t node, uint8_t byte)
{
    uint32_t key = node << 8 | byte, mask = v->header->branch_slots - 1;
    for (uint32_t at = brix_mix(key) & mask; v->branches[at].key != UINT32_MAX; at = (at + 1) & mask)
        if (v->branches[at].key == key)
            return v->branches[at].node;
    return BRIX_NO_TOKEN;
}

/* 1 when BPE leaves these two tokens beside each other. */
int brix_pair_stays(const brix_vocabulary *v, uint32_t first, uint32_t second);

#endif
