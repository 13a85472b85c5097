/*
 * scan.h: reads a JSON request body as it arrives and keeps what routing needs.
 *
 *   chunk      chunk     chunk          found[field]: kind, emptiness, kinds inside an array
 *   {"mod|el":"llama","mess|ages":[..   model: decoded into the caller's buffer
 *     ^ state crosses every cut         text: handed to a sink, decoded or raw, piece by piece
 *
 * Strict RFC 8259 with UTF-8 checked, any order of members, any escape, the last of equal keys counts.
 * No allocation, no recursion: one bit a level up to BRIX_SCAN_DEPTH, deeper is refused. Every byte is
 * looked at once. Lone surrogates in escapes become U+FFFD.
 */
#ifndef BRIX_SCAN_H
#define BRIX_SCAN_H

#include "text.h"

#define BRIX_SCAN_DEPTH 512
#define BRIX_SCAN_KEY 24

typedef enum {
    BRIX_ABSENT,
    BRIX_NULL,
    BRIX_FALSE,
    BRIX_TRUE,
    BRIX_NUMBER,
    BRIX_STRING,
    BRIX_ARRAY,
    BRIX_OBJECT,
} brix_kind;

typedef enum {
    BRIX_FIELD_MODEL,
    BRIX_FIELD_STREAM,
    BRIX_FIELD_MESSAGES,
    BRIX_FIELD_PROMPT,
    BRIX_FIELD_INPUT,
    BRIX_FIELD_QUERY,
    BRIX_FIELD_DOCUMENTS,
    BRIX_FIELD_MAX_TOKENS,
    BRIX_FIELD_MAX_COMPLETION_TOKENS,
    BRIX_FIELD_USER,
    BRIX_FIELD_STREAM_OPTIONS,
    BRIX_FIELD_INCLUDE_USAGE, /* inside stream_options */
    BRIX_FIELDS,
} brix_field;

typedef struct {
    uint8_t kind;      /* brix_kind */
    uint8_t filled;    /* a string with bytes, an array with elements */
    uint16_t elements; /* mask over brix_kind of an array's elements */
    uint16_t inner;    /* the same for arrays inside it */
} brix_found;

/* Where the routing text comes from. */
typedef enum {
    BRIX_TEXT_NONE,
    BRIX_TEXT_MESSAGES,  /* messages[].content, joined by blanks */
    BRIX_TEXT_PROMPT,    /* prompt, or its strings joined */
    BRIX_TEXT_INPUT,     /* input, or its strings joined */
    BRIX_TEXT_ITEMS,     /* input, or input[].content joined */
    BRIX_TEXT_DOCUMENTS, /* query, then documents, whichever comes first; see brix_scan_is_query */
    BRIX_TEXT_WATCHED,   /* every string of input down to its third level; whoever watches knows what it is */
} brix_text_source;

/* Takes a piece of the text. bytes NULL: forget what came of this member before, it came again. */
typedef void (*brix_sink)(void *context, const char *bytes, size_t length);

struct brix_scan;

/* Told of each value inside of `input`, itself included, down to its third level: level 1 is the member, 2 an element,
   3 what stands in an element. ends 0: it begins (its key is brix_scan_key), 1: it is over. */
typedef void (*brix_watch)(void *context, const struct brix_scan *scan, uint32_t level, brix_kind kind, int ends);

typedef struct brix_scan {
    brix_found found[BRIX_FIELDS];
    size_t model_length; /* of the whole name, even beyond its capacity */
    char *model;
    size_t model_capacity;
    brix_sink sink;
    brix_watch watch;
    void *context;
    const char *chunk;   /* the one being read, */
    int64_t integers[2]; /* of max_tokens and max_completion_tokens, as far as read */
    uint64_t base;       /* and where it stands in the body */
    uint64_t options_at; /* where values begin: of stream_options, */
    uint64_t usage_at;   /* of include_usage; */
    uint64_t close_at;   /* and where the brace stands that ends the object */
    const char *run; /* bytes of this chunk not yet handed on */
    const char *literal;
    uint64_t levels[BRIX_SCAN_DEPTH / 64]; /* bit set: an object */
    uint32_t depth;
    uint32_t raw_depth; /* while raw: the depth at which the value ends */
    uint32_t point;     /* of a \u escape being read */
    uint32_t high;      /* a surrogate that waits for its other half */
    uint8_t state;
    uint8_t number;
    uint8_t source; /* brix_text_source */
    uint8_t target; /* where bytes of this string go */
    uint8_t is_key;
    uint8_t is_raw;
    uint8_t has_bytes;
    uint8_t hex_left;
    uint8_t tail_left; /* bytes that a UTF-8 sequence still needs, */
    uint8_t tail_low;  /* and the range of the next one */
    uint8_t tail_high;
    uint8_t key_length;
    int8_t field; /* the member of the top object we are in, or -1 */
    uint8_t text_parts;
    uint8_t wholes;   /* mask: which of the integers are some */
    uint8_t negative;
    char key[BRIX_SCAN_KEY];
} brix_scan;

/* Ready for the first chunk. model takes at most capacity bytes; sink may be NULL. */
void brix_scan_begin(brix_scan *scan, brix_text_source source, char *model, size_t capacity, brix_sink sink,
                     void *context);
/* The next chunk. After a fault the rest is ignored. */
void brix_scan_feed(brix_scan *scan, const char *bytes, size_t length);
/* The key of the value that begins. */
static inline brix_text brix_scan_key(const brix_scan *scan)
{
    return (brix_text){scan->key, scan->key_length};
}
/* 1 while the pieces are those of the query, which stands before all documents in the text of BRIX_TEXT_DOCUMENTS. */
static inline int brix_scan_is_query(const brix_scan *scan)
{
    return scan->source == BRIX_TEXT_DOCUMENTS && scan->field == BRIX_FIELD_QUERY;
}
/* max_tokens, else max_completion_tokens; 0 when it is no integer. */
int brix_scan_max_tokens(const brix_scan *scan, int64_t *value);
/* 1 when the number just read has neither fraction nor exponent. */
int brix_scan_is_integer(const brix_scan *scan);
/* 1 when the chunks were together one complete JSON object. */
int brix_scan_is_complete(const brix_scan *scan);

#endif
