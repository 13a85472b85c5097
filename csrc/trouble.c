#include "trouble.h"

/* Generation and failures in one word, so that a row never counts for another pod. */
static uint64_t row_of(uint32_t generation, uint32_t failures)
{
    return (uint64_t)generation << 32 | failures;
}

static uint64_t out_for(uint32_t failures)
{
    if (failures < 2)
        return 0;
    uint64_t length = failures < 10 ? BRIX_OUT_FIRST_NS << (failures - 2) : BRIX_OUT_LONGEST_NS;
    return length < BRIX_OUT_LONGEST_NS ? length : BRIX_OUT_LONGEST_NS;
}

static void extend(_Atomic uint64_t *last, uint64_t until)
{
    uint64_t seen = atomic_load_explicit(last, memory_order_relaxed);
    while (seen < until && !atomic_compare_exchange_weak(last, &seen, until)) {
    }
}

void brix_trouble_failed(brix_view *view, uint32_t place, uint32_t generation, uint64_t now)
{
    if (place >= view->map.limits.pods)
        return;
    brix_trouble *trouble = &view->troubles[place];
    uint64_t row = atomic_load(&trouble->row), next;
    do {
        uint32_t failures = row >> 32 == generation ? (uint32_t)row : 0;
        next = row_of(generation, failures < 1000 ? failures + 1 : failures);
    } while (!atomic_compare_exchange_weak(&trouble->row, &row, next));
    uint64_t length = out_for((uint32_t)next);
    if (length == 0)
        return;
    atomic_store(&trouble->until, now + length);
    extend(&view->trouble_until, now + length);
}

void brix_trouble_served(brix_view *view, uint32_t place, uint32_t generation)
{
    if (place >= view->map.limits.pods)
        return;
    uint64_t row = atomic_load_explicit(&view->troubles[place].row, memory_order_relaxed);
    if (row >> 32 == generation && (uint32_t)row > 0)
        atomic_compare_exchange_strong(&view->troubles[place].row, &row, 0);
}

int brix_trouble_is_out(const brix_view *view, uint32_t place, uint32_t generation, uint64_t now)
{
    if (place >= view->map.limits.pods || now >= atomic_load_explicit(&view->trouble_until, memory_order_relaxed))
        return 0;
    const brix_trouble *trouble = &view->troubles[place];
    uint64_t row = atomic_load_explicit(&trouble->row, memory_order_relaxed);
    return row >> 32 == generation && (uint32_t)row >= 2 && now < atomic_load_explicit(&trouble->until, memory_order_relaxed);
}
