/*
 * wire.h: protobuf bytes, read forwards and written backwards.
 *
 *   read:   [tag|length|.....][tag|varint]...      next field by field, nothing is copied
 *   write:  start ............ <- at [tag|length|payload] end
 *
 * Writing from the end knows the length of a nested message when its head is written, so one pass is
 * enough. Broken input sets `bad`; what does not fit sets `cut`.
 */
#ifndef BRIX_WIRE_H
#define BRIX_WIRE_H

#include "text.h"

enum { BRIX_WIRE_VARINT = 0, BRIX_WIRE_FIXED64 = 1, BRIX_WIRE_BYTES = 2, BRIX_WIRE_FIXED32 = 5 };

typedef struct {
    const char *at;
    const char *end;
    int bad;
    uint32_t field;
    uint32_t kind;
    uint64_t number; /* of a varint */
    brix_text bytes; /* of a length-delimited field */
} brix_wire;

static inline brix_wire brix_wire_of(brix_text message)
{
    return (brix_wire){.at = message.at, .end = message.at + message.length};
}

/* 1 with the next field; 0 at the end or when the bytes are broken. */
int brix_wire_next(brix_wire *wire);

typedef struct {
    char *start;
    char *at;
    char *end;
    int cut;
} brix_back;

void brix_back_varint(brix_back *back, uint32_t field, uint64_t number);
void brix_back_bytes(brix_back *back, uint32_t field, brix_text bytes);
/* Head of a nested message whose fields were written since `mark` (a value of at). */
void brix_back_nest(brix_back *back, uint32_t field, const char *mark);

#endif
