#include "counters.h"
#include "times.h"
#include "writer.h"

/* Rows to sum: the claimed slots, and last the retained row. NULL for one that counts nothing. */
static brix_slot *row_at(const brix_map *map, uint32_t index)
{
    if (index == map->limits.readers)
        return brix_map_retained(map);
    brix_slot *slot = brix_map_slot(map, index);
    return atomic_load_explicit(&slot->state, memory_order_acquire) == BRIX_SLOT_CLAIMED ? slot : NULL;
}

/* The segment being left counts through its slots only: its retained row was folded into the new one. */
static int is_leaving(const brix_writer *writer)
{
    return writer->old.file >= 0 && !writer->unpublished;
}

static void add_more(brix_more *more, brix_totals *totals)
{
    for (uint32_t line = 0; more && line < BRIX_DECISIONS; line++)
        totals->without_data[line] += brix_read(&more->without_data[line]);
    if (!more)
        return;
    totals->pages += brix_read(&more->pages);
    totals->pages_failed += brix_read(&more->pages_failed);
    totals->wakes += brix_read(&more->wakes);
    totals->wakes_failed += brix_read(&more->wakes_failed);
    totals->asked += brix_read(&more->asked);
    totals->unanswered += brix_read(&more->unanswered);
    totals->degraded += brix_read(&more->degraded);
}

void brix_writer_count_page(brix_writer *writer, int failed)
{
    brix_more *more = brix_map_retained_more(&writer->map);
    if (more)
        brix_add(failed ? &more->pages_failed : &more->pages, 1);
}

void brix_writer_count_wake(brix_writer *writer, int failed)
{
    brix_more *more = brix_map_retained_more(&writer->map);
    if (more)
        brix_add(failed ? &more->wakes_failed : &more->wakes, 1);
}

static void add_head(const brix_map *map, int slots_only, brix_totals *totals)
{
    for (uint32_t i = 0; i <= map->limits.readers - (uint32_t)slots_only; i++) {
        brix_slot *row = row_at(map, i);
        if (!row)
            continue;
        totals->requests += brix_read(&row->requests);
        totals->anomalies += brix_read(&row->anomalies);
        totals->unparsed += brix_read(&row->unparsed);
        for (uint32_t line = 0; line < BRIX_DECISIONS; line++)
            totals->decisions[line] += brix_read(&row->decisions[line]);
        add_more(i == map->limits.readers ? brix_map_retained_more(map) : brix_map_more(map, i + 2), totals);
        if (i == map->limits.readers)
            continue;
        totals->in_flight += (int64_t)(brix_read(&row->requests) - brix_read(&row->ended));
        totals->readers++;
    }
}

void brix_writer_totals(brix_writer *writer, brix_totals *totals)
{
    *totals = (brix_totals){.bytes = writer->map.bytes};
    add_head(&writer->map, 0, totals);
    if (is_leaving(writer))
        add_head(&writer->old, 1, totals);
}

static void add_model(const brix_map *map, int slots_only, uint32_t place, brix_model_totals *totals)
{
    for (uint32_t i = 0; i <= map->limits.readers - (uint32_t)slots_only; i++) {
        brix_slot *row = row_at(map, i);
        if (!row)
            continue;
        brix_model_cells *cells = brix_slot_model(row, place);
        totals->in_flight += brix_cell_count(brix_read(&cells->in_flight));
        for (uint32_t line = 0; line < BRIX_ENDINGS; line++)
            totals->endings[line] += brix_read(&cells->endings[line]);
        totals->with_usage += brix_read(&cells->with_usage);
        totals->prompt_tokens += brix_read(&cells->prompt_tokens);
        totals->completion_tokens += brix_read(&cells->completion_tokens);
        uint32_t index = i == map->limits.readers ? brix_map_retained_index(map) : i + 2;
        brix_times *times = brix_map_times(map, index, place);
        for (uint32_t word = 0; times && word < BRIX_TIMES; word++)
            totals->times[word] += brix_read(&times->word[word]);
    }
}

brix_status brix_writer_model_totals(brix_writer *writer, uint32_t index, brix_model_totals *totals)
{
    if (index > writer->map.limits.models)
        return BRIX_MISSING;
    brix_place *place = brix_map_model_place(&writer->map, index);
    memset(totals, 0, sizeof *totals);
    if (index > 0 && atomic_load_explicit(&place->state, memory_order_relaxed) == BRIX_PLACE_FREE)
        return BRIX_OK;
    totals->name_length = (uint32_t)brix_text_copy(totals->name, sizeof totals->name,
                                                   (brix_text){place->name, index ? place->name_length : 0});
    add_model(&writer->map, 0, index, totals);
    if (!is_leaving(writer))
        return BRIX_OK;
    int64_t old = index ? brix_place_find(&writer->old, BRIX_REGION_MODEL_PLACES, place->key) : 0;
    if (old >= 0)
        add_model(&writer->old, 1, (uint32_t)old, totals);
    return BRIX_OK;
}

brix_status brix_writer_pod_totals(brix_writer *writer, uint32_t index, brix_pod_totals *totals)
{
    uint32_t active = atomic_load_explicit(&brix_map_header(&writer->map)->active, memory_order_relaxed);
    if (active == 0)
        return BRIX_MISSING;
    brix_topology *topology = brix_map_topology(&writer->map, active - 1);
    if (index >= topology->pods)
        return BRIX_MISSING;
    brix_pod_row *pod = brix_topology_pod(&writer->map, topology, index);
    *totals = (brix_pod_totals){.place = pod->place, .generation = pod->generation};
    for (uint32_t i = 0; i <= writer->map.limits.readers; i++) {
        brix_slot *row = row_at(&writer->map, i);
        if (!row)
            continue;
        brix_pod_cells *cells = brix_slot_pod(&writer->map, row, pod->place);
        totals->running += brix_cell_for(&cells->running, pod->generation);
        totals->routed += brix_read(&cells->routed);
    }
    return BRIX_OK;
}
