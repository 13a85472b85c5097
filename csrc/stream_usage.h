/*
 * stream_usage.h: counting streams whose clients did not ask for usage, so that they do not notice.
 *
 *   request   {"model": ..., "stream": true}
 *                                          ^ ,"stream_options":{"include_usage":true}      one edit, in place
 *   answer    data: {...}  data: {"choices":[],"usage":{...}}  data: [DONE]
 *                          '--------- left out --------------'
 *
 * An event passes as soon as its last byte is here; one that is cut by the end of a chunk is held until then, since a
 * client could not read its half either. One that is too long to be held passes as it comes.
 */
#ifndef BRIX_STREAM_USAGE_H
#define BRIX_STREAM_USAGE_H

#include "action.h"
#include "intake.h"

/* Replace `removed` bytes at `at` by `insert`. */
typedef struct {
    uint64_t at;
    uint32_t removed;
    brix_text insert;
} brix_edit;

/* 1 when this body asks for a stream without usage, and how to ask for it. */
int brix_usage_edit(const brix_intake *intake, brix_edit *edit);

typedef struct {
    uint8_t is_on;
    uint8_t in_line; /* bytes of the line were there */
    uint8_t passes;  /* the event was too long to be held */
    uint32_t held;
} brix_events;

/* The next chunk of the answer: leave out what only usage says. held is room for the begin of an event; scratch must
   have room for it and the chunk. */
void brix_events_filter(brix_events *events, char *held, size_t capacity, brix_text chunk, int end, brix_out *scratch,
                        brix_action *action);

#endif
