#define _GNU_SOURCE
#include "reader.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "flow.h"

static uint64_t slot_byte(const brix_map *map, uint32_t index)
{
    return map->regions[BRIX_REGION_SLOTS].offset + map->regions[BRIX_REGION_SLOTS].stride * index;
}

/* A slot that is free and whose byte we can lock. One that is claimed without a lock belongs to a dead
   reader and waits for the writer's sweep. */
static brix_slot *claim_slot(const brix_map *map)
{
    for (uint32_t i = 0; i < map->limits.readers; i++) {
        brix_slot *slot = brix_map_slot(map, i);
        if (atomic_load_explicit(&slot->state, memory_order_acquire) != BRIX_SLOT_FREE)
            continue;
        if (brix_lock(map->file, slot_byte(map, i)) != BRIX_OK)
            continue;
        uint32_t state = BRIX_SLOT_FREE;
        if (atomic_compare_exchange_strong(&slot->state, &state, BRIX_SLOT_CLAIMED))
            return slot;
        brix_unlock(map->file, slot_byte(map, i));
    }
    return NULL;
}

static void close_view(brix_view *view)
{
    free(view->troubles);
    view->troubles = NULL;
    brix_vocabulary_close(view->vocabulary);
    view->vocabulary = NULL;
    brix_map_close(&view->map);
}

static brix_status open_view(const char *path, brix_view *view)
{
    static _Atomic uint64_t mappings;
    brix_status status = brix_map_open(path, &view->map);
    if (status != BRIX_OK)
        return status;
    view->number = atomic_fetch_add(&mappings, 1) + 1;
    view->slot = claim_slot(&view->map);
    view->troubles = calloc(view->map.limits.pods, sizeof *view->troubles);
    atomic_store(&view->trouble_until, 0);
    if (view->slot && view->troubles) {
        brix_vocabulary_open(path, &view->vocabulary);
        return BRIX_OK;
    }
    status = view->slot ? BRIX_SYSTEM : BRIX_FULL;
    close_view(view);
    return status;
}

/* Values of refs besides a count. Others may add and take back one at any moment, so that a change
   between them is an addition, never a store. */
#define UNUSED INT64_MIN
#define CHANGING (INT64_MIN / 2)

static void unmap_when_unused(brix_view *view)
{
    int64_t none = 0;
    if (!atomic_compare_exchange_strong(&view->refs, &none, CHANGING))
        return;
    close_view(view);
    atomic_fetch_add(&view->refs, UNUSED - CHANGING);
}

static brix_view *unused_view(brix_reader *reader)
{
    for (int i = 0; i < BRIX_VIEWS; i++) {
        int64_t unused = UNUSED;
        if (atomic_compare_exchange_strong(&reader->views[i].refs, &unused, CHANGING))
            return &reader->views[i];
    }
    return NULL;
}

/* Map what stands at the path now. Without success everybody goes on with the old segment. */
static brix_status replace_view(brix_reader *reader)
{
    brix_view *next = unused_view(reader), *last = atomic_load(&reader->current);
    if (!next)
        return BRIX_BUSY;
    brix_status status = open_view(reader->path, next);
    if (status != BRIX_OK) {
        atomic_fetch_add(&next->refs, UNUSED - CHANGING);
        return status;
    }
    atomic_fetch_add(&next->refs, 1 - CHANGING);
    atomic_store(&reader->current, next);
    if (last)
        brix_view_leave(last);
    return BRIX_OK;
}

static void follow_successor(brix_reader *reader)
{
    uint32_t idle = 0;
    if (!atomic_compare_exchange_strong(&reader->remapping, &idle, 1))
        return;
    brix_view *view = atomic_load(&reader->current);
    if (atomic_load(&brix_map_header(&view->map)->state) == BRIX_SEGMENT_SUPERSEDED)
        replace_view(reader);
    atomic_store(&reader->remapping, 0);
}

static brix_view *enter(brix_reader *reader)
{
    for (;;) {
        brix_view *view = atomic_load(&reader->current);
        atomic_fetch_add(&view->refs, 1);
        if (atomic_load(&reader->current) == view)
            return view;
        brix_view_leave(view);
    }
}

brix_view *brix_view_enter(brix_reader *reader)
{
    brix_view *view = enter(reader);
    if (atomic_load_explicit(&brix_map_header(&view->map)->state, memory_order_acquire) == BRIX_SEGMENT_LIVE)
        return view;
    brix_view_leave(view);
    follow_successor(reader);
    return enter(reader);
}

void brix_view_leave(brix_view *view)
{
    if (atomic_fetch_sub(&view->refs, 1) == 1)
        unmap_when_unused(view);
}

