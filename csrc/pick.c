/*
 * Picking: one strategy takes its least (or greatest) score; a list takes the greatest weighted mean of scores
 * that were brought to 0..1; equals have the same chance. A strategy without data of any candidate picks evenly.
 */
#include <math.h>

#include "columns.h"
#include "range.h"

#define EQUAL 1e-9

typedef struct {
    const brix_pod_row *pod;
    double score;
    uint32_t equals; /* seen so far, the kept one included */
} best;

/* The pod with the given number among those that score at least so much. */
static const brix_pod_row *one_of(const brix_chunk *chunk, const double *scores, double wanted, uint32_t number)
{
    uint32_t c = 0;
    while (!(scores[c] >= wanted) || number-- > 0)
        c++;
    return chunk->pod[c];
}

BRIX_VECTORS static uint32_t count_from(const double *scores, uint32_t count, double wanted)
{
    uint64_t found = 0;
    for (uint32_t c = 0; c < count; c++)
        found += scores[c] >= wanted ? 1 : 0;
    return (uint32_t)found;
}

/* Keep the greatest; among equals, also those of chunks before, each is kept with the same chance. */
static void consider_all(brix_search *search, best *best, const brix_chunk *chunk, const double *scores)
{
    double most = brix_range_of(scores, chunk->count, BRIX_NO_RANGE).most;
    double wanted = most > -INFINITY ? most - EQUAL : -INFINITY;
    if (best->pod && most < best->score - EQUAL)
        return;
    uint32_t count = count_from(scores, chunk->count, wanted);
    if (count == 0)
        return;
    if (!best->pod || most > best->score + EQUAL) {
        best->equals = 0;
        best->score = most;
    }
    best->equals += count;
    if (brix_random_below(&search->random, best->equals) < count)
        best->pod = one_of(chunk, scores, wanted, brix_random_below(&search->random, count));
}

/* --- an explanation ---- */

_Static_assert(BRIX_EXPLAINED_ITEMS == BRIX_PLAN_ITEMS, "an explanation has room for every plan");

static void tell_scores(const brix_search *search, const brix_chunk *chunk, uint32_t item, const double *scores)
{
    for (uint32_t c = 0; search->rows && c < chunk->count && chunk->first + c < search->capacity; c++)
        search->rows[chunk->first + c].scores[item] = scores[c];
}

static void tell_final(const brix_search *search, const brix_chunk *chunk, const double *final)
{
    for (uint32_t c = 0; search->rows && c < chunk->count && chunk->first + c < search->capacity; c++)
        search->rows[chunk->first + c].final = final[c];
}

/* --- any candidate ---- */

typedef struct {
    uint32_t seen;
    const brix_pod_row *pod;
} any;

static void draw(brix_search *search, const brix_chunk *chunk, void *context)
{
    any *drawn = context;
    drawn->seen += chunk->count;
    if (chunk->count && brix_random_below(&search->random, drawn->seen) < chunk->count)
        drawn->pod = chunk->pod[brix_random_below(&search->random, chunk->count)];
}

static const brix_pod_row *pick_any(brix_search *search)
{
    any drawn = {0};
    brix_each_chunk(search, draw, &drawn);
    return drawn.pod;
}

/* --- the better of two ---- */

typedef struct {
    uint32_t wanted[2]; /* indexes among the candidates */
    uint32_t seen;
    const brix_pod_row *pod[2];
    double load[2];
} two;

static void take_two(brix_search *search, const brix_chunk *chunk, void *context)
{
    two *drawn = context;
    (void)search;
    for (int i = 0; i < 2; i++) {
        if (drawn->wanted[i] < drawn->seen || drawn->wanted[i] - drawn->seen >= chunk->count)
            continue;
        drawn->pod[i] = chunk->pod[drawn->wanted[i] - drawn->seen];
        drawn->load[i] = chunk->load[drawn->wanted[i] - drawn->seen];
    }
    drawn->seen += chunk->count;
}

static const brix_pod_row *pick_of_two(brix_search *search)
{
    two drawn = {0};
    if (search->candidates < 2)
        return pick_any(search);
    drawn.wanted[0] = brix_random_below(&search->random, search->candidates);
    drawn.wanted[1] = brix_random_below(&search->random, search->candidates - 1);
    drawn.wanted[1] += drawn.wanted[1] >= drawn.wanted[0];
    brix_each_chunk(search, take_two, &drawn);
    return drawn.load[0] <= drawn.load[1] ? drawn.pod[0] : drawn.pod[1];
}

