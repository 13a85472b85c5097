#include "routes.h"

#include "kernel.h"
#include "writer.h"

/* --- the writer's side ------------------------------------------------------------------ */

brix_status brix_writer_problems(brix_writer *writer, const brix_text *problems, uint32_t count)
{
    brix_topology *topology = writer->building;
    brix_span rows = {0, 0}, row;
    if (!topology || count != topology->models)
        return BRIX_BAD;
    brix_status status = BRIX_OK;
    uint32_t spans = topology->text_used;
    for (uint32_t i = 0; i < count && status == BRIX_OK; i++) /* room for the spans, which stand together */
        status = brix_put_text(writer, (brix_text){(const char *)&rows, sizeof rows}, &row);
    for (uint32_t i = 0; i < count && status == BRIX_OK; i++) {
        status = brix_put_text(writer, problems[i], &row);
        if (status == BRIX_OK)
            memcpy((char *)topology + writer->map.text_at + spans + i * sizeof row, &row, sizeof row);
    }
    if (status == BRIX_OK && count > 0)
        topology->problems = spans + 1;
    return status;
}

/* --- the reader's side ------------------------------------------------------------------ */

static brix_text find(const brix_map *map, brix_topology *topology, brix_text model)
{
    int64_t index = topology->problems ? brix_topology_find(map, topology, model) : -1;
    brix_span row = {topology->problems - 1, sizeof row};
    if (index < 0 || (uint64_t)index * sizeof row > map->limits.text_bytes)
        return BRIX_NOTHING;
    row.at += (uint32_t)((uint64_t)index * sizeof row);
    brix_text found = brix_topology_text(map, topology, row);
    if (found.length != sizeof row)
        return BRIX_NOTHING;
    memcpy(&row, found.at, sizeof row);
    return brix_topology_text(map, topology, row);
}

brix_text brix_route_problem(const brix_flow *flow, brix_out *scratch)
{
    size_t from = scratch->length;
    if (flow->decision.verdict != BRIX_NO_STRATEGY)
        return BRIX_NOTHING;
    brix_held held = brix_hold(flow->view);
    if (held.topology)
        brix_out_text(scratch, find(&flow->view->map, held.topology, (brix_text){flow->model, flow->model_length}));
    brix_release(&held);
    return (brix_text){scratch->at + from, scratch->length - from};
}
