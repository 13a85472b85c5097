/*
 * counters.h: counting in a slot, and what the endings mean.
 *
 *   cell = [ generation : 32 | count : 32 ]
 *
 * A cell takes a new generation only when it counts nothing; a count taken back under another
 * generation changes nothing and is noted as an anomaly.
 */
#ifndef BRIX_COUNTERS_H
#define BRIX_COUNTERS_H

#include "layout.h"

static inline void brix_add(_Atomic uint64_t *counter, uint64_t amount)
{
    atomic_fetch_add_explicit(counter, amount, memory_order_relaxed);
}

static inline uint64_t brix_read(_Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static inline uint32_t brix_cell_count(uint64_t cell)
{
    return (uint32_t)cell;
}

static inline uint32_t brix_cell_generation(uint64_t cell)
{
    return (uint32_t)(cell >> 32);
}

/* What the cell counts for this generation. */
static inline uint32_t brix_cell_for(brix_cell *cell, uint32_t generation)
{
    uint64_t now = atomic_load_explicit(cell, memory_order_relaxed);
    return brix_cell_generation(now) == generation ? brix_cell_count(now) : 0;
}

/* One more for this generation. 0 when the cell still counts for another one. */
int brix_cell_take(brix_cell *cell, uint32_t generation);
/* One less for this generation. 0 when there was none. */
int brix_cell_give(brix_cell *cell, uint32_t generation);

/* The line of endings for this outcome and status. */
uint32_t brix_ending_index(brix_outcome outcome, uint32_t code);

#endif
