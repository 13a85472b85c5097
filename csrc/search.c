#define _POSIX_C_SOURCE 200809L
#include "columns.h"

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

/* What the slots count for each pod, summed as whole numbers, which is quicker than as doubles. */
static void add_loads(const brix_search *search, brix_chunk *chunk)
{
    const uint32_t count = chunk->count, *restrict places = chunk->place, *restrict generations = chunk->generation;
    uint32_t sums[BRIX_CHUNK];
    memset(sums, 0, count * sizeof sums[0]);
    for (uint32_t i = 0; i < search->slots; i++) {
        const brix_pod_cells *cells = brix_slot_pod(&search->view->map, search->slot[i], 0);
        for (uint32_t c = 0; c < count; c++) {
            uint64_t cell = atomic_load_explicit(&cells[places[c]].running, memory_order_relaxed);
            sums[c] += (uint32_t)cell & -(uint32_t)((uint32_t)(cell >> 32) == generations[c]);
        }
    }
    for (uint32_t c = 0; c < count; c++)
        chunk->load[c] = sums[c];
}

typedef struct {
    const brix_word *taken, *owner;
    const brix_number *local, *remote, *running;
    uint64_t oldest;
} sample;

/* How much the load of each pod grew since its engine was asked, as a share of what the engine ran then; and
   what other nodes have on it. */
BRIX_VECTORS static void grow(const sample *sample, uint32_t count, const uint32_t *restrict generations,
                              double *restrict load, double *restrict growth)
{
    const brix_word *taken = sample->taken, *owner = sample->owner;
    const brix_number *local = sample->local, *remote = sample->remote, *running = sample->running;
    const int64_t oldest = (int64_t)sample->oldest;
    for (uint32_t c = 0; c < count; c++) {
        int fresh = ((int64_t)taken[c] >= oldest) & (owner[c] == generations[c]);
        double grown = brix_above_zero(load[c] - local[c]) / (brix_above_zero(running[c]) + 1);
        double others = brix_above_zero(remote[c]);
        growth[c] = fresh ? grown : NAN;
        load[c] += fresh ? others : 0;
    }
}

/* Only what other nodes have. */
BRIX_VECTORS static void add_others(const sample *sample, uint32_t count, const uint32_t *restrict generations,
                                    double *restrict load)
{
    const brix_word *taken = sample->taken, *owner = sample->owner;
    const brix_number *remote = sample->remote;
    const int64_t oldest = (int64_t)sample->oldest;
    for (uint32_t c = 0; c < count; c++) {
        int fresh = ((int64_t)taken[c] >= oldest) & (owner[c] == generations[c]);
        double others = brix_above_zero(remote[c]);
        load[c] += fresh ? others : 0;
    }
}

static void add_growth(const brix_search *search, brix_chunk *chunk)
{
    const brix_map *map = &search->view->map;
    brix_scratch scratch[5];
    if (!brix_map_has(map, BRIX_REGION_GAUGES)) {
        for (uint32_t c = 0; c < chunk->count; c++)
            chunk->growth[c] = NAN;
        return;
    }
    sample sample = {.taken = brix_column_words(brix_gauge_row(map, BRIX_GAUGE_TAKEN), chunk, scratch[0]),
                     .owner = brix_column_words(brix_gauge_row(map, BRIX_GAUGE_OWNER), chunk, scratch[1]),
                     .remote = brix_column(brix_gauge_row(map, BRIX_GAUGE_REMOTE), chunk, scratch[2]),
                     .oldest = brix_gauge_oldest(search->now)};
    atomic_thread_fence(memory_order_acquire);
    if ((search->needs & BRIX_NEEDS_GAUGES) == 0)
        return add_others(&sample, chunk->count, chunk->generation, chunk->load);
    sample.local = brix_column(brix_gauge_row(map, BRIX_GAUGE_LOCAL), chunk, scratch[3]);
    sample.running = brix_column(brix_gauge_row(map, BRIX_GAUGE_RUNNING), chunk, scratch[4]);
    grow(&sample, chunk->count, chunk->generation, chunk->load, chunk->growth);
}

BRIX_VECTORS static uint32_t is_run(const uint32_t *places, uint32_t count)
{
    uint32_t differs = count == 0;
    for (uint32_t c = 0; c < count; c++)
        differs |= places[c] ^ (places[0] + c);
    return !differs;
}

#define AHEAD 8 /* rows that are fetched before they are looked at */

/* What a walk over the members of a model needs, looked up before it: its stores might be to anything, as far as the
   compiler knows. */
typedef struct {
    const uint32_t *members;
    const brix_pod_row *rows;
    uint32_t pods;
    uint32_t end; /* of the members that the segment has room for */
} walk;

static walk begin_walk(const brix_search *search)
{
    const brix_map *map = &search->view->map;
    const uint32_t listed = map->limits.members, first = search->model->first, count = brix_member_count(search);
    walk walk = {.rows = brix_topology_pod(map, search->topology, 0), .pods = map->limits.pods};
    if (first < listed) {
        walk.members = brix_topology_members(map, search->topology) + first;
        walk.end = count < listed - first ? count : listed - first;
    }
    return walk;
}

