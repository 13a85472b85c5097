#include "counters.h"

static const brix_ending ENDINGS[BRIX_ENDINGS] = {
    {BRIX_OUTCOME_OK, 200},
    {BRIX_OUTCOME_CLIENT_CANCELLED, 499},
    {BRIX_OUTCOME_SHUTDOWN, 503},
    {BRIX_OUTCOME_REJECTED, 0},
    {BRIX_OUTCOME_REJECTED, 400},
    {BRIX_OUTCOME_REJECTED, 401},
    {BRIX_OUTCOME_REJECTED, 404},
    {BRIX_OUTCOME_REJECTED, 405},
    {BRIX_OUTCOME_REJECTED, 413},
    {BRIX_OUTCOME_REJECTED, 429},
    {BRIX_OUTCOME_REJECTED, 431},
    {BRIX_OUTCOME_REJECTED, 500},
    {BRIX_OUTCOME_REJECTED, 501},
    {BRIX_OUTCOME_REJECTED, 503},
    {BRIX_OUTCOME_UPSTREAM_ERROR, 0},
    {BRIX_OUTCOME_UPSTREAM_ERROR, 400},
    {BRIX_OUTCOME_UPSTREAM_ERROR, 401},
    {BRIX_OUTCOME_UPSTREAM_ERROR, 403},
    {BRIX_OUTCOME_UPSTREAM_ERROR, 404},
    {BRIX_OUTCOME_UPSTREAM_ERROR, 408},
    {BRIX_OUTCOME_UPSTREAM_ERROR, 413},
    {BRIX_OUTCOME_UPSTREAM_ERROR, 422},
    {BRIX_OUTCOME_UPSTREAM_ERROR, 429},
    {BRIX_OUTCOME_UPSTREAM_ERROR, 499},
    {BRIX_OUTCOME_UPSTREAM_ERROR, 500},
    {BRIX_OUTCOME_UPSTREAM_ERROR, 502},
    {BRIX_OUTCOME_UPSTREAM_ERROR, 503},
    {BRIX_OUTCOME_UPSTREAM_ERROR, 504},
};

brix_ending brix_ending_at(uint32_t index)
{
    return index < BRIX_ENDINGS ? ENDINGS[index] : (brix_ending){BRIX_OUTCOME_NONE, 0};
}

uint32_t brix_ending_index(brix_outcome outcome, uint32_t code)
{
    uint32_t rest = 0;
    for (uint32_t i = 0; i < BRIX_ENDINGS; i++) {
        if (ENDINGS[i].outcome != outcome)
            continue;
        if (ENDINGS[i].code == code || outcome == BRIX_OUTCOME_OK)
            return i;
        if (ENDINGS[i].code == 0 || rest == 0)
            rest = i;
    }
    return rest;
}

int brix_cell_take(brix_cell *cell, uint32_t generation)
{
    uint64_t now = atomic_load_explicit(cell, memory_order_relaxed), next;
    do {
        if (brix_cell_generation(now) == generation)
            next = now + 1;
        else if (brix_cell_count(now) == 0)
            next = (uint64_t)generation << 32 | 1;
        else
            return 0;
    } while (!atomic_compare_exchange_weak_explicit(cell, &now, next, memory_order_acq_rel, memory_order_relaxed));
    return 1;
}

int brix_cell_give(brix_cell *cell, uint32_t generation)
{
    uint64_t now = atomic_load_explicit(cell, memory_order_relaxed);
    do {
        if (brix_cell_generation(now) != generation || brix_cell_count(now) == 0)
            return 0;
    } while (!atomic_compare_exchange_weak_explicit(cell, &now, now - 1, memory_order_acq_rel, memory_order_relaxed));
    return 1;
}
