#define _POSIX_C_SOURCE 200809L
#include "kernel.h"

#include "claim.h"
#include "counters.h"
#include "gauges.h"
#include "profile.h"
#include "search.h"

static int is_any_ready(const brix_search *search)
{
    for (uint32_t i = 0; i < brix_member_count(search); i++) {
        const brix_pod_row *pod = brix_member_at(search, search->model->first + i);
        if (pod && pod->ready)
            return 1;
    }
    return 0;
}

/* The engine of a model is that of its first pod. */
static int is_xdit(const brix_search *search)
{
    const brix_pod_row *pod = search->model->count ? brix_member_at(search, search->model->first) : NULL;
    return pod && brix_text_is(brix_topology_text(&search->view->map, search->topology, pod->engine),
                               BRIX_LITERAL("xdit"));
}

static void count_model(const brix_view *view, const brix_model_row *model, brix_decision *decision)
{
    if (brix_cell_take(&brix_slot_model(view->slot, decision->model_place)->in_flight, model->generation))
        decision->counted |= 1;
    else
        brix_add(&view->slot->anomalies, 1);
}

static void count_pod(const brix_view *view, uint32_t place, uint32_t generation, brix_decision *decision)
{
    brix_pod_cells *cells = brix_slot_pod(&view->map, view->slot, place);
    if (brix_cell_take(&cells->running, generation))
        decision->counted |= 2;
    else
        brix_add(&view->slot->anomalies, 1);
    brix_add(&cells->routed, 1);
}

static void record_pod(const brix_search *search, const brix_pod_row *pod, brix_decision *decision)
{
    const brix_map *map = &search->view->map;
    brix_text name = brix_topology_text(map, search->topology, pod->name);
    brix_text address = brix_topology_text(map, search->topology, pod->address);
    decision->pod_place = pod->place;
    decision->generation = pod->generation;
    decision->pod_name_length = (uint16_t)brix_text_copy(decision->pod_name, sizeof decision->pod_name, name);
    decision->address_length = (uint16_t)brix_text_copy(decision->address, sizeof decision->address, address);
}

/* What was decided, and what without data. The slot's own counters are found by its place among the slots. */
static void count_decision(const brix_search *search, uint32_t blind)
{
    const brix_view *view = search->view;
    brix_more *more = brix_map_more(&view->map, brix_slot_index(&view->map, view->slot) + 2);
    brix_add(&view->slot->decisions[search->plan.item[0].strategy], 1);
    for (uint32_t i = 0; more && i < search->plan.items; i++)
        if (blind >> i & 1)
            brix_add(&more->without_data[search->plan.item[i].strategy], 1);
}

/* Alone, vtc-basic charges the user with what the request is estimated to take, once however often it is decided. */
static void account_user(const brix_search *search)
{
    uint64_t input = search->request->prompt_tokens;
    if (search->request->avoids == 0 && search->plan.items == 1 && search->plan.item[0].strategy == BRIX_VTC_BASIC)
        brix_user_add(&search->view->map, &search->fair, search->request->user, input, brix_estimated_output(input),
                      search->now);
}

/* Requests in flight of one cell over all live slots. */
static uint64_t sum_of(const brix_view *view, const brix_cell *own, uint32_t generation)
{
    size_t offset = (size_t)((const char *)own - (const char *)view->slot);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < view->map.limits.readers; i++) {
        brix_slot *slot = brix_map_slot(&view->map, i);
        if (atomic_load_explicit(&slot->state, memory_order_relaxed) == BRIX_SLOT_CLAIMED)
            sum += brix_cell_for((brix_cell *)(void *)((char *)slot + offset), generation);
    }
    return sum;
}

/* Counted first and looked at then: two that come at once may both be refused, never both be one too many. */
static int is_one_too_many(const brix_view *view, brix_cell *own, uint32_t generation, uint32_t limit)
{
    if (limit == 0 || sum_of(view, own, generation) <= limit)
        return 0;
    brix_cell_give(own, generation);
    return 1;
}

static int pod_fits(const brix_search *search, const brix_pod_row *pod, brix_decision *decision)
{
    const brix_view *view = search->view;
    brix_cell *own = &brix_slot_pod(&view->map, view->slot, pod->place)->running;
    if (!(decision->counted & 2) || !is_one_too_many(view, own, pod->generation, search->pod_limit))
        return 1;
    decision->counted &= (uint8_t)~2u;
    return 0;
}