/* A member's row, and 1 when it is ready. One outside of the segment is looked for in row 0. */
static int is_member_ready(const walk *walk, uint32_t index, const brix_pod_row **pod)
{
    uint32_t member = walk->members[index], ahead = index + AHEAD < walk->end ? walk->members[index + AHEAD] : 0;
    __builtin_prefetch(walk->rows + (ahead < walk->pods ? ahead : 0));
    *pod = walk->rows + (member < walk->pods ? member : 0);
    return (member < walk->pods) & ((*pod)->ready != 0) & ((*pod)->place < walk->pods);
}

/* All that are ready. Each is written in any case, so that nothing has to be guessed, and kept only if counted. */
static uint32_t gather_ready(const walk *walk, brix_members *restrict members, uint32_t index)
{
    uint32_t count = 0;
    for (; index < walk->end && count < BRIX_CHUNK; index++) {
        const brix_pod_row *pod;
        int ready = is_member_ready(walk, index, &pod);
        members->pod[count] = pod;
        members->place[count] = pod->place;
        members->generation[count] = pod->generation;
        count += (uint32_t)ready;
    }
    members->count = count;
    members->is_run = is_run(members->place, count);
    return index;
}

static uint32_t gather_chosen(const brix_search *search, const walk *walk, brix_members *members, uint32_t index)
{
    uint32_t count = 0;
    for (; index < walk->end && count < BRIX_CHUNK; index++) {
        const brix_pod_row *pod;
        if (!is_member_ready(walk, index, &pod) || !is_candidate(search, pod))
            continue;
        members->pod[count] = pod;
        members->place[count] = pod->place;
        members->generation[count++] = pod->generation;
    }
    members->count = count;
    members->is_run = is_run(members->place, count);
    return index;
}

/* The ready members of the model that this thread decided about last. A topology never changes once it is published:
   its sequence, the view's number and the model say all. */
typedef struct {
    uint64_t view;
    uint64_t sequence;
    const brix_model_row *model;
    brix_members members;
} remembered;

/* NULL when they are more than a chunk holds. */
static const brix_members *remember(const brix_search *search, const walk *walk)
{
    static _Thread_local remembered last;
    if (walk->end > BRIX_CHUNK)
        return NULL;
    if (last.view == search->view->number && last.sequence == search->topology->sequence &&
        last.model == search->model)
        return &last.members;
    gather_ready(walk, &last.members, 0);
    last.view = search->view->number;
    last.sequence = search->topology->sequence;
    last.model = search->model;
    return &last.members;
}

/* Candidates from this member on, as many as the chunk holds. */
static uint32_t gather(brix_search *search, brix_chunk *chunk, uint32_t index)
{
    const walk walk = begin_walk(search);
    const int takes_all = search->selector.requirements == 0 && !search->leaves_out && search->pod_limit == 0;
    const brix_members *members = takes_all ? remember(search, &walk) : NULL;
    if (members) {
        index = walk.end;
    } else {
        members = &search->members;
        index = takes_all ? gather_ready(&walk, &search->members, index)
                          : gather_chosen(search, &walk, &search->members, index);
    }
    chunk->count = members->count;
    chunk->is_run = members->is_run;
    chunk->pod = members->pod;
    chunk->place = members->place;
    chunk->generation = members->generation;
    return index < walk.end ? index : brix_member_count(search);
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

/* Sums and numbers of those that say more than nothing, in lanes, so that none waits for the one before. */
BRIX_VECTORS static void sum_up(const brix_number *values, const double *growth, uint32_t count, double *total,
                                uint32_t *number)
{
    double sums[4] = {0}, numbers[4] = {0};
    for (uint32_t c = 0; c < count; c += 4)
        for (uint32_t lane = 0; lane < 4; lane++) {
            uint32_t at = c + lane < count ? c + lane : c;
            int counts = (c + lane < count) & (growth[at] == growth[at]) & (values[at] > 0);
            sums[lane] += counts ? values[at] : 0;
            numbers[lane] += counts ? 1 : 0;
        }
    *total += (sums[0] + sums[1]) + (sums[2] + sums[3]);
    *number += (uint32_t)((numbers[0] + numbers[1]) + (numbers[2] + numbers[3]));
}

static void measure(const brix_map *map, const brix_chunk *chunk, survey *found)
{
    brix_scratch scratch[2];
    if (!brix_map_has(map, BRIX_REGION_GAUGES))
        return;
    const brix_number *prompts = brix_column(brix_gauge_row(map, BRIX_GAUGE_PROMPT_LENGTH), chunk, scratch[0]);
    const brix_number *generations = brix_column(brix_gauge_row(map, BRIX_GAUGE_GENERATION_LENGTH), chunk, scratch[1]);
    sum_up(prompts, chunk->growth, chunk->count, &found->prompt, &found->prompts);
    sum_up(generations, chunk->growth, chunk->count, &found->generation, &found->generations);
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
