/*
 * bpe.h: counts the tokens of a text as it arrives, by byte-level BPE with the vocabulary cl100k_base.
 *
 *   text --cut--> pieces --+-- known as a whole: one token
 *                          '-- else, byte by byte:  last token that ends here, and how many there are
 *
 * Splitting (its regular expression) and merging both run on state of a few KB that any cut of the text leaves as it
 * is: nothing is collected, however long a word. For each byte, of the tokens that end with it exactly one can be the
 * last of the encoding so far: the one that BPE would not have merged otherwise with the token before it.
 *
 * The vocabulary is a file beside the segment, written once by the collector and mapped by readers: it never changes,
 * so it needs no lock, and segments that replace each other share it.
 *
 *   header | token bytes | offsets | halves of each token | pairs | whole tokens | suffix tree | classes of code points
 */
#ifndef BRIX_BPE_H
#define BRIX_BPE_H

#include "text.h"

#define BRIX_TOKEN_BYTES 128u /* of the longest token */
#define BRIX_VOCABULARY_SUFFIX ".cl100k"

typedef struct brix_vocabulary brix_vocabulary;

/* Map the vocabulary that stands beside the segment at path. MISSING, FOREIGN (also when damaged) or SYSTEM. */
brix_status brix_vocabulary_open(const char *segment, brix_vocabulary **vocabulary);
void brix_vocabulary_close(brix_vocabulary *vocabulary);

/* The encoding of what came of a piece: for the last BRIX_TOKEN_BYTES positions. */
typedef struct {
    uint64_t bytes;
    uint32_t last[BRIX_TOKEN_BYTES];  /* the token that ends here */
    uint32_t count[BRIX_TOKEN_BYTES]; /* tokens up to here */
    uint64_t hash[BRIX_TOKEN_BYTES];  /* of the bytes of `last` */
    char byte[2 * BRIX_TOKEN_BYTES];  /* twice, so that the last ones always stand together */
} brix_merge;

typedef struct {
    const brix_vocabulary *vocabulary;
    uint64_t limit;   /* beyond it nothing is looked at */
    uint64_t tokens;  /* of the pieces that are over */
    uint64_t at_line; /* of blanks: tokens up to the last line end */
    uint32_t point;   /* of a UTF-8 sequence that is cut */
    uint8_t left;
    uint8_t state;
    uint8_t digits;
    uint8_t streams;      /* the piece outgrew `piece`: `merge` has it */
    uint8_t blank_length; /* the last blank, which may begin the next piece */
    uint8_t lags;         /* `merge` waits for what `tail` has */
    uint8_t blank[4];
    uint16_t length;
    char piece[BRIX_TOKEN_BYTES];
    brix_merge merge;
    brix_merge tail; /* of blanks: behind the last line end, without the last one */
} brix_count;

/* Ready for a text. Without a vocabulary nothing is counted. */
void brix_count_begin(brix_count *count, const brix_vocabulary *vocabulary, uint64_t limit);
/* The next bytes of it, which are UTF-8 as a whole. */
void brix_count_feed(brix_count *count, const char *bytes, size_t length);
/* The text is over: how many tokens it has, or more than limit, which is then limit + 1. */
uint64_t brix_count_end(brix_count *count);

#endif
