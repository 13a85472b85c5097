/*
 * times.h: how long requests of a model took and how many tokens they had, in buckets.
 *
 *   times region: row 0, 1 retained, then one a slot
 *     row = [ model place 0 | 1 | 2 | ... ]       each BRIX_TIMES words: buckets, then sums in microseconds
 *
 * Bounds are those of the metrics catalogue (gateway 8.2): lower bound inclusive, the last bucket open. Only answers
 * that ended well and told their usage are counted.
 */
#ifndef BRIX_TIMES_H
#define BRIX_TIMES_H

#include "flow.h"

typedef struct {
    alignas(64) _Atomic uint64_t word[BRIX_TIMES];
} brix_times;

/* The row's cells of a model, or NULL in a segment that has no times. index: as of brix_map_more. */
brix_times *brix_map_times(const brix_map *map, uint32_t index, uint32_t place);

/* What this chunk of an answer means for the time to the first token: the first that carries content counts, and until
   one is known to, the first of all. */
void brix_times_see(brix_flow *flow, brix_text chunk);
/* Count an answer that is over. */
void brix_times_count(const brix_flow *flow);
/* Nanoseconds from the request's begin to its first token; 0 while there is none. */
uint64_t brix_times_first_token(const brix_flow *flow);

#endif