/* --- one strategy ---- */

static void find_best(brix_search *search, const brix_chunk *chunk, void *context)
{
    double scores[BRIX_CHUNK];
    brix_strategy strategy = search->plan.item[0].strategy;
    int larger = brix_is_larger_better(strategy);
    brix_scores(search, chunk, strategy, scores);
    tell_scores(search, chunk, 0, scores);
    for (uint32_t c = 0; c < chunk->count && !larger; c++)
        scores[c] = -scores[c];
    consider_all(search, context, chunk, scores);
}

static const brix_pod_row *pick_by_score(brix_search *search, uint32_t *blind)
{
    best best = {0};
    brix_each_chunk(search, find_best, &best);
    if (best.pod)
        return best.pod;
    *blind = 1;
    return pick_any(search);
}

/* --- a list ---- */

#define KEPT 4 /* items whose scores are computed once, where all candidates are in one chunk */

typedef struct {
    brix_range of[BRIX_PLAN_ITEMS];
    double weights;
    best best;
    double kept[KEPT][BRIX_CHUNK];
    double other[BRIX_CHUNK];
} blend;

static double *room_for(blend *blend, uint32_t item)
{
    return item < KEPT ? blend->kept[item] : blend->other;
}

static void find_ranges(brix_search *search, const brix_chunk *chunk, void *context)
{
    blend *blend = context;
    for (uint32_t i = 0; i < search->plan.items; i++) {
        double *scores = room_for(blend, i);
        brix_scores(search, chunk, search->plan.item[i].strategy, scores);
        tell_scores(search, chunk, i, scores);
        blend->of[i] = brix_range_of(scores, chunk->count, blend->of[i]);
    }
}

/* Brought to 0..1, more is better: final += share * that. All equal: 1. Without data: 0. */
BRIX_VECTORS static void add_line(const double *restrict scores, uint32_t count, double zero, double factor,
                                  double constant, double *restrict final)
{
    for (uint32_t c = 0; c < count; c++) {
        double part = (scores[c] - zero) * factor + constant;
        final[c] += scores[c] - scores[c] == 0 ? part : 0; /* finite */
    }
}

static void add_share(const double *scores, uint32_t count, brix_range range, int larger, double share, double *final)
{
    double width = range.most - range.least, zero = larger ? range.least : range.most;
    double factor = width > 0 ? (larger ? share : -share) / width : 0, constant = width > 0 ? 0 : share;
    add_line(scores, count, zero, factor, constant, final);
}

static void find_blended(brix_search *search, const brix_chunk *chunk, void *context)
{
    blend *blend = context;
    double final[BRIX_CHUNK];
    memset(final, 0, chunk->count * sizeof final[0]);
    for (uint32_t i = 0; i < search->plan.items; i++) {
        brix_plan_item item = search->plan.item[i];
        double *scores = room_for(blend, i);
        if (!search->is_collected || i >= KEPT)
            brix_scores(search, chunk, item.strategy, scores);
        add_share(scores, chunk->count, blend->of[i], brix_is_larger_better(item.strategy),
                  item.weight / blend->weights, final);
    }
    tell_final(search, chunk, final);
    consider_all(search, &blend->best, chunk, final);
}

static const brix_pod_row *pick_by_list(brix_search *search, uint32_t *blind)
{
    blend blend;
    blend.weights = 0;
    blend.best.pod = NULL;
    for (uint32_t i = 0; i < search->plan.items; i++) {
        blend.of[i] = BRIX_NO_RANGE;
        blend.weights += search->plan.item[i].weight;
    }
    brix_each_chunk(search, find_ranges, &blend);
    for (uint32_t i = 0; i < search->plan.items; i++)
        *blind |= (uint32_t)(blend.of[i].least > blend.of[i].most) << i;
    brix_each_chunk(search, find_blended, &blend);
    return blend.best.pod;
}

const brix_pod_row *brix_pick(brix_search *search, uint32_t *blind)
{
    *blind = 0;
    brix_survey(search);
    if (search->candidates == 0)
        return NULL;
    if (search->plan.items > 1)
        return pick_by_list(search, blind);
    switch (search->plan.item[0].strategy) {
    case BRIX_RANDOM:
        return pick_any(search);
    case BRIX_POWER_OF_TWO:
        return pick_of_two(search);
    default:
        return pick_by_score(search, blind);
    }
}
