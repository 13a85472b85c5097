/*
 * segment.h: the mapped file and the way to its rows.
 *
 *   path           the segment in force            byte locks on it: slot rows, held by readers
 *   path + ".new"  one being prepared              renamed over path when first published
 *   path + ".lock" the writer's lock               held for the writer's life
 *   path + ".foreign" what stood at path and was no segment
 *
 * Locks are open-file-description locks: the system frees them when the holder dies. A published file is
 * never truncated; its memory was allocated before, so no access can fail for lack of it. Offsets and
 * counts are checked when mapped and kept outside of the mapping, and rows are found only through them.
 */
#ifndef BRIX_SEGMENT_H
#define BRIX_SEGMENT_H

#include "layout.h"
#include "text.h"

#define BRIX_FILE_MODE 0660 /* whatever the umask: gateway processes share a group */

typedef struct {
    int file; /* -1: nothing is mapped */
    unsigned char *base;
    size_t bytes;
    brix_limits limits;
    brix_region regions[BRIX_REGIONS];
    size_t pods_at; /* inside a topology */
    size_t members_at;
    size_t names_at;
    size_t text_at;
    uint32_t names; /* slots of a topology's name table, a power of two */
} brix_map;

/* Create, allocate and map a segment under the given name, which must not exist. */
brix_status brix_map_create(const char *path, const brix_limits *limits, brix_map *map);
/* Map an existing one. MISSING, FOREIGN (never mapped then) or SYSTEM. */
brix_status brix_map_open(const char *path, brix_map *map);
void brix_map_close(brix_map *map);
/* 1 when limits are within what offsets can express. */
int brix_limits_sane(const brix_limits *limits);

/* Byte lock without waiting: OK or BUSY. */
brix_status brix_lock(int file, uint64_t offset);
void brix_unlock(int file, uint64_t offset);

static inline brix_header *brix_map_header(const brix_map *map)
{
    return (brix_header *)(void *)map->base;
}

static inline void *brix_map_row(const brix_map *map, brix_region_id region, uint32_t index)
{
    return map->base + map->regions[region].offset + map->regions[region].stride * index;
}

static inline brix_slot *brix_map_slot(const brix_map *map, uint32_t index)
{
    return brix_map_row(map, BRIX_REGION_SLOTS, index);
}

/* The number of a slot. */
static inline uint32_t brix_slot_index(const brix_map *map, const brix_slot *slot)
{
    const brix_region *slots = &map->regions[BRIX_REGION_SLOTS];
    return (uint32_t)(((size_t)((const unsigned char *)slot - map->base) - slots->offset) / slots->stride);
}

/* 1 when the file is of a minor version that has this region. */
static inline int brix_map_has(const brix_map *map, brix_region_id region)
{
    return map->regions[region].count > 0;
}

/* What a slot counts beyond minor 0: index 0 and 1 are the retained rows, then the slots. */
static inline brix_more *brix_map_more(const brix_map *map, uint32_t index)
{
    return brix_map_has(map, BRIX_REGION_MORE) ? brix_map_row(map, BRIX_REGION_MORE, index) : NULL;
}

/* The row of what dead readers counted that is true now. */
static inline brix_slot *brix_map_retained(const brix_map *map)
{
    uint64_t fold = atomic_load_explicit(&brix_map_header(map)->fold, memory_order_acquire);
    return brix_map_row(map, BRIX_REGION_RETAINED, (uint32_t)(fold & 1));
}

/* The index of the retained row that is true now, among rows like those of brix_map_more. */
static inline uint32_t brix_map_retained_index(const brix_map *map)
{
    return (uint32_t)(atomic_load_explicit(&brix_map_header(map)->fold, memory_order_acquire) & 1);
}

static inline brix_more *brix_map_retained_more(const brix_map *map)
{
    return brix_map_more(map, brix_map_retained_index(map));
}

static inline brix_model_cells *brix_slot_model(brix_slot *slot, uint32_t place)
{
    return (brix_model_cells *)(void *)((char *)slot + sizeof(brix_slot)) + place;
}

static inline brix_pod_cells *brix_slot_pod(const brix_map *map, brix_slot *slot, uint32_t place)
{
    return (brix_pod_cells *)(void *)brix_slot_model(slot, map->limits.models + 1) + place;
}

static inline brix_place *brix_map_pod_place(const brix_map *map, uint32_t place)
{
    return brix_map_row(map, BRIX_REGION_POD_PLACES, place);
}

static inline brix_place *brix_map_model_place(const brix_map *map, uint32_t place)
{
    return brix_map_row(map, BRIX_REGION_MODEL_PLACES, place);
}

static inline brix_topology *brix_map_topology(const brix_map *map, uint32_t index)
{
    return brix_map_row(map, BRIX_REGION_TOPOLOGY, index);
}

static inline brix_model_row *brix_topology_model(brix_topology *topology, uint32_t index)
{
    return (brix_model_row *)(void *)((char *)topology + sizeof(brix_topology)) + index;
}

static inline brix_pod_row *brix_topology_pod(const brix_map *map, brix_topology *topology, uint32_t index)
{
    return (brix_pod_row *)(void *)((char *)topology + map->pods_at) + index;
}

static inline uint32_t *brix_topology_members(const brix_map *map, brix_topology *topology)
{
    return (uint32_t *)(void *)((char *)topology + map->members_at);
}

static inline uint32_t *brix_topology_names(const brix_map *map, brix_topology *topology)
{
    return (uint32_t *)(void *)((char *)topology + map->names_at);
}

/* The text of a span; nothing when the span does not lie in the text, as in a damaged segment. */
static inline brix_text brix_topology_text(const brix_map *map, brix_topology *topology, brix_span span)
{
    uint32_t limit = map->limits.text_bytes;
    if (span.at > limit || span.length > limit - span.at)
        return BRIX_NOTHING;
    return (brix_text){(char *)topology + map->text_at + span.at, span.length};
}

static inline uint64_t brix_name_hash(brix_text name)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < name.length; i++)
        hash = (hash ^ (unsigned char)name.at[i]) * 0x100000001b3u;
    return hash ^ hash >> 32;
}

/* Index of the model, or -1. */
int64_t brix_topology_find(const brix_map *map, brix_topology *topology, brix_text name);

#endif
