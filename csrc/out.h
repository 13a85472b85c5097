/*
 * out.h: a bounded place to write to.
 *
 *     at -> [written ......|free ......]
 *            <-- length -->
 *            <------- capacity -------->
 *
 * What does not fit is dropped and remembered in `cut`; nothing is written beyond capacity.
 */
#ifndef BRIX_OUT_H
#define BRIX_OUT_H

#include "text.h"

typedef struct {
    char *at;
    size_t length;
    size_t capacity;
    int cut;
} brix_out;

void brix_out_bytes(brix_out *out, const char *bytes, size_t length);
void brix_out_text(brix_out *out, brix_text text);
/* The inside of a JSON string: escaped, and bytes that are no UTF-8 become U+FFFD. */
void brix_out_json(brix_out *out, brix_text text);
/* "text" with quotes, or null when text.at is NULL. */
void brix_out_json_or_null(brix_out *out, brix_text text);
/* Decimal digits. */
void brix_out_number(brix_out *out, uint64_t number);

/* 1 when the whole text is UTF-8. */
int brix_is_utf8(brix_text text);
/* Length of the UTF-8 sequence at bytes, or 0 when it is none (RFC 3629). */
size_t brix_utf8_length(const unsigned char *bytes, size_t available);

#endif
