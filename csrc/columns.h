/*
 * columns.h: one gauge over all candidates of a chunk, as plain numbers, so that compilers make vectors of the loops.
 *
 *   places  [ 7 8 9 10 ]   a run: the row itself from 7 on is the column, nothing is copied
 *   places  [ 7 3 9 11 ]   no run: the column is gathered into scratch
 *
 * The collector writes a row while it is read. Each number is one aligned word, which no machine that we build for
 * tears, and a sample that is half old and half new is allowed for (gauges.h). Only ThreadSanitizer cannot know that, so
 * under it columns are always gathered by atomic loads.
 */
#ifndef BRIX_COLUMNS_H
#define BRIX_COLUMNS_H

#include "search.h"

/* A loop marked so is also built for wider vectors, and the processor chooses when the library is loaded. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define BRIX_VECTORS __attribute__((target_clones("avx2", "default")))
#else
#define BRIX_VECTORS
#endif

typedef double __attribute__((may_alias)) brix_number;
typedef uint64_t __attribute__((may_alias)) brix_word;
typedef uint64_t brix_scratch[BRIX_CHUNK];

static inline const brix_word *brix_column_words(const _Atomic uint64_t *row, const brix_chunk *chunk,
                                                 brix_scratch scratch)
{
#if !defined(__SANITIZE_THREAD__)
    if (chunk->is_run)
        return (const brix_word *)(const void *)row + chunk->place[0];
#endif
    for (uint32_t c = 0; c < chunk->count; c++)
        scratch[c] = atomic_load_explicit(row + chunk->place[c], memory_order_relaxed);
    return scratch;
}

/* As doubles; scratch is used when there is no run, and must live as long as the column. */
static inline const brix_number *brix_column(const _Atomic uint64_t *row, const brix_chunk *chunk, brix_scratch scratch)
{
    return (const brix_number *)(const void *)brix_column_words(row, chunk, scratch);
}

static inline double brix_above_zero(double value)
{
    return value > 0 ? value : 0;
}

#endif
