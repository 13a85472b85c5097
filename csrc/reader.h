/*
 * reader.h: a gateway process's side of the segment.
 *
 *   reader
 *     current --> view 1 (path's segment)    refs: flows that began on it, plus one for current
 *                 view 0 (superseded)        unmapped when its last flow has ended
 *     flows: [flow][flow][free]...           one anonymous mapping, pages taken when first used
 *
 * Threads take no lock. A view is entered by counting oneself in and looking again; only one thread
 * at a time maps a successor, the others go on with what they have.
 */
#ifndef BRIX_READER_H
#define BRIX_READER_H

#include "bpe.h"
#include "segment.h"

#define BRIX_VIEWS 8

/* What is known of the way to a pod place; see trouble.h. */
typedef struct {
    _Atomic uint64_t row;
    _Atomic uint64_t until;
} brix_trouble;

typedef struct {
    _Atomic int64_t refs; /* below zero: free for the next mapping */
    uint64_t number; /* no two mappings of this process have the same; from 1 on */
    brix_map map;
    brix_slot *slot;
    brix_trouble *troubles; /* by pod place */
    brix_vocabulary *vocabulary; /* NULL: there is none, nothing is counted */
    _Atomic uint64_t trouble_until; /* nobody is left out from here on */
} brix_view;

struct brix_reader {
    char *path;
    _Atomic(brix_view *) current;
    _Atomic uint32_t remapping;
    _Atomic uint64_t counter;
    uint64_t seed[2];
    brix_view views[BRIX_VIEWS];
    char *flows;
    size_t flow_bytes;
    uint32_t flow_count;
    _Atomic uint32_t flow_used;  /* never given out beyond it */
    _Atomic uint64_t flow_free;  /* high half: changes; low half: index plus one */
    _Atomic uint64_t held;       /* bytes of request bodies */
    uint64_t held_limit;         /* 0: none */
    uint32_t skips_answers;
    uint64_t body_limit;         /* of one request; above it the host refuses */
};

/* Enter the newest segment, mapping a successor when the current one is superseded. */
brix_view *brix_view_enter(brix_reader *reader);
void brix_view_leave(brix_view *view);

/* A topology held while it is being read: shortly, inside one decision. */
typedef struct {
    brix_topology *topology; /* NULL: none was published, or no pin was free */
    brix_pin *pin;
} brix_held;

brix_held brix_hold(const brix_view *view);
void brix_release(brix_held *held);

/* 64 random bits, different for each call. */
uint64_t brix_reader_random(brix_reader *reader);

/* Memory for a flow, or NULL when all are in use; its content is what the last one left. */
void *brix_flow_take(brix_reader *reader, uint32_t *index);
void brix_flow_give(brix_reader *reader, uint32_t index);

#endif
