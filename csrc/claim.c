#include "claim.h"

#include "flow.h"
#include "writer.h"

/* --- the collector's side ---------------------------------------------------------------- */

/* Row of the model in the topology in force, or NULL. */
static const brix_model_row *published(const brix_map *map, brix_text model)
{
    uint32_t active = atomic_load_explicit(&brix_map_header(map)->active, memory_order_acquire);
    if (active == 0 || active > BRIX_TOPOLOGIES)
        return NULL;
    brix_topology *topology = brix_map_topology(map, active - 1);
    int64_t found = brix_topology_find(map, topology, model);
    return found < 0 ? NULL : brix_topology_model(topology, (uint32_t)found);
}

/* What was wanted when the model slept before is no reason to wake it now. */
static void forget(const brix_map *map, brix_topology *topology, const brix_model_row *row)
{
    const brix_model_row *before = published(map, brix_topology_text(map, topology, row->name));
    if (!before || brix_claim_of(before) != BRIX_CLAIM_SLEEPING)
        atomic_store_explicit(&brix_map_model_place(map, row->place)->wanted, 0, memory_order_relaxed);
}

brix_status brix_writer_claim(brix_writer *writer, brix_claim state)
{
    brix_topology *topology = writer->building;
    if (!topology || topology->models == 0 || state < BRIX_CLAIM_ACTIVATING || state > BRIX_CLAIM_FAILED)
        return BRIX_BAD;
    brix_model_row *row = brix_topology_model(topology, topology->models - 1);
    if (row->count > 0)
        return BRIX_BAD;
    row->first = BRIX_CLAIM_MARK | (uint32_t)state;
    forget(&writer->map, topology, row);
    return BRIX_OK;
}

int brix_writer_wanted(brix_writer *writer, brix_text model)
{
    const brix_map *map = &writer->map;
    const brix_model_row *row = published(map, model);
    if (!row || row->place > map->limits.models)
        return 0;
    return atomic_exchange_explicit(&brix_map_model_place(map, row->place)->wanted, 0, memory_order_relaxed) != 0;
}

/* --- a gateway's side -------------------------------------------------------------------- */

void brix_claim_want(const brix_map *map, uint32_t place)
{
    _Atomic uint32_t *wanted = &brix_map_model_place(map, place)->wanted;
    if (atomic_load_explicit(wanted, memory_order_relaxed) == 0)
        atomic_store_explicit(wanted, 1, memory_order_relaxed);
}

void brix_flow_refuse_claimed(brix_flow *flow, brix_text model, brix_out *scratch, brix_action *action)
{
    static const brix_text SAID[] = {
        [BRIX_CLAIM_ACTIVATING] = {" is activating; retry shortly", 29},
        [BRIX_CLAIM_SLEEPING] = {" is sleeping; retry shortly", 27},
        [BRIX_CLAIM_FAILED] = {" is failed", 10},
    };
    brix_refusal refusal = {.status = 503,
                            .marker = BRIX_LITERAL("x-error-no-model-backends"),
                            .marker_value = model,
                            .before = BRIX_LITERAL("model "),
                            .subject = model,
                            .after = SAID[flow->decision.claim],
                            .code = BRIX_LITERAL("service_unavailable"),
                            .param = BRIX_LITERAL("model")};
    brix_flow_refuse(flow, &refusal, scratch, action);
    if (flow->decision.claim != BRIX_CLAIM_FAILED)
        brix_action_set(action, BRIX_LITERAL("retry-after"), BRIX_LITERAL("10"));
}
