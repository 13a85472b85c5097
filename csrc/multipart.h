/*
 * multipart.h: reads a multipart/form-data body as it arrives and keeps two small fields of it.
 *
 *   --b\r\n headers \r\n\r\n value \r\n--b\r\n headers ... \r\n--b--
 *   ^ DELIMITER     ^ only the names of parts     ^ the value of `model` and `stream`, cut at what they hold
 *
 * The bytes of every other part (an audio file) pass by memchr alone: nothing of them is kept. Lines may end with
 * LF alone. The last of equal names counts (RFC 7578, RFC 2046).
 */
#ifndef BRIX_MULTIPART_H
#define BRIX_MULTIPART_H

#include "text.h"

#define BRIX_BOUNDARY 256
#define BRIX_PART_LINE 512          /* of a part's headers; what is beyond is not looked at */
#define BRIX_PART_HEADERS (16u * 1024) /* bytes of one part's headers; more are refused */

typedef enum { BRIX_FORM_FITS, BRIX_FORM_OTHER, BRIX_FORM_UNREADABLE, BRIX_FORM_NO_BOUNDARY } brix_form_type;

typedef struct {
    char *model;
    size_t model_capacity;
    size_t model_length; /* of the value, even beyond its capacity */
    size_t length;       /* of the value being read */
    uint32_t header_bytes;
    uint16_t boundary_length; /* of "\n--boundary" */
    uint16_t line_length;
    uint16_t matched;
    uint8_t type; /* brix_form_type of the content type */
    uint8_t state;
    uint8_t part; /* which field this part is */
    uint8_t stream_length;
    char boundary[BRIX_BOUNDARY];
    char line[BRIX_PART_LINE];
    char stream[8];
} brix_form;

/* What a content-type says of the body; keeps the boundary. */
void brix_form_type_of(brix_form *form, brix_text content_type);
/* Ready for the first chunk, with the content type that was given. */
void brix_form_begin(brix_form *form, char *model, size_t capacity);
void brix_form_feed(brix_form *form, const char *bytes, size_t length);
/* 1 once the closing boundary was there. */
int brix_form_is_complete(const brix_form *form);
/* 1 when the body ended, or broke, inside of the part that names the model. */
int brix_form_broke_in_model(const brix_form *form);
/* Without blanks around it, cut at its capacity. */
brix_text brix_form_model(const brix_form *form);
int brix_form_streams(const brix_form *form);

#endif
