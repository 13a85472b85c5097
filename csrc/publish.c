#define _GNU_SOURCE
#include "claim.h"
#include "writer.h"

#include <stdio.h>
#include <unistd.h>

static uint32_t active_of(const brix_map *map)
{
    return atomic_load_explicit(&brix_map_header(map)->active, memory_order_seq_cst);
}

static int64_t spare_topology(const brix_map *map)
{
    uint32_t active = active_of(map);
    for (uint32_t i = 0; i < BRIX_TOPOLOGIES; i++)
        if (i + 1 != active && !brix_is_pinned(map, i))
            return i;
    return -1;
}

brix_status brix_writer_begin(brix_writer *writer)
{
    brix_swept swept;
    int64_t spare = spare_topology(&writer->map);
    if (spare < 0) {
        brix_writer_sweep(writer, &swept);
        spare = spare_topology(&writer->map);
    }
    writer->building = NULL;
    if (spare < 0)
        return BRIX_BUSY;
    writer->building_index = (uint32_t)spare;
    writer->building = brix_map_topology(&writer->map, (uint32_t)spare);
    memset(writer->building, 0, sizeof *writer->building);
    uint32_t *names = brix_topology_names(&writer->map, writer->building);
    memset(names, 0, writer->map.names * sizeof names[0]);
    brix_index_load(writer);
    return BRIX_OK;
}

brix_status brix_put_text(brix_writer *writer, brix_text text, brix_span *span)
{
    brix_topology *topology = writer->building;
    if (text.length > writer->map.limits.text_bytes - topology->text_used)
        return BRIX_FULL;
    *span = (brix_span){topology->text_used, (uint32_t)text.length};
    char *target = (char *)topology + writer->map.text_at + span->at;
    topology->text_used += (uint32_t)brix_text_copy(target, text.length, text);
    return BRIX_OK;
}

static uint32_t thousandths(double weight)
{
    return weight > 0 && weight < 4e6 ? (uint32_t)(weight * 1000 + 0.5) : 0;
}

brix_status brix_writer_settings(brix_writer *writer, const brix_settings *settings)
{
    brix_topology *topology = writer->building;
    brix_text key = brix_text_trim(settings->api_key);
    if (!topology || settings->default_strategy.length >= BRIX_STRATEGY)
        return BRIX_BAD;
    topology->has_key = key.length > 0;
    if (topology->has_key)
        brix_sha256(key.at, key.length, topology->key_digest);
    topology->hide_pod_address = settings->hide_pod_address != 0;
    topology->leave_streams = settings->leave_streams != 0;
    topology->limits = (brix_limit_words){
        .users = settings->users,
        .model_in_flight = settings->model_in_flight,
        .pod_in_flight = settings->pod_in_flight,
        .ask_ms = settings->ask_ms,
    };
    topology->fair = (brix_fair_words){
        .window_ms = settings->fair_window_ms,
        .least_tokens = settings->fair_least_tokens,
        .most_tokens = settings->fair_most_tokens,
        .full_load = settings->fair_full_load,
        .input_weight = thousandths(settings->fair_input_weight),
        .output_weight = thousandths(settings->fair_output_weight),
        .fairness_weight = thousandths(settings->fair_fairness_weight),
        .utilization_weight = thousandths(settings->fair_utilization_weight),
    };
    return brix_put_text(writer, brix_text_trim(settings->default_strategy), &topology->default_strategy);
}

static brix_status put_pod_texts(brix_writer *writer, const brix_pod *pod, brix_pod_row *row)
{
    const struct {
        brix_text text;
        brix_span *span;
    } parts[] = {{pod->name, &row->name},
                 {pod->space, &row->space},
                 {pod->address, &row->address},
                 {pod->engine, &row->engine},
                 {pod->labels, &row->labels}};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        brix_status status = brix_put_text(writer, parts[i].text, parts[i].span);
        if (status != BRIX_OK)
            return status;
    }
    return BRIX_OK;
}

brix_status brix_writer_pod(brix_writer *writer, const brix_pod *pod, uint32_t *index)
{
    brix_topology *topology = writer->building;
    if (!topology || pod->name.length >= BRIX_POD_NAME || pod->address.length >= BRIX_ADDRESS)
        return BRIX_BAD;
    if (topology->pods == writer->map.limits.pods)
        return BRIX_FULL;
    brix_pod_row *row = brix_topology_pod(&writer->map, topology, topology->pods);
    memset(row, 0, sizeof *row);
    brix_status status = put_pod_texts(writer, pod, row);
    if (status == BRIX_OK)
        status = brix_place_pod(writer, pod->key, &row->place);
    if (status != BRIX_OK)
        return status;
    brix_place *place = brix_map_pod_place(&writer->map, row->place);
    row->generation = atomic_load_explicit(&place->generation, memory_order_relaxed);
    row->ready = pod->ready && pod->address.length > 0;
    *index = topology->pods++;
    return BRIX_OK;
}

