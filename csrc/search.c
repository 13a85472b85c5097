#define _POSIX_C_SOURCE 200809L
#include "search.h"

#include <math.h>

#include "counters.h"
#include "gauges.h"
#include "trouble.h"

static uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

uint32_t brix_random_below(uint64_t *state, uint32_t bound)
{
    return (uint32_t)((next_random(state) >> 32) * bound >> 32);
}

static void find_slots(brix_search *search)
{
    const brix_map *map = &search->view->map;
    search->slots = 0;
    for (uint32_t i = 0; i < map->limits.readers && i < BRIX_READERS_LIMIT; i++) {
        brix_slot *slot = brix_map_slot(map, i);
        if (atomic_load_explicit(&slot->state, memory_order_relaxed) == BRIX_SLOT_CLAIMED)
            search->slot[search->slots++] = slot;
    }
}

const brix_pod_row *brix_member_at(const brix_search *search, uint32_t index)
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

static int is_left_out(const brix_search *search, const brix_pod_row *pod)
{
    for (uint32_t i = 0; i < search->request->avoids && i < BRIX_TRIES; i++)
        if (search->request->avoid[i] == pod->place)
            return 1;
    return brix_trouble_is_out(search->view, pod->place, pod->generation, search->now);
}

static int is_full(const brix_search *search, const brix_pod_row *pod)
{
    const brix_map *map = &search->view->map;
    uint64_t running = 0;
    for (uint32_t i = 0; search->pod_limit && i < map->limits.readers; i++) {
        brix_slot *slot = brix_map_slot(map, i);
        if (atomic_load_explicit(&slot->state, memory_order_relaxed) == BRIX_SLOT_CLAIMED)
            running += brix_cell_for(&brix_slot_pod(map, slot, pod->place)->running, pod->generation);
    }
    return search->pod_limit && running >= search->pod_limit;
}

static int is_candidate(const brix_search *search, const brix_pod_row *pod)
{
    if (!pod || !pod->ready || (search->leaves_out && is_left_out(search, pod)) || is_full(search, pod))
        return 0;
    if (search->selector.requirements == 0)
        return 1;
    return brix_selector_matches(&search->selector,
                                 brix_topology_text(&search->view->map, search->topology, pod->labels));
}

static void add_loads(const brix_search *search, brix_chunk *chunk)
{
    memset(chunk->load, 0, chunk->count * sizeof chunk->load[0]);
    for (uint32_t i = 0; i < search->slots; i++) {
        brix_pod_cells *cells = brix_slot_pod(&search->view->map, search->slot[i], 0);
        for (uint32_t c = 0; c < chunk->count; c++)
            chunk->load[c] += brix_cell_for(&cells[chunk->place[c]].running, chunk->generation[c]);
    }
}

static double at_least_one(double running)
{
    return running > 0 ? running + 1 : 1;
}

/* How much the load of each pod grew since its engine was asked, as a share of what the engine ran then; and
   what other nodes have on it. */
static void add_growth(const brix_search *search, brix_chunk *chunk)
{
    const brix_map *map = &search->view->map;
    if (!brix_map_has(map, BRIX_REGION_GAUGES)) {
        for (uint32_t c = 0; c < chunk->count; c++)
            chunk->growth[c] = NAN;
        return;
    }
    const _Atomic uint64_t *taken = brix_gauge_row(map, BRIX_GAUGE_TAKEN), *owner = brix_gauge_row(map, BRIX_GAUGE_OWNER);
    const _Atomic uint64_t *local = brix_gauge_row(map, BRIX_GAUGE_LOCAL), *remote = brix_gauge_row(map, BRIX_GAUGE_REMOTE);
    const _Atomic uint64_t *running = brix_gauge_row(map, BRIX_GAUGE_RUNNING);
    const uint64_t oldest = brix_gauge_oldest(search->now);
    const int load_only = (search->needs & BRIX_NEEDS_GAUGES) == 0;
    const uint32_t count = chunk->count, *restrict places = chunk->place, *restrict generations = chunk->generation;
    double *restrict load = chunk->load, *restrict growth = chunk->growth;
    for (uint32_t c = 0; c < count; c++) {
        uint32_t place = places[c];
        double others = brix_gauge_at(remote, place);
        if (load_only && !(others > 0))
            continue;
        int fresh = (atomic_load_explicit(taken + place, memory_order_acquire) >= oldest) &
                    (atomic_load_explicit(owner + place, memory_order_relaxed) == generations[c]);
        double grown = load[c] - brix_gauge_at(local, place);
        growth[c] = !fresh ? NAN : grown > 0 ? grown / at_least_one(brix_gauge_at(running, place)) : 0;
        load[c] += fresh && others > 0 ? others : 0;
    }
}

#define AHEAD 8 /* rows that are fetched before they are looked at */

/* Candidates from this member on, as many as the chunk holds. What the loop needs is looked up before it: its
   stores might be to anything, as far as the compiler knows. */
