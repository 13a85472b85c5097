#include "kernel.h"

#include "counters.h"
#include "selector.h"
#include "strategy.h"

/* One decision under way. */
typedef struct {
    const brix_view *view;
    brix_topology *topology;
    const brix_model_row *model;
    const brix_selector *selector;
    brix_strategy strategy;
    uint64_t random;
    uint32_t slots;
    brix_slot *slot[BRIX_READERS_LIMIT];
} search;

typedef struct {
    const brix_pod_row *pod;
    uint64_t load;
    uint32_t equals; /* candidates as good as it, itself included */
    uint32_t candidates;
} choice;

static uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* Below bound, evenly (multiply and shift). */
static uint32_t random_below(uint64_t *state, uint32_t bound)
{
    return (uint32_t)((next_random(state) >> 32) * bound >> 32);
}

static void find_slots(search *search)
{
    const brix_map *map = &search->view->map;
    search->slots = 0;
    for (uint32_t i = 0; i < map->limits.readers && i < BRIX_READERS_LIMIT; i++) {
        brix_slot *slot = brix_map_slot(map, i);
        if (atomic_load_explicit(&slot->state, memory_order_relaxed) == BRIX_SLOT_CLAIMED)
            search->slot[search->slots++] = slot;
    }
}

static uint64_t load_of(const search *search, const brix_pod_row *pod)
{
    uint64_t load = 0;
    for (uint32_t i = 0; i < search->slots; i++)
        load += brix_cell_for(&brix_slot_pod(&search->view->map, search->slot[i], pod->place)->running, pod->generation);
    return load;
}

static const brix_pod_row *member_at(const search *search, uint32_t index)
{
    const brix_map *map = &search->view->map;
    if (index >= map->limits.members)
        return NULL;
    uint32_t pod = brix_topology_members(map, search->topology)[index];
    if (pod >= map->limits.pods)
        return NULL;
    const brix_pod_row *row = brix_topology_pod(map, search->topology, pod);
    return row->place < map->limits.pods ? row : NULL;
}

static int is_candidate(const search *search, const brix_pod_row *pod)
{
    if (search->selector->requirements == 0)
        return 1;
    return brix_selector_matches(search->selector, brix_topology_text(&search->view->map, search->topology, pod->labels));
}

/* Keep the better one; among equals each is kept with the same chance. */
static void consider(search *search, const brix_pod_row *pod, choice *best)
{
    uint64_t load = search->strategy == BRIX_LEAST_REQUEST ? load_of(search, pod) : 0;
    best->candidates++;
    if (best->pod && load > best->load)
        return;
    best->equals = best->pod && load == best->load ? best->equals + 1 : 1;
    if (best->equals == 1 || random_below(&search->random, best->equals) == 0)
        best->pod = pod;
    best->load = load;
}

static choice choose(search *search)
{
    choice best = {0};
    for (uint32_t i = 0; i < search->model->count; i++) {
        const brix_pod_row *pod = member_at(search, search->model->first + i);
        if (pod && pod->ready && is_candidate(search, pod))
            consider(search, pod, &best);
    }
    return best;
}

static int is_any_ready(const search *search)
{
    for (uint32_t i = 0; i < search->model->count; i++) {
        const brix_pod_row *pod = member_at(search, search->model->first + i);
        if (pod && pod->ready)
            return 1;
    }
    return 0;
}

static void count_model(const brix_view *view, const brix_model_row *model, brix_decision *decision)
{
    if (brix_cell_take(&brix_slot_model(view->slot, decision->model_place)->in_flight, model->generation))
        decision->counted |= 1;
    else
        brix_add(&view->slot->anomalies, 1);
}

static void count_pod(const brix_view *view, const brix_pod_row *pod, brix_decision *decision)
{
    brix_pod_cells *cells = brix_slot_pod(&view->map, view->slot, pod->place);
    if (brix_cell_take(&cells->running, pod->generation))
        decision->counted |= 2;
    else
        brix_add(&view->slot->anomalies, 1);
    brix_add(&cells->routed, 1);
}

