#include "routes.h"

#include "kernel.h"
#include "writer.h"

#define PROBLEM 2048u /* bytes that are kept of one: it fits every reply, however its bytes have to be written */

/* --- the writer's side ------------------------------------------------------------------ */

static char *text_at(brix_writer *writer, uint32_t at)
{
    return (char *)writer->building + writer->map.text_at + at;
}

brix_status brix_writer_problems(brix_writer *writer, const brix_text *problems, uint32_t count)
{
    static const brix_span none = {0, 0};
    brix_topology *topology = writer->building;
    brix_span row;
    if (!topology || count > topology->models)
        return BRIX_BAD;
    uint32_t at = topology->text_used, spans = at + (uint32_t)sizeof count;
    brix_status status = brix_put_text(writer, (brix_text){(const char *)&count, sizeof count}, &row);
    for (uint32_t i = 0; i < count && status == BRIX_OK; i++) /* room for the spans, which stand together */
        status = brix_put_text(writer, (brix_text){(const char *)&none, sizeof none}, &row);
    for (uint32_t i = 0; i < count && status == BRIX_OK; i++) {
        brix_text text = {problems[i].at, problems[i].length < PROBLEM ? problems[i].length : PROBLEM};
        status = brix_put_text(writer, text, &row);
        if (status == BRIX_OK)
            memcpy(text_at(writer, spans + i * (uint32_t)sizeof row), &row, sizeof row);
    }
    if (status == BRIX_OK)
        topology->problems = at + 1;
    return status;
}

/* --- the reader's side ------------------------------------------------------------------ */

/* What stands in the text; 0 when it does not, as in a damaged segment. */
static int read_text(const brix_map *map, brix_topology *topology, uint64_t at, void *target, uint32_t length)
{
    brix_span span = {at < UINT32_MAX ? (uint32_t)at : UINT32_MAX, length};
    brix_text found = brix_topology_text(map, topology, span);
    if (found.length != length)
        return 0;
    memcpy(target, found.at, length);
    return 1;
}

static brix_text find(const brix_map *map, brix_topology *topology, brix_text model)
{
    uint32_t count;
    brix_span row;
    uint64_t at = (uint64_t)topology->problems - 1;
    if (topology->problems == 0 || !read_text(map, topology, at, &count, sizeof count))
        return BRIX_NOTHING;
    int64_t index = brix_topology_find(map, topology, model);
    if (index < 0 || index >= count)
        return BRIX_NOTHING;
    at += sizeof count + (uint64_t)index * sizeof row;
    return read_text(map, topology, at, &row, sizeof row) ? brix_topology_text(map, topology, row) : BRIX_NOTHING;
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