static uint32_t gather(const brix_search *search, brix_chunk *chunk, uint32_t index)
{
    const brix_map *map = &search->view->map;
    const uint32_t *members = brix_topology_members(map, search->topology);
    const brix_pod_row *rows = brix_topology_pod(map, search->topology, 0);
    const uint32_t listed = map->limits.members, pods = map->limits.pods;
    const uint32_t first = search->model->first, end = brix_member_count(search);
    const int takes_all = search->selector.requirements == 0 && !search->leaves_out && search->pod_limit == 0;
    uint32_t count = 0;
    for (; index < end && count < BRIX_CHUNK; index++) {
        uint32_t at = first + index;
        if (at >= listed || members[at] >= pods)
            continue;
        if (at + AHEAD < listed && members[at + AHEAD] < pods)
            __builtin_prefetch(rows + members[at + AHEAD]);
        const brix_pod_row *pod = rows + members[at];
        uint32_t place = pod->place;
        if (!pod->ready || place >= pods || (!takes_all && !is_candidate(search, pod)))
            continue;
        chunk->pod[count] = pod;
        chunk->place[count] = place;
        chunk->generation[count++] = pod->generation;
    }
    chunk->count = count;
    return index;
}

static void collect(brix_search *search, uint32_t from)
{
    brix_chunk *chunk = &search->chunk;
    chunk->first = from == 0 ? 0 : chunk->first + chunk->count;
    chunk->next = gather(search, chunk, from);
    if (search->needs & (BRIX_NEEDS_LOAD | BRIX_NEEDS_GAUGES)) {
        if (!search->is_collected && from == 0)
            find_slots(search);
        add_loads(search, chunk);
        add_growth(search, chunk);
    }
}

void brix_each_chunk(brix_search *search, brix_visit visit, void *context)
{
    brix_chunk *chunk = &search->chunk;
    if (!search->is_collected) {
        collect(search, 0);
        search->is_collected = chunk->next == brix_member_count(search);
    }
    visit(search, chunk, context);
    if (search->is_collected)
        return;
    while (chunk->next < brix_member_count(search)) {
        collect(search, chunk->next);
        visit(search, chunk, context);
    }
}

typedef struct {
    double prompt, generation;
    uint32_t prompts, generations;
} survey;

static void measure(const brix_map *map, const brix_chunk *chunk, survey *found)
{
    if (!brix_map_has(map, BRIX_REGION_GAUGES))
        return;
    const _Atomic uint64_t *prompts = brix_gauge_row(map, BRIX_GAUGE_PROMPT_LENGTH);
    const _Atomic uint64_t *generations = brix_gauge_row(map, BRIX_GAUGE_GENERATION_LENGTH);
    for (uint32_t c = 0; c < chunk->count; c++) {
        if (isnan(chunk->growth[c]))
            continue;
        double prompt = brix_gauge_at(prompts, chunk->place[c]), generation = brix_gauge_at(generations, chunk->place[c]);
        found->prompt += prompt > 0 ? prompt : 0;
        found->prompts += prompt > 0;
        found->generation += generation > 0 ? generation : 0;
        found->generations += generation > 0;
    }
}

static void look_at(brix_search *search, const brix_chunk *chunk, void *context)
{
    survey *found = context;
    const brix_map *map = &search->view->map;
    search->candidates += chunk->count;
    if (search->needs & BRIX_NEEDS_LENGTHS)
        measure(map, chunk, found);
    if (!(search->needs & BRIX_NEEDS_SESSION))
        return;
    for (uint32_t c = 0; c < chunk->count; c++)
        brix_session_consider(&search->session, brix_topology_text(map, search->topology, chunk->pod[c]->address),
                              chunk->place[c]);
}

/* How many pods of the row, taken in order, the tokens of the user stand for. */
static void measure_share(brix_search *search)
{
    const brix_map *map = &search->view->map;
    search->fair = brix_fair_of(search->topology);
    double total = brix_user_total(map, &search->fair, search->request->user, search->now);
    double share = total / brix_user_bucket(map, &search->fair), last = (double)search->candidates - 1;
    search->share = share < last ? share : last;
}

#define UNKNOWN_PROMPT 10.0 /* tokens, when no pod tells */
#define UNKNOWN_GENERATION 100.0

/* All the same when nothing is left without them. */
static void look_for_candidates(brix_search *search, survey *found)
{
    search->leaves_out = search->request->avoids > 0 || search->now < atomic_load(&search->view->trouble_until);
    brix_each_chunk(search, look_at, found);
    if (search->candidates > 0 || !search->leaves_out)
        return;
    search->leaves_out = 0;
    search->is_collected = 0;
    brix_each_chunk(search, look_at, found);
}

void brix_survey(brix_search *search)
{
    survey found = {0};
    if (search->needs & BRIX_NEEDS_SESSION)
        brix_session_begin(&search->session, search->request->session_id, search->request->session_key);
    look_for_candidates(search, &found);
    if (search->needs & BRIX_NEEDS_USER)
        measure_share(search);
    double asked = (double)search->request->prompt_tokens;
    double prompt = found.prompts ? found.prompt / found.prompts : UNKNOWN_PROMPT;
    search->prompt_tokens = asked > 0 ? asked : prompt;
    search->generation_tokens = found.generations ? found.generation / found.generations : UNKNOWN_GENERATION;
}