static void record_pod(const search *search, const choice *best, brix_decision *decision)
{
    const brix_map *map = &search->view->map;
    brix_text name = brix_topology_text(map, search->topology, best->pod->name);
    brix_text address = brix_topology_text(map, search->topology, best->pod->address);
    decision->pod_place = best->pod->place;
    decision->generation = best->pod->generation;
    decision->pod_name_length = (uint16_t)brix_text_copy(decision->pod_name, sizeof decision->pod_name, name);
    decision->address_length = (uint16_t)brix_text_copy(decision->address, sizeof decision->address, address);
}

static brix_verdict pick(search *search, brix_text filter, brix_decision *decision)
{
    brix_selector selector;
    if (!brix_selector_parse(filter, &selector))
        return BRIX_BAD_FILTER;
    search->selector = &selector;
    if (search->strategy == BRIX_LEAST_REQUEST)
        find_slots(search);
    choice best = choose(search);
    decision->candidates = best.candidates;
    if (!best.pod)
        return BRIX_NO_CANDIDATE;
    record_pod(search, &best, decision);
    count_pod(search->view, best.pod, decision);
    brix_add(&search->view->slot->decisions[search->strategy], 1);
    return BRIX_CHOSEN;
}

static brix_text effective_strategy(const brix_view *view, brix_topology *topology, const brix_request *request)
{
    brix_text asked = brix_text_trim(request->strategy);
    return asked.length ? asked : brix_topology_text(&view->map, topology, topology->default_strategy);
}

/* Model, strategy, pod: the order in which a request can fail (gateway 4.1). */
static brix_verdict judge(search *search, const brix_request *request, brix_decision *decision)
{
    const brix_map *map = &search->view->map;
    int64_t found = request->model.length ? brix_topology_find(map, search->topology, request->model) : -1;
    if (found < 0)
        return BRIX_UNKNOWN_MODEL;
    search->model = brix_topology_model(search->topology, (uint32_t)found);
    if (search->model->place > map->limits.models)
        return BRIX_UNKNOWN_MODEL;
    decision->model_place = search->model->place;
    if (!is_any_ready(search))
        return BRIX_NO_READY_POD;
    brix_plan plan;
    brix_text strategy = effective_strategy(search->view, search->topology, request);
    decision->strategy_length = (uint16_t)brix_text_copy(decision->strategy, sizeof decision->strategy, strategy);
    if (strategy.length == 0)
        return BRIX_NO_STRATEGY;
    if (strategy.length > BRIX_STRATEGY || !brix_plan_parse(strategy, &plan))
        return BRIX_BAD_STRATEGY;
    search->strategy = plan.item[0].strategy;
    return pick(search, request->filter, decision);
}

void brix_decide(const brix_view *view, brix_topology *topology, const brix_request *request, brix_decision *decision)
{
    decision->model_place = decision->pod_place = decision->generation = decision->candidates = 0;
    decision->pod_name_length = decision->address_length = decision->strategy_length = 0;
    decision->counted = 0;
    search search = {.view = view, .topology = topology, .random = request->random};
    if (!topology) {
        decision->verdict = BRIX_OVERLOADED;
        return;
    }
    decision->verdict = judge(&search, request, decision);
    if (decision->verdict == BRIX_CHOSEN || decision->verdict == BRIX_NO_STRATEGY)
        count_model(view, search.model, decision);
}

void brix_finish(const brix_view *view, brix_decision *decision)
{
    if (decision->counted & 1) {
        brix_cell *cell = &brix_slot_model(view->slot, decision->model_place)->in_flight;
        if (!brix_cell_give(cell, brix_cell_generation(brix_read(cell))))
            brix_add(&view->slot->anomalies, 1);
    }
    if (decision->counted & 2) {
        brix_cell *cell = &brix_slot_pod(&view->map, view->slot, decision->pod_place)->running;
        if (!brix_cell_give(cell, decision->generation))
            brix_add(&view->slot->anomalies, 1);
    }
    decision->counted = 0;
}
