#define _POSIX_C_SOURCE 200809L
#include <math.h>

#include "columns.h"
#include "gauges.h"

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

BRIX_VECTORS static void grow_all(const brix_number *values, const double *growth, uint32_t count,
                                  double *restrict scores)
{
    for (uint32_t c = 0; c < count; c++)
        scores[c] = grown(values[c], growth[c], LEAST_SHARE);
}

static void score_gauge(const brix_map *map, const brix_chunk *chunk, brix_gauge gauge, double *scores)
{
    brix_scratch scratch;
    grow_all(brix_column(brix_gauge_row(map, gauge), chunk, scratch), chunk->growth, chunk->count, scores);
}

BRIX_VECTORS static void add_caches(const brix_number *device, const brix_number *host, const double *growth,
                                    uint32_t count, double *restrict scores)
{
    for (uint32_t c = 0; c < count; c++)
        scores[c] = grown(device[c] + (host[c] == host[c] ? host[c] : 0), growth[c], LEAST_SHARE);
}

/* An engine without a cache in host memory has nothing in it. */
static void score_kv_cache(const brix_map *map, const brix_chunk *chunk, double *scores)
{
    brix_scratch scratch[2];
    add_caches(brix_column(brix_gauge_row(map, BRIX_GAUGE_KV_CACHE), chunk, scratch[0]),
               brix_column(brix_gauge_row(map, BRIX_GAUGE_CPU_CACHE), chunk, scratch[1]), chunk->growth, chunk->count,
               scores);
}

BRIX_VECTORS static void add_tokens(const brix_number *prompts, const brix_number *generations, const brix_chunk *chunk,
                                    double *restrict scores)
{
    const double *growth = chunk->growth, *load = chunk->load;
    const uint32_t count = chunk->count;
    for (uint32_t c = 0; c < count; c++) {
        double tokens = (2 * prompts[c] + generations[c]) * (1 + load[c]);
        scores[c] = growth[c] == growth[c] ? tokens : NAN;
    }
}

/* Tokens that the pod would have to work on with one request more; those of a prompt count twice. */
static void score_throughput(const brix_map *map, const brix_chunk *chunk, double *scores)
{
    brix_scratch scratch[2];
    add_tokens(brix_column(brix_gauge_row(map, BRIX_GAUGE_PROMPT_LENGTH), chunk, scratch[0]),
               brix_column(brix_gauge_row(map, BRIX_GAUGE_GENERATION_LENGTH), chunk, scratch[1]), chunk, scores);
}

/* Without a length of its own the time stays as it is. */
static double scaled(double time, double own_length, double length)
{
    double divisor = own_length > 0 ? own_length : 1, factor = own_length > 0 ? length : 1;
    return time / divisor * factor;
}

typedef struct {
    const brix_number *queue, *prefill, *decode, *prompt, *generation;
    double prompt_tokens, generation_tokens;
} times;

BRIX_VECTORS static void add_times(const times *times, const double *growth, uint32_t count,
                                   double *restrict scores)
{
    const brix_number *queue = times->queue, *prefill = times->prefill, *decode = times->decode;
    const brix_number *prompt = times->prompt, *generation = times->generation;
    const double prompt_tokens = times->prompt_tokens, generation_tokens = times->generation_tokens;
    for (uint32_t c = 0; c < count; c++) {
        double work = scaled(prefill[c], prompt[c], prompt_tokens) + scaled(decode[c], generation[c], generation_tokens);
        scores[c] = grown(queue[c] + work, growth[c], LEAST_SECONDS);
    }
}

static void score_latency(const brix_search *search, const brix_chunk *chunk, double *scores)
{
    const brix_map *map = &search->view->map;
    brix_scratch scratch[5];
    times times = {.queue = brix_column(brix_gauge_row(map, BRIX_GAUGE_QUEUE_TIME), chunk, scratch[0]),
                   .prefill = brix_column(brix_gauge_row(map, BRIX_GAUGE_PREFILL_TIME), chunk, scratch[1]),
                   .decode = brix_column(brix_gauge_row(map, BRIX_GAUGE_DECODE_TIME), chunk, scratch[2]),
                   .prompt = brix_column(brix_gauge_row(map, BRIX_GAUGE_PROMPT_LENGTH), chunk, scratch[3]),
                   .generation = brix_column(brix_gauge_row(map, BRIX_GAUGE_GENERATION_LENGTH), chunk, scratch[4]),
                   .prompt_tokens = search->prompt_tokens,
                   .generation_tokens = search->generation_tokens};
    add_times(&times, chunk->growth, chunk->count, scores);
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
