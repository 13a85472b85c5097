/*
 * embeddings.h: what /v1/embeddings may be given as input, checked while the scanner passes over it.
 *
 *   "text" | ["text", ...] | [1, 2, ...] | [[1, 2], ...] | [{"type": "text", "text": ...}, ...]
 *
 * Only counts are kept. The first element that is at fault decides; what is of no such shape at all is unreadable,
 * whatever its elements are. Texts of the faults are part of the public contract (gateway 4.3).
 */
#ifndef BRIX_EMBEDDINGS_H
#define BRIX_EMBEDDINGS_H

#include "bpe.h"
#include "out.h"
#include "scan.h"

#define BRIX_EMBEDDING_TOKENS 8192   /* of one input */
#define BRIX_EMBEDDING_TOTAL 300000  /* of all inputs */
#define BRIX_EMBEDDING_DIMENSIONS 2048 /* elements of a token array */
#define BRIX_PART_TYPE 32

typedef struct {
    uint8_t what; /* 0: none yet */
    uint8_t field; /* the member that is missing */
    uint8_t type_length;
    uint32_t index;
    uint64_t number;
    char type[BRIX_PART_TYPE]; /* of a part that is not supported */
} brix_input_fault;

typedef struct {
    brix_count *count;  /* set before begin, which leaves it */
    uint8_t kind;       /* brix_kind of the whole input */
    uint8_t is_text;    /* the bytes that come now are text */
    uint8_t is_type;    /* ... or the type of a part */
    uint8_t has_type;
    uint8_t type_length;
    uint8_t unreadable;
    uint16_t shapes;    /* mask of what the elements are */
    uint16_t set;       /* mask of the members that this part has */
    uint32_t elements;
    uint32_t inner;     /* elements of this token array */
    uint64_t bytes;     /* of this text */
    uint64_t tokens;    /* of this text, once it is over */
    uint64_t total;
    brix_input_fault fault;
    char type[BRIX_PART_TYPE];
    char message[192];
} brix_embedding;

void brix_embedding_begin(brix_embedding *embedding);
/* A brix_watch; its context is the embedding. */
void brix_embedding_watch(brix_embedding *embedding, const brix_scan *scan, uint32_t level, brix_kind kind, int ends);
/* Bytes of a string that is being watched. */
void brix_embedding_bytes(brix_embedding *embedding, const char *bytes, size_t length);
/* 1 when the input is refused, and the message, which holds as long as the embedding. *of_input: it names `input`. */
int brix_embedding_faults(brix_embedding *embedding, brix_text *message, int *of_input);

#endif
