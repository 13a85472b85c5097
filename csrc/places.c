#include "writer.h"

#include "counters.h"

static void digest_key(brix_text text, uint8_t key[BRIX_KEY])
{
    uint8_t digest[BRIX_DIGEST];
    brix_sha256(text.at, text.length, digest);
    memcpy(key, digest, BRIX_KEY);
}

static uint32_t key_hash(const uint8_t key[BRIX_KEY])
{
    uint32_t hash;
    memcpy(&hash, key, sizeof hash);
    return hash;
}

static uint32_t place_state(brix_place *place)
{
    return atomic_load_explicit(&place->state, memory_order_relaxed);
}

static void set_state(brix_place *place, uint32_t state)
{
    atomic_store_explicit(&place->state, state, memory_order_release);
}

static brix_place *row_of(const brix_map *map, brix_region_id region, uint32_t place)
{
    return brix_map_row(map, region, place);
}

static void index_add(brix_index *index, const uint8_t key[BRIX_KEY], uint32_t place)
{
    uint32_t at = key_hash(key) & index->mask;
    while (index->slots[at] != 0)
        at = (at + 1) & index->mask;
    index->slots[at] = place + 1;
}

static int64_t index_find(const brix_map *map, brix_region_id region, brix_index *index, const uint8_t key[BRIX_KEY])
{
    for (uint32_t at = key_hash(key) & index->mask; index->slots[at] != 0; at = (at + 1) & index->mask) {
        brix_place *row = row_of(map, region, index->slots[at] - 1);
        if (place_state(row) != BRIX_PLACE_FREE && memcmp(row->key, key, BRIX_KEY) == 0)
            return index->slots[at] - 1;
    }
    return -1;
}

static void load(const brix_map *map, brix_region_id region, brix_index *index)
{
    memset(index->slots, 0, ((size_t)index->mask + 1) * sizeof index->slots[0]);
    memset(index->named, 0, map->regions[region].count);
    for (uint32_t place = 0; place < map->regions[region].count; place++)
        if (place_state(row_of(map, region, place)) != BRIX_PLACE_FREE)
            index_add(index, row_of(map, region, place)->key, place);
}

void brix_index_load(brix_writer *writer)
{
    load(&writer->map, BRIX_REGION_POD_PLACES, &writer->pods);
    load(&writer->map, BRIX_REGION_MODEL_PLACES, &writer->models);
}

int64_t brix_place_find(const brix_map *map, brix_region_id region, const uint8_t key[BRIX_KEY])
{
    for (uint32_t place = 0; place < map->regions[region].count; place++) {
        brix_place *row = row_of(map, region, place);
        if (place_state(row) != BRIX_PLACE_FREE && memcmp(row->key, key, BRIX_KEY) == 0)
            return place;
    }
    return -1;
}

static int64_t first_in_state(const brix_map *map, brix_region_id region, uint32_t from, uint32_t state)
{
    for (uint32_t place = from; place < map->regions[region].count; place++)
        if (place_state(row_of(map, region, place)) == state)
            return place;
    return -1;
}

/* Free -> used: the generation first, so that a place never serves two things under one number. */
static void occupy(brix_place *row, const uint8_t key[BRIX_KEY], brix_text name)
{
    uint32_t generation = atomic_load_explicit(&row->generation, memory_order_relaxed);
    atomic_store_explicit(&row->generation, generation + 1, memory_order_release);
    memcpy(row->key, key, BRIX_KEY);
    atomic_store_explicit(&row->wanted, 0, memory_order_relaxed);
    row->name_length = (uint32_t)brix_text_copy(row->name, sizeof row->name, name);
    set_state(row, BRIX_PLACE_USED);
}

static void use(const brix_map *map, brix_region_id region, brix_index *index, uint32_t place)
{
    set_state(row_of(map, region, place), BRIX_PLACE_USED);
    index->named[place] = 1;
}

