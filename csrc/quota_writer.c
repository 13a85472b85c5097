#define _POSIX_C_SOURCE 200809L
#include "gauges.h"
#include "quota.h"
#include "writer.h"

/* --- the collector's side of the limits: it knows the users ---- */

static brix_limit *row_at(const brix_map *map, uint32_t index)
{
    return brix_map_row(map, BRIX_REGION_LIMITS, index);
}

static void mark(brix_limit *row, brix_limit_kind kind, uint32_t stamp)
{
    atomic_store_explicit(&row->kind, (uint64_t)stamp << 32 | kind, memory_order_release);
}

brix_status brix_writer_user_limits(brix_writer *writer, brix_text user, const brix_user_record *record, uint64_t now,
                                    uint64_t *key)
{
    if (user.length == 0)
        return BRIX_BAD;
    *key = brix_user_name(user);
    brix_limit_kind kind = record->exists ? BRIX_LIMIT_USER : BRIX_LIMIT_ABSENT;
    brix_limit *row = brix_limit_claim(&writer->map, *key, kind, record->replaces != 0, now ? now : brix_clock());
    if (!row)
        return BRIX_FULL;
    atomic_store_explicit(&row->rpm, record->rpm, memory_order_relaxed);
    atomic_store_explicit(&row->tpm, record->tpm, memory_order_relaxed);
    atomic_store_explicit(&row->touched, now ? now : brix_clock(), memory_order_relaxed);
    mark(row, kind, writer->users_stamp);
    return BRIX_OK;
}

void brix_writer_users_begin(brix_writer *writer)
{
    uint32_t stamp = (uint32_t)(brix_clock() >> 10);
    writer->users_stamp = stamp == writer->users_stamp || stamp == 0 ? stamp + 1 : stamp;
}

void brix_writer_users_end(brix_writer *writer)
{
    for (uint32_t i = 0; i < writer->map.regions[BRIX_REGION_LIMITS].count; i++) {
        brix_limit *row = row_at(&writer->map, i);
        uint64_t kind = atomic_load_explicit(&row->kind, memory_order_relaxed);
        if (atomic_load_explicit(&row->name, memory_order_relaxed) <= 1 || (uint32_t)kind == BRIX_LIMIT_MODEL)
            continue;
        if (kind >> 32 != writer->users_stamp)
            atomic_store_explicit(&row->name, 0, memory_order_release);
    }
}

#define COUNT_MASK ((1ull << 40) - 1)

/* What is owed of a minute that is over has no place in the shared window any more. */
static uint64_t collect(brix_limit *row, uint64_t minute)
{
    if ((atomic_load_explicit(&row->owed, memory_order_relaxed) & COUNT_MASK) == 0)
        return 0;
    uint64_t owed = atomic_exchange_explicit(&row->owed, 0, memory_order_acq_rel);
    return owed >> 40 == minute ? owed & COUNT_MASK : 0;
}

brix_status brix_writer_owed(brix_writer *writer, uint32_t *index, uint64_t now, brix_owed *owed)
{
    uint64_t minute = (now ? now : brix_clock()) / BRIX_MINUTE;
    for (; *index < writer->map.regions[BRIX_REGION_LIMITS].count; ++*index) {
        brix_limit *row = row_at(&writer->map, *index);
        uint64_t key = atomic_load_explicit(&row->name, memory_order_acquire);
        uint64_t tokens = key > 1 ? collect(row, minute) : 0;
        if (tokens == 0)
            continue;
        *owed = (brix_owed){key, tokens};
        ++*index;
        return BRIX_OK;
    }
    return BRIX_MISSING;
}

uint32_t brix_users_capacity(void)
{
    return BRIX_LIMIT_ROWS;
}