/* 1 when only the limit left no candidate. */
static int is_limit_the_reason(brix_search *search)
{
    if (search->pod_limit == 0)
        return 0;
    search->pod_limit = 0;
    search->candidates = 0;
    search->is_collected = 0;
    brix_survey(search);
    return search->candidates > 0;
}

static brix_verdict pick(brix_search *search, brix_decision *decision)
{
    uint32_t blind = 0;
    if (!brix_selector_parse(search->request->filter, &search->selector))
        return BRIX_BAD_FILTER;
    for (uint32_t i = 0; i < search->plan.items; i++)
        search->needs |= brix_strategy_needs(search->plan.item[i].strategy);
    const brix_pod_row *pod = brix_pick(search, &blind);
    decision->candidates = search->candidates;
    if (!pod)
        return is_limit_the_reason(search) ? BRIX_TOO_MANY : BRIX_NO_CANDIDATE;
    if (!search->rows && !search->is_imagined) {
        count_pod(search->view, pod->place, pod->generation, decision);
        if (!pod_fits(search, pod, decision))
            return BRIX_TOO_MANY;
        count_decision(search, blind);
        account_user(search);
    }
    record_pod(search, pod, decision);
    decision->sticky = (search->needs & BRIX_NEEDS_SESSION) != 0;
    return BRIX_CHOSEN;
}

/* The model's lock, what is asked for, the profile's, the default: the first that says anything (gateway 4.7). */
static brix_text effective_strategy(const brix_search *search, const brix_profile_choice *choice)
{
    brix_topology *topology = search->topology;
    brix_text asked = brix_text_trim(search->request->strategy);
    if (choice->locked.length)
        return choice->locked;
    if (asked.length)
        return asked;
    if (choice->strategy.length)
        return choice->strategy;
    return brix_topology_text(&search->view->map, topology, topology->default_strategy);
}

static void record_profile(const brix_profile_choice *choice, brix_decision *decision)
{
    decision->profile_length = (uint8_t)brix_text_copy(decision->profile, sizeof decision->profile, choice->name);
    decision->requests_per_second = choice->requests_per_second;
    decision->is_auto = choice->is_auto != 0;
}

/* Model, strategy, pod: the order in which a request can fail (gateway 4.1). */
static brix_verdict judge(brix_search *search, const brix_request *request, brix_decision *decision)
{
    const brix_map *map = &search->view->map;
    int64_t found = request->model.length ? brix_topology_find(map, search->topology, request->model) : -1;
    if (found < 0)
        return BRIX_UNKNOWN_MODEL;
    search->model = brix_topology_model(search->topology, (uint32_t)found);
    if (search->model->place > map->limits.models)
        return BRIX_UNKNOWN_MODEL;
    decision->model_place = search->model->place;
    decision->claim = (uint8_t)brix_claim_of(search->model);
    if (decision->claim)
        return BRIX_CLAIMED;
    if (!is_any_ready(search))
        return BRIX_NO_READY_POD;
    decision->is_xdit = (uint8_t)is_xdit(search);
    brix_profile_choice choice = brix_profile_choose(map, search->topology, search->model, request);
    record_profile(&choice, decision);
    brix_text strategy = effective_strategy(search, &choice);
    decision->strategy_length = (uint16_t)brix_text_copy(decision->strategy, sizeof decision->strategy, strategy);
    if (strategy.length == 0)
        return BRIX_NO_STRATEGY;
    if (strategy.length > BRIX_STRATEGY || !brix_plan_parse(strategy, &search->plan))
        return BRIX_BAD_STRATEGY;
    return pick(search, decision);
}

static void begin(brix_search *search, const brix_view *view, brix_topology *topology, const brix_request *request)
{
    search->view = view;
    search->topology = topology;
    search->request = request;
    search->random = request->random;
    search->now = request->now ? request->now : brix_clock();
    search->needs = search->candidates = 0;
    search->plan.items = 0;
    search->rows = NULL;
    search->is_imagined = 0;
    search->is_collected = search->leaves_out = 0;
    search->pod_limit = topology->limits.pod_in_flight;
}

static void begin_decision(brix_decision *decision)
{
    decision->model_place = decision->pod_place = decision->generation = decision->candidates = 0;
    decision->pod_name_length = decision->address_length = decision->strategy_length = 0;
    decision->counted = decision->sticky = decision->is_xdit = decision->is_auto = decision->profile_length = 0;
    decision->requests_per_second = decision->claim = 0;
    decision->verdict = BRIX_OVERLOADED;
}