static void name_model(brix_writer *writer, brix_text name, uint32_t index)
{
    uint32_t *names = brix_topology_names(&writer->map, writer->building), mask = writer->map.names - 1;
    uint32_t at = (uint32_t)brix_name_hash(name) & mask;
    while (names[at] != 0)
        at = (at + 1) & mask;
    names[at] = index + 1;
}

brix_status brix_writer_model(brix_writer *writer, const char *name, size_t length)
{
    brix_topology *topology = writer->building;
    brix_text text = {name, length};
    if (!topology || length == 0 || length >= BRIX_MODEL_NAME)
        return BRIX_BAD;
    if (brix_topology_find(&writer->map, topology, text) >= 0)
        return BRIX_BAD;
    if (topology->models == writer->map.limits.models)
        return BRIX_FULL;
    brix_model_row *row = brix_topology_model(topology, topology->models);
    memset(row, 0, sizeof *row);
    row->first = topology->members;
    brix_status status = brix_put_text(writer, text, &row->name);
    if (status == BRIX_OK)
        status = brix_place_model(writer, text, &row->place);
    if (status != BRIX_OK)
        return status;
    brix_place *place = brix_map_model_place(&writer->map, row->place);
    row->generation = atomic_load_explicit(&place->generation, memory_order_relaxed);
    name_model(writer, text, topology->models++);
    return BRIX_OK;
}

brix_status brix_writer_member(brix_writer *writer, uint32_t pod)
{
    brix_topology *topology = writer->building;
    if (!topology || topology->models == 0 || pod >= topology->pods ||
        brix_claim_of(brix_topology_model(topology, topology->models - 1)))
        return BRIX_BAD;
    if (topology->members == writer->map.limits.members)
        return BRIX_FULL;
    brix_topology_members(&writer->map, topology)[topology->members++] = pod;
    brix_topology_model(topology, topology->models - 1)->count++;
    return BRIX_OK;
}

static void note_departures(const brix_map *map, brix_region_id region, const brix_index *index)
{
    for (uint32_t i = 0; i < map->regions[region].count; i++) {
        brix_place *place = brix_map_row(map, region, i);
        if (index->named[i] || atomic_load_explicit(&place->state, memory_order_relaxed) != BRIX_PLACE_USED)
            continue;
        atomic_store_explicit(&place->state, BRIX_PLACE_DEPARTED, memory_order_release);
    }
}

/* The new file takes the path with its first topology; only then do readers look for it. */
static brix_status take_path(brix_writer *writer)
{
    if (writer->foreign) {
        unlink(writer->aside);
        if (link(writer->path, writer->aside) != 0)
            return BRIX_SYSTEM;
    }
    if (rename(writer->fresh, writer->path) != 0)
        return BRIX_SYSTEM;
    writer->unpublished = 0;
    if (writer->old.file < 0)
        return BRIX_OK;
    const brix_map *old_map = &writer->old;
    brix_fold(writer, old_map, brix_map_retained(old_map), brix_map_retained_index(old_map), -1);
    brix_header *old = brix_map_header(&writer->old);
    atomic_store_explicit(&old->state, BRIX_SEGMENT_SUPERSEDED, memory_order_release);
    return BRIX_OK;
}

brix_status brix_writer_publish(brix_writer *writer)
{
    if (!writer->building)
        return BRIX_BAD;
    brix_header *header = brix_map_header(&writer->map);
    uint32_t active = active_of(&writer->map);
    writer->building->sequence = active ? brix_map_topology(&writer->map, active - 1)->sequence + 1 : 1;
    writer->building = NULL;
    atomic_store_explicit(&header->active, writer->building_index + 1, memory_order_seq_cst);
    brix_status status = writer->unpublished ? take_path(writer) : BRIX_OK;
    note_departures(&writer->map, BRIX_REGION_POD_PLACES, &writer->pods);
    note_departures(&writer->map, BRIX_REGION_MODEL_PLACES, &writer->models);
    return status;
}
