/*
 * trouble.h: pods that gave this process no connection, left out for a while.
 *
 *   failures in a row   1     2      3     4    ...    8 and more
 *   left out for        0     0.5 s  1 s   2 s         30 s
 *
 * An answer of the engine, whatever it says, ends the row. Each reader process learns for itself: what one
 * cannot connect may be a matter of its own network. Out means last: with nobody else, these are used.
 */
#ifndef BRIX_TROUBLE_H
#define BRIX_TROUBLE_H

#include "reader.h"

#define BRIX_OUT_FIRST_NS 500000000ull
#define BRIX_OUT_LONGEST_NS 30000000000ull

/* now: CLOCK_MONOTONIC, nanoseconds. A place whose pod is another by now begins anew. */
void brix_trouble_failed(brix_view *view, uint32_t place, uint32_t generation, uint64_t now);
void brix_trouble_served(brix_view *view, uint32_t place, uint32_t generation);
int brix_trouble_is_out(const brix_view *view, uint32_t place, uint32_t generation, uint64_t now);

#endif
