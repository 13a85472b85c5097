/*
 * strategy.h: the names of the strategies and the grammar of their lists.
 *
 *   "least-request:2, random"  ->  plan: [ {least-request, 2} {random, 1} ]
 *
 * name[:weight] separated by commas, blanks ignored; weight 0..1000000, 0 drops the item. pd and slo*
 * stand alone: the first of them is the whole plan. A list of several needs strategies that score.
 */
#ifndef BRIX_STRATEGY_H
#define BRIX_STRATEGY_H

#include "text.h"

#define BRIX_PLAN_ITEMS 16
#define BRIX_WEIGHT_LIMIT 1000000

typedef enum {
    BRIX_RANDOM,
    BRIX_LEAST_REQUEST,
    BRIX_LEAST_BUSY_TIME,
    BRIX_LEAST_GPU_CACHE,
    BRIX_LEAST_KV_CACHE,
    BRIX_LEAST_UTILIZATION,
    BRIX_THROUGHPUT,
    BRIX_LEAST_LATENCY,
    BRIX_SESSION_AFFINITY,
    BRIX_POWER_OF_TWO,
    BRIX_VTC_BASIC,
    BRIX_PREFIX_CACHE,
    BRIX_PREFIX_CACHE_PREBLE,
    BRIX_PD,
    BRIX_SLO,
    BRIX_SLO_PACK_LOAD,
    BRIX_SLO_LEAST_LOAD,
    BRIX_SLO_LEAST_LOAD_PULLING,
    BRIX_STRATEGIES,
} brix_strategy;

_Static_assert(BRIX_STRATEGIES <= BRIX_DECISIONS, "every strategy has a counter");

typedef struct {
    brix_strategy strategy;
    uint32_t weight;
} brix_plan_item;

typedef struct {
    uint32_t items;
    brix_plan_item item[BRIX_PLAN_ITEMS];
} brix_plan;

/* What a strategy looks at, as a mask. */
#define BRIX_NEEDS_LOAD 1u
#define BRIX_NEEDS_GAUGES 2u
#define BRIX_NEEDS_LENGTHS 4u /* mean lengths over the candidates */
#define BRIX_NEEDS_SESSION 8u
#define BRIX_NEEDS_USER 16u

unsigned brix_strategy_needs(brix_strategy strategy);

/* 1 when text is a list of strategies that this kernel runs. One whose data or machinery is not there is
   not registered, and so as unknown as any other name. */
int brix_plan_parse(brix_text text, brix_plan *plan);

#endif
