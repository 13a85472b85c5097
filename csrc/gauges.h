/*
 * gauges.h: what engines say of themselves, as arrays over the pod places.
 *
 *   place      0     1     2    ...
 *   TAKEN    [ t0 ][ t1 ][ t2 ]      nanoseconds; 0: nothing, or being written
 *   OWNER    [ g0 ][ g1 ][ g2 ]      generation of the pod that the column is about
 *   RUNNING  [ .. ][ .. ][ .. ]      doubles, NaN: missing
 *   ...
 *
 * Readers take no lock: a reader beside the writer may see numbers of two samples of one pod, each of them
 * true a moment ago. A column of another generation or older than BRIX_GAUGE_LIFE counts as missing.
 */
#ifndef BRIX_GAUGES_H
#define BRIX_GAUGES_H

#include <time.h>

#include "segment.h"

#define BRIX_GAUGE_LIFE 5000000000u /* nanoseconds */

static inline _Atomic uint64_t *brix_gauge_row(const brix_map *map, brix_gauge gauge)
{
    return brix_map_row(map, BRIX_REGION_GAUGES, (uint32_t)gauge);
}

static inline uint64_t brix_gauge_bits(const brix_map *map, brix_gauge gauge, uint32_t place)
{
    return atomic_load_explicit(brix_gauge_row(map, gauge) + place, memory_order_relaxed);
}

static inline double brix_double(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline double brix_gauge_read(const brix_map *map, brix_gauge gauge, uint32_t place)
{
    return brix_double(brix_gauge_bits(map, gauge, place));
}

/* The value of a place in a row, for loops that look the row up once. */
static inline double brix_gauge_at(const _Atomic uint64_t *row, uint32_t place)
{
    return brix_double(atomic_load_explicit(row + place, memory_order_relaxed));
}

/* What was taken before this moment is too old now. Never 0, which stands for nothing. */
static inline uint64_t brix_gauge_oldest(uint64_t now)
{
    return now > BRIX_GAUGE_LIFE ? now - BRIX_GAUGE_LIFE : 1;
}

/* 1 when the column of this place is about this generation and young enough. */
static inline int brix_gauge_is_fresh(const brix_map *map, uint32_t place, uint32_t generation, uint64_t oldest)
{
    uint64_t taken = atomic_load_explicit(brix_gauge_row(map, BRIX_GAUGE_TAKEN) + place, memory_order_acquire);
    return taken >= oldest && brix_gauge_bits(map, BRIX_GAUGE_OWNER, place) == generation;
}

/* Make these values true for the pod of this generation. TAKEN and OWNER of values are not looked at. */
void brix_gauge_write(const brix_map *map, uint32_t place, uint32_t generation, uint64_t taken,
                      const double values[BRIX_GAUGES]);

static inline uint64_t brix_clock(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

#endif
