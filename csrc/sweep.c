#include "counters.h"
#include "times.h"
#include "writer.h"

int brix_is_pinned(const brix_map *map, uint32_t topology)
{
    for (uint32_t i = 0; i < map->limits.readers; i++) {
        brix_slot *slot = brix_map_slot(map, i);
        if (atomic_load_explicit(&slot->state, memory_order_seq_cst) != BRIX_SLOT_CLAIMED)
            continue;
        for (uint32_t pin = 0; pin < BRIX_PINS; pin++)
            if (atomic_load_explicit(&slot->pins[pin].topology, memory_order_seq_cst) == topology + 1)
                return 1;
    }
    return 0;
}

static void add_model(brix_model_cells *to, brix_model_cells *from)
{
    for (uint32_t i = 0; i < BRIX_ENDINGS; i++)
        brix_add(&to->endings[i], brix_read(&from->endings[i]));
    brix_add(&to->with_usage, brix_read(&from->with_usage));
    brix_add(&to->prompt_tokens, brix_read(&from->prompt_tokens));
    brix_add(&to->completion_tokens, brix_read(&from->completion_tokens));
}

static void add_head(brix_slot *to, brix_slot *from)
{
    brix_add(&to->requests, brix_read(&from->requests));
    brix_add(&to->anomalies, brix_read(&from->anomalies));
    brix_add(&to->unparsed, brix_read(&from->unparsed));
    for (uint32_t i = 0; i < BRIX_DECISIONS; i++)
        brix_add(&to->decisions[i], brix_read(&from->decisions[i]));
}

/* Where a place of another segment is in this one; a model that is unknown here gets a place. */
static int64_t place_here(brix_writer *writer, const brix_map *from, brix_region_id region, uint32_t place)
{
    if (from == &writer->map)
        return place;
    if (region == BRIX_REGION_MODEL_PLACES && place == 0)
        return 0;
    brix_place *row = brix_map_row(from, region, place);
    if (atomic_load_explicit(&row->state, memory_order_relaxed) == BRIX_PLACE_FREE)
        return -1;
    int64_t found = brix_place_find(&writer->map, region, row->key);
    uint32_t fresh;
    if (found >= 0 || region == BRIX_REGION_POD_PLACES)
        return found;
    if (brix_place_model(writer, (brix_text){row->name, row->name_length}, &fresh) != BRIX_OK)
        return -1;
    return fresh;
}

static void add_more(brix_more *to, brix_more *from)
{
    for (uint32_t i = 0; from && i < BRIX_DECISIONS; i++)
        brix_add(&to->without_data[i], brix_read(&from->without_data[i]));
    if (!from)
        return;
    brix_add(&to->pages, brix_read(&from->pages));
    brix_add(&to->pages_failed, brix_read(&from->pages_failed));
    brix_add(&to->wakes, brix_read(&from->wakes));
    brix_add(&to->wakes_failed, brix_read(&from->wakes_failed));
    brix_add(&to->asked, brix_read(&from->asked));
    brix_add(&to->unanswered, brix_read(&from->unanswered));
    brix_add(&to->degraded, brix_read(&from->degraded));
}

static void add_times(brix_times *to, brix_times *from)
{
    for (uint32_t i = 0; to && from && i < BRIX_TIMES; i++)
        brix_add(&to->word[i], brix_read(&from->word[i]));
}

/* index and next: of the rows of more and times. */
static void add_models(brix_writer *writer, const brix_map *from, brix_slot *row, uint32_t index, brix_slot *target,
                       uint32_t next)
{
    for (uint32_t place = 0; place <= from->limits.models; place++) {
        int64_t here = place_here(writer, from, BRIX_REGION_MODEL_PLACES, place);
        if (here < 0)
            continue;
        add_model(brix_slot_model(target, (uint32_t)here), brix_slot_model(row, place));
        add_times(brix_map_times(&writer->map, next, (uint32_t)here), brix_map_times(from, index, place));
    }
}

static void add_pods(brix_writer *writer, const brix_map *from, brix_slot *row, brix_slot *target)
{
    for (uint32_t place = 0; place < from->limits.pods; place++) {
        int64_t here = place_here(writer, from, BRIX_REGION_POD_PLACES, place);
        if (here >= 0)
            brix_add(&brix_slot_pod(&writer->map, target, (uint32_t)here)->routed,
                     brix_read(&brix_slot_pod(from, row, place)->routed));
    }
}

static void clear_row(const brix_map *map, brix_region_id region, uint32_t index)
{
    if (!brix_map_has(map, region))
        return;
    _Atomic uint64_t *words = brix_map_row(map, region, index);
    for (size_t i = 0; i < map->regions[region].stride / sizeof *words; i++)
        atomic_store_explicit(words + i, 0, memory_order_relaxed);
}