/* The retained count is set so that the sum with what live slots hold begins at zero. */
static void begin_at_zero(const brix_map *map, size_t offset)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < map->limits.readers; i++)
        sum += brix_read((_Atomic uint64_t *)(void *)((char *)brix_map_slot(map, i) + offset));
    char *retained = (char *)brix_map_retained(map);
    atomic_store_explicit((_Atomic uint64_t *)(void *)(retained + offset), 0 - sum, memory_order_relaxed);
}

/* A free place for a new pod, its retained count set so that it begins at zero. Returns -1 when all are taken. */
static int64_t settle_pod(brix_writer *writer, const uint8_t key[BRIX_KEY])
{
    const brix_map *map = &writer->map;
    int64_t place = first_in_state(map, BRIX_REGION_POD_PLACES, 0, BRIX_PLACE_FREE);
    if (place < 0)
        return -1;
    brix_slot *any = brix_map_slot(map, 0);
    begin_at_zero(map, (size_t)((char *)&brix_slot_pod(map, any, (uint32_t)place)->routed - (char *)any));
    occupy(brix_map_pod_place(map, (uint32_t)place), key, BRIX_NOTHING);
    index_add(&writer->pods, key, (uint32_t)place);
    return place;
}

brix_status brix_place_pod(brix_writer *writer, brix_text key_text, uint32_t *place)
{
    uint8_t key[BRIX_KEY];
    digest_key(key_text, key);
    int64_t found = index_find(&writer->map, BRIX_REGION_POD_PLACES, &writer->pods, key);
    if (found < 0)
        found = settle_pod(writer, key);
    if (found < 0)
        return BRIX_FULL;
    *place = (uint32_t)found;
    use(&writer->map, BRIX_REGION_POD_PLACES, &writer->pods, *place);
    return BRIX_OK;
}

static int is_model_busy(const brix_map *map, uint32_t place)
{
    for (uint32_t i = 0; i < map->limits.readers; i++)
        if (brix_cell_count(brix_read(&brix_slot_model(brix_map_slot(map, i), place)->in_flight)) > 0)
            return 1;
    return 0;
}

/* A model keeps its place, and so its series, until the table is full of others. */
static int64_t evict_model(const brix_map *map)
{
    int64_t place = first_in_state(map, BRIX_REGION_MODEL_PLACES, 1, BRIX_PLACE_DEPARTED);
    while (place > 0 && is_model_busy(map, (uint32_t)place))
        place = first_in_state(map, BRIX_REGION_MODEL_PLACES, (uint32_t)place + 1, BRIX_PLACE_DEPARTED);
    if (place < 0)
        return -1;
    brix_slot *any = brix_map_slot(map, 0);
    size_t first = (size_t)((char *)&brix_slot_model(any, (uint32_t)place)->endings - (char *)any);
    for (size_t at = 0; at < sizeof(brix_model_cells) - sizeof(brix_cell); at += sizeof(uint64_t))
        begin_at_zero(map, first + at);
    return place;
}

static int64_t settle_model(brix_writer *writer, const uint8_t key[BRIX_KEY], brix_text name)
{
    int64_t place = first_in_state(&writer->map, BRIX_REGION_MODEL_PLACES, 1, BRIX_PLACE_FREE);
    if (place < 0)
        place = evict_model(&writer->map);
    if (place < 0)
        return -1;
    occupy(brix_map_model_place(&writer->map, (uint32_t)place), key, name);
    index_add(&writer->models, key, (uint32_t)place);
    return place;
}

brix_status brix_place_model(brix_writer *writer, brix_text name, uint32_t *place)
{
    uint8_t key[BRIX_KEY];
    digest_key(name, key);
    int64_t found = index_find(&writer->map, BRIX_REGION_MODEL_PLACES, &writer->models, key);
    if (found < 0)
        found = settle_model(writer, key, name);
    if (found < 0)
        return BRIX_FULL;
    *place = (uint32_t)found;
    use(&writer->map, BRIX_REGION_MODEL_PLACES, &writer->models, *place);
    return BRIX_OK;
}
