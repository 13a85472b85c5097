#define _POSIX_C_SOURCE 200809L
#include <math.h>

#include "gauges.h"
#include "search.h"

/* What a request that came since the sample adds at least: gauges lag, and all would pick the same least. */
#define LEAST_SHARE 0.01
#define LEAST_SECONDS 0.001
#define CHANCE 0.1

int brix_is_larger_better(brix_strategy strategy)
{
    return strategy == BRIX_SESSION_AFFINITY;
}

/* The value of an old sample with the load of now. NaN stays NaN. */
static double grown(double value, double growth, double least)
{
    return value + growth * (value > least ? value : least);
}

static void score_gauge(const brix_map *map, const brix_chunk *chunk, brix_gauge gauge, double *scores)
{
    const _Atomic uint64_t *row = brix_gauge_row(map, gauge);
    for (uint32_t c = 0; c < chunk->count; c++)
        scores[c] = grown(brix_gauge_at(row, chunk->place[c]), chunk->growth[c], LEAST_SHARE);
}

/* An engine without a cache in host memory has nothing in it. */
static void score_kv_cache(const brix_map *map, const brix_chunk *chunk, double *scores)
{
    const _Atomic uint64_t *device = brix_gauge_row(map, BRIX_GAUGE_KV_CACHE);
    const _Atomic uint64_t *host = brix_gauge_row(map, BRIX_GAUGE_CPU_CACHE);
    for (uint32_t c = 0; c < chunk->count; c++) {
        double cpu = brix_gauge_at(host, chunk->place[c]);
        double usage = brix_gauge_at(device, chunk->place[c]) + (isnan(cpu) ? 0 : cpu);
        scores[c] = grown(usage, chunk->growth[c], LEAST_SHARE);
    }
}

/* Tokens that the pod would have to work on with one request more; those of a prompt count twice. */
static void score_throughput(const brix_map *map, const brix_chunk *chunk, double *scores)
{
    const _Atomic uint64_t *prompts = brix_gauge_row(map, BRIX_GAUGE_PROMPT_LENGTH);
    const _Atomic uint64_t *generations = brix_gauge_row(map, BRIX_GAUGE_GENERATION_LENGTH);
    for (uint32_t c = 0; c < chunk->count; c++) {
        double tokens = 2 * brix_gauge_at(prompts, chunk->place[c]) + brix_gauge_at(generations, chunk->place[c]);
        scores[c] = isnan(chunk->growth[c]) ? NAN : tokens * (1 + chunk->load[c]);
    }
}

static double scaled(double time, double own_length, double length)
{
    return own_length > 0 ? time / own_length * length : time;
}

static void score_latency(const brix_search *search, const brix_chunk *chunk, double *scores)
{
    const brix_map *map = &search->view->map;
    const _Atomic uint64_t *queues = brix_gauge_row(map, BRIX_GAUGE_QUEUE_TIME);
    const _Atomic uint64_t *prefills = brix_gauge_row(map, BRIX_GAUGE_PREFILL_TIME);
    const _Atomic uint64_t *decodes = brix_gauge_row(map, BRIX_GAUGE_DECODE_TIME);
    const _Atomic uint64_t *prompts = brix_gauge_row(map, BRIX_GAUGE_PROMPT_LENGTH);
    const _Atomic uint64_t *generations = brix_gauge_row(map, BRIX_GAUGE_GENERATION_LENGTH);
    for (uint32_t c = 0; c < chunk->count; c++) {
        uint32_t place = chunk->place[c];
        double prefill = scaled(brix_gauge_at(prefills, place), brix_gauge_at(prompts, place), search->prompt_tokens);
        double decode =
            scaled(brix_gauge_at(decodes, place), brix_gauge_at(generations, place), search->generation_tokens);
        scores[c] = grown(brix_gauge_at(queues, place) + prefill + decode, chunk->growth[c], LEAST_SECONDS);
    }
}

static void score_session(const brix_search *search, const brix_chunk *chunk, double *scores)
{
    uint32_t place = brix_session_place(&search->session);
    for (uint32_t c = 0; c < chunk->count; c++)
        scores[c] = chunk->place[c] == place;
}

/* Pods in the order of their names: the more a user has used, the further down. A little chance mixes equals. */
static void score_user(const brix_search *search, const brix_chunk *chunk, double *scores)
{
    const brix_fair *fair = &search->fair;
    for (uint32_t c = 0; c < chunk->count; c++) {
        double used = chunk->load[c] / fair->full_load, distance = chunk->first + c - search->share;
        uint64_t random = search->random ^ chunk->place[c];
        scores[c] = search->request->user.length == 0 ? NAN
                                                      : fair->fairness_weight * fabs(distance) +
                                                            fair->utilization_weight * (used < 1 ? used : 1) +
                                                            CHANCE * brix_random_below(&random, 1000000) / 1e6;
    }
}

void brix_scores(const brix_search *search, const brix_chunk *chunk, brix_strategy strategy, double *scores)
{
    const brix_map *map = &search->view->map;
    int needs_gauges = (brix_strategy_needs(strategy) & BRIX_NEEDS_GAUGES) != 0;
    if (needs_gauges && !brix_map_has(map, BRIX_REGION_GAUGES)) {
        for (uint32_t c = 0; c < chunk->count; c++)
            scores[c] = NAN;
        return;
    }
    switch (strategy) {
    case BRIX_LEAST_BUSY_TIME:
        return score_gauge(map, chunk, BRIX_GAUGE_BUSY, scores);
    case BRIX_LEAST_GPU_CACHE:
        return score_gauge(map, chunk, BRIX_GAUGE_GPU_CACHE, scores);
    case BRIX_LEAST_UTILIZATION:
        return score_gauge(map, chunk, BRIX_GAUGE_UTILIZATION, scores);
    case BRIX_LEAST_KV_CACHE:
        return score_kv_cache(map, chunk, scores);
    case BRIX_THROUGHPUT:
        return score_throughput(map, chunk, scores);
    case BRIX_LEAST_LATENCY:
        return score_latency(search, chunk, scores);
    case BRIX_VTC_BASIC:
        return score_user(search, chunk, scores);
    case BRIX_SESSION_AFFINITY:
        return score_session(search, chunk, scores);
    default:
        for (uint32_t c = 0; c < chunk->count; c++)
            scores[c] = strategy == BRIX_LEAST_REQUEST ? chunk->load[c] : 0;
    }
}