static void clear_slot(const brix_map *map, uint32_t index)
{
    brix_slot *slot = brix_map_slot(map, index);
    clear_row(map, BRIX_REGION_MORE, index + 2);
    clear_row(map, BRIX_REGION_TIMES, index + 2);
    size_t words = map->regions[BRIX_REGION_SLOTS].stride / sizeof(uint64_t);
    size_t first = offsetof(brix_slot, requests) / sizeof(uint64_t);
    for (size_t i = first; i < words; i++)
        atomic_store_explicit((_Atomic uint64_t *)(void *)slot + i, 0, memory_order_relaxed);
}

/* One store makes the new retained row true and names the slot it contains, so a writer killed
   anywhere counts a slot once: its successor sees which slot still has to be cleared. */
void brix_fold(brix_writer *writer, const brix_map *from, brix_slot *row, uint32_t index, int64_t slot)
{
    const brix_map *map = &writer->map;
    brix_header *header = brix_map_header(map);
    uint32_t truth = (uint32_t)(atomic_load_explicit(&header->fold, memory_order_relaxed) & 1), next = 1 - truth;
    brix_slot *target = brix_map_row(map, BRIX_REGION_RETAINED, next);
    memcpy(target, brix_map_row(map, BRIX_REGION_RETAINED, truth), map->regions[BRIX_REGION_RETAINED].stride);
    memcpy(brix_map_more(map, next), brix_map_more(map, truth), sizeof(brix_more));
    if (brix_map_has(map, BRIX_REGION_TIMES))
        memcpy(brix_map_times(map, next, 0), brix_map_times(map, truth, 0), map->regions[BRIX_REGION_TIMES].stride);
    add_head(target, row);
    add_more(brix_map_more(map, next), brix_map_more(from, index));
    add_models(writer, from, row, index, target, next);
    add_pods(writer, from, row, target);
    atomic_store_explicit(&header->fold, (uint64_t)(slot + 1) << 32 | next, memory_order_release);
    brix_fold_recover(map);
}

void brix_fold_recover(const brix_map *map)
{
    brix_header *header = brix_map_header(map);
    uint64_t fold = atomic_load_explicit(&header->fold, memory_order_acquire);
    uint64_t slot = fold >> 32;
    if (slot == 0 || slot > map->limits.readers)
        return;
    clear_slot(map, (uint32_t)slot - 1);
    atomic_store_explicit(&header->fold, fold & 1, memory_order_release);
}

/* Fold and free one slot when its reader is gone. Returns 1 then. */
static int sweep_slot(brix_writer *writer, const brix_map *map, uint32_t index)
{
    brix_slot *slot = brix_map_slot(map, index);
    uint64_t byte = map->regions[BRIX_REGION_SLOTS].offset + map->regions[BRIX_REGION_SLOTS].stride * index;
    if (brix_lock(map->file, byte) != BRIX_OK)
        return 0;
    brix_fold(writer, map, slot, index + 2, map == &writer->map ? (int64_t)index : -1);
    clear_slot(map, index);
    atomic_store_explicit(&slot->state, BRIX_SLOT_FREE, memory_order_release);
    brix_unlock(map->file, byte);
    return 1;
}

static void sweep_slots(brix_writer *writer, const brix_map *map, brix_swept *swept)
{
    for (uint32_t i = 0; i < map->limits.readers; i++) {
        if (atomic_load_explicit(&brix_map_slot(map, i)->state, memory_order_acquire) != BRIX_SLOT_CLAIMED)
            continue;
        if (sweep_slot(writer, map, i))
            swept->slots_freed++;
        else
            swept->slots_live++;
    }
}

static int is_any_stale_pin(const brix_map *map)
{
    uint32_t active = atomic_load_explicit(&brix_map_header(map)->active, memory_order_seq_cst);
    for (uint32_t i = 0; i < BRIX_TOPOLOGIES; i++)
        if (i + 1 != active && brix_is_pinned(map, i))
            return 1;
    return 0;
}

static int is_pod_counted(const brix_map *map, uint32_t place)
{
    for (uint32_t i = 0; i < map->limits.readers; i++)
        if (brix_cell_count(brix_read(&brix_slot_pod(map, brix_map_slot(map, i), place)->running)) > 0)
            return 1;
    return 0;
}

static void sweep_places(const brix_map *map, brix_swept *swept)
{
    int stale = is_any_stale_pin(map);
    for (uint32_t i = 0; i < map->limits.pods; i++) {
        brix_place *place = brix_map_pod_place(map, i);
        if (atomic_load_explicit(&place->state, memory_order_relaxed) != BRIX_PLACE_DEPARTED)
            continue;
        if (stale || is_pod_counted(map, i)) {
            swept->places_held++;
            continue;
        }
        atomic_store_explicit(&place->state, BRIX_PLACE_FREE, memory_order_release);
        swept->places_freed++;
    }
}

brix_status brix_writer_sweep(brix_writer *writer, brix_swept *swept)
{
    *swept = (brix_swept){0};
    sweep_slots(writer, &writer->map, swept);
    sweep_places(&writer->map, swept);
    if (writer->old.file < 0 || writer->unpublished)
        return BRIX_OK;
    brix_swept left = {0};
    sweep_slots(writer, &writer->old, &left);
    if (left.slots_live == 0)
        brix_map_close(&writer->old);
    return BRIX_OK;
}