static brix_pin *take_pin(brix_slot *slot, uint32_t value)
{
    uint32_t first = (uint32_t)((uintptr_t)&value >> 12) * 2654435761u >> 16;
    for (uint32_t i = 0; i < 4 * BRIX_PINS; i++) {
        brix_pin *pin = &slot->pins[(first + i) % BRIX_PINS];
        uint32_t free_pin = 0;
        if (atomic_compare_exchange_strong(&pin->topology, &free_pin, value))
            return pin;
    }
    return NULL;
}

brix_held brix_hold(const brix_view *view)
{
    brix_header *header = brix_map_header(&view->map);
    uint32_t active = atomic_load(&header->active);
    brix_pin *pin = active >= 1 && active <= BRIX_TOPOLOGIES ? take_pin(view->slot, active) : NULL;
    if (!pin)
        return (brix_held){NULL, NULL};
    for (uint32_t again = atomic_load(&header->active); again != active; again = atomic_load(&header->active)) {
        active = again;
        atomic_store(&pin->topology, active);
    }
    if (active >= 1 && active <= BRIX_TOPOLOGIES)
        return (brix_held){brix_map_topology(&view->map, active - 1), pin};
    atomic_store(&pin->topology, 0);
    return (brix_held){NULL, NULL};
}

void brix_release(brix_held *held)
{
    if (held->pin)
        atomic_store_explicit(&held->pin->topology, 0, memory_order_release);
    *held = (brix_held){NULL, NULL};
}

uint64_t brix_reader_random(brix_reader *reader)
{
    uint64_t x = reader->seed[0] + atomic_fetch_add_explicit(&reader->counter, 0x9e3779b97f4a7c15u, memory_order_relaxed);
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27 ^ reader->seed[1]) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

void *brix_flow_take(brix_reader *reader, uint32_t *index)
{
    uint64_t head = atomic_load(&reader->flow_free);
    while ((uint32_t)head != 0) {
        uint32_t found = (uint32_t)head - 1;
        _Atomic uint32_t *link = (_Atomic uint32_t *)(void *)(reader->flows + reader->flow_bytes * found);
        uint64_t next = (head >> 32) + 1;
        if (!atomic_compare_exchange_weak(&reader->flow_free, &head, next << 32 | atomic_load(link)))
            continue;
        *index = found;
        return reader->flows + reader->flow_bytes * found;
    }
    uint32_t fresh = atomic_load(&reader->flow_used);
    do {
        if (fresh == reader->flow_count)
            return NULL;
    } while (!atomic_compare_exchange_weak(&reader->flow_used, &fresh, fresh + 1));
    *index = fresh;
    return reader->flows + reader->flow_bytes * fresh;
}

void brix_flow_give(brix_reader *reader, uint32_t index)
{
    _Atomic uint32_t *link = (_Atomic uint32_t *)(void *)(reader->flows + reader->flow_bytes * index);
    uint64_t head = atomic_load(&reader->flow_free), next;
    do {
        atomic_store(link, (uint32_t)head);
        next = ((head >> 32) + 1) << 32 | (index + 1);
    } while (!atomic_compare_exchange_weak(&reader->flow_free, &head, next));
}

static brix_status set_up(brix_reader *reader, const char *path, uint32_t flows)
{
    reader->flow_count = flows;
    reader->flow_bytes = brix_flow_bytes();
    void *memory = mmap(NULL, reader->flow_bytes * flows, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return BRIX_SYSTEM;
    reader->flows = memory;
    reader->path = strdup(path);
    if (!reader->path || getrandom(reader->seed, sizeof reader->seed, 0) != (ssize_t)sizeof reader->seed)
        return BRIX_SYSTEM;
    for (int i = 0; i < BRIX_VIEWS; i++)
        atomic_store(&reader->views[i].refs, UNUSED);
    return replace_view(reader);
}

void brix_reader_bound(brix_reader *reader, uint64_t held, uint64_t body)
{
    reader->held_limit = held;
    reader->body_limit = body;
}

void brix_reader_skip_answers(brix_reader *reader)
{
    reader->skips_answers = 1;
}

brix_status brix_reader_open(const char *path, uint32_t flows, brix_reader **result)
{
    if (flows == 0 || flows > 1u << 20)
        return BRIX_BAD;
    brix_reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return BRIX_SYSTEM;
    brix_status status = set_up(reader, path, flows);
    if (status == BRIX_OK) {
        *result = reader;
        return status;
    }
    int reason = errno;
    brix_reader_close(reader);
    errno = reason;
    return status;
}

void brix_reader_close(brix_reader *reader)
{
    for (int i = 0; i < BRIX_VIEWS; i++)
        if (atomic_load(&reader->views[i].refs) > 0)
            close_view(&reader->views[i]);
    if (reader->flows)
        munmap(reader->flows, reader->flow_bytes * reader->flow_count);
    free(reader->path);
    free(reader);
}