void brix_decide(const brix_view *view, brix_topology *topology, const brix_request *request, brix_decision *decision)
{
    brix_search search;
    begin_decision(decision);
    if (!topology)
        return;
    begin(&search, view, topology, request);
    decision->verdict = judge(&search, request, decision);
    if (decision->claim == BRIX_CLAIM_SLEEPING)
        brix_claim_want(&view->map, decision->model_place);
    if (decision->verdict != BRIX_CHOSEN && decision->verdict != BRIX_NO_STRATEGY)
        return;
    count_model(view, search.model, decision);
    brix_cell *own = &brix_slot_model(view->slot, decision->model_place)->in_flight;
    if (!(decision->counted & 1) ||
        !is_one_too_many(view, own, search.model->generation, topology->limits.model_in_flight))
        return;
    decision->counted &= (uint8_t)~1u;
    brix_finish(view, decision);
    decision->pod_name_length = decision->address_length = 0;
    decision->verdict = BRIX_TOO_MANY;
}

void brix_imagine(const brix_view *view, brix_topology *topology, const brix_request *request, brix_decision *decision)
{
    brix_search search;
    begin_decision(decision);
    if (!topology)
        return;
    begin(&search, view, topology, request);
    search.is_imagined = 1;
    decision->verdict = judge(&search, request, decision);
}

typedef struct {
    const brix_decision *decision;
    uint32_t count;
} explanation;

static void tell_pods(brix_search *search, const brix_chunk *chunk, void *context)
{
    explanation *told = context;
    const brix_map *map = &search->view->map;
    for (uint32_t c = 0; c < chunk->count && told->count < search->capacity; c++) {
        brix_explained *row = &search->rows[told->count++];
        brix_text name = brix_topology_text(map, search->topology, chunk->pod[c]->name);
        brix_text address = brix_topology_text(map, search->topology, chunk->pod[c]->address);
        row->pod_name_length = (uint16_t)brix_text_copy(row->pod_name, sizeof row->pod_name, name);
        row->address_length = (uint16_t)brix_text_copy(row->address, sizeof row->address, address);
        row->load = chunk->load[c];
        row->picked = told->decision->verdict == BRIX_CHOSEN && told->decision->pod_place == chunk->place[c];
    }
}

uint32_t brix_explain(const brix_view *view, brix_topology *topology, const brix_request *request,
                      brix_explained_item *items, uint32_t *item_count, brix_explained *rows, uint32_t capacity,
                      brix_decision *decision)
{
    brix_search search;
    explanation told = {decision, 0};
    begin_decision(decision);
    *item_count = 0;
    if (!topology)
        return 0;
    begin(&search, view, topology, request);
    search.rows = rows;
    search.capacity = capacity;
    search.needs = BRIX_NEEDS_LOAD;
    decision->verdict = judge(&search, request, decision);
    for (; *item_count < search.plan.items; ++*item_count)
        items[*item_count] = (brix_explained_item){brix_strategy_at(search.plan.item[*item_count].strategy),
                                                   search.plan.item[*item_count].weight};
    if (search.candidates > 0)
        brix_each_chunk(&search, tell_pods, &told);
    return told.count;
}

static void give_pod(const brix_view *view, brix_decision *decision)
{
    brix_cell *cell = &brix_slot_pod(&view->map, view->slot, decision->pod_place)->running;
    if ((decision->counted & 2) && !brix_cell_give(cell, decision->generation))
        brix_add(&view->slot->anomalies, 1);
    decision->counted &= (uint8_t)~2u;
}

void brix_move(const brix_view *view, brix_decision *decision, const brix_decision *imagined)
{
    if (!(decision->counted & 2))
        return;
    give_pod(view, decision);
    decision->pod_place = imagined->pod_place;
    decision->generation = imagined->generation;
    decision->pod_name_length = imagined->pod_name_length;
    decision->address_length = imagined->address_length;
    memcpy(decision->pod_name, imagined->pod_name, imagined->pod_name_length);
    memcpy(decision->address, imagined->address, imagined->address_length);
    count_pod(view, decision->pod_place, decision->generation, decision);
}

void brix_finish(const brix_view *view, brix_decision *decision)
{
    if (decision->counted & 1) {
        brix_cell *cell = &brix_slot_model(view->slot, decision->model_place)->in_flight;
        if (!brix_cell_give(cell, brix_cell_generation(brix_read(cell))))
            brix_add(&view->slot->anomalies, 1);
    }
    give_pod(view, decision);
    decision->counted = 0;
}
