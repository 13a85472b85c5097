#include "strategy.h"

#define LOAD BRIX_NEEDS_LOAD
#define GAUGES (BRIX_NEEDS_LOAD | BRIX_NEEDS_GAUGES)
#define SESSION BRIX_NEEDS_SESSION

typedef struct {
    brix_text name;
    int runs;
    int scores; /* can stand in a list */
    unsigned needs;
} entry;

static const entry TABLE[BRIX_STRATEGIES] = {
    [BRIX_RANDOM] = {{"random", 6}, 1, 0, 0},
    [BRIX_LEAST_REQUEST] = {{"least-request", 13}, 1, 1, LOAD},
    [BRIX_LEAST_BUSY_TIME] = {{"least-busy-time", 15}, 1, 1, GAUGES},
    [BRIX_LEAST_GPU_CACHE] = {{"least-gpu-cache", 15}, 1, 1, GAUGES},
    [BRIX_LEAST_KV_CACHE] = {{"least-kv-cache", 14}, 1, 1, GAUGES},
    [BRIX_LEAST_UTILIZATION] = {{"least-utilization", 17}, 1, 1, GAUGES},
    [BRIX_THROUGHPUT] = {{"throughput", 10}, 1, 1, GAUGES},
    [BRIX_LEAST_LATENCY] = {{"least-latency", 13}, 1, 1, GAUGES | BRIX_NEEDS_LENGTHS},
    [BRIX_SESSION_AFFINITY] = {{"session-affinity", 16}, 1, 1, SESSION},
    [BRIX_POWER_OF_TWO] = {{"power-of-two", 12}, 1, 0, LOAD},
    [BRIX_VTC_BASIC] = {{"vtc-basic", 9}, 1, 1, LOAD | BRIX_NEEDS_USER},
    [BRIX_PREFIX_CACHE] = {{"prefix-cache", 12}, 0, 1, 0},
    [BRIX_PREFIX_CACHE_PREBLE] = {{"prefix-cache-preble", 19}, 0, 1, 0},
    [BRIX_PD] = {{"pd", 2}, 0, 0, 0},
    [BRIX_SLO] = {{"slo", 3}, 0, 0, 0},
    [BRIX_SLO_PACK_LOAD] = {{"slo-pack-load", 13}, 0, 0, 0},
    [BRIX_SLO_LEAST_LOAD] = {{"slo-least-load", 14}, 0, 0, 0},
    [BRIX_SLO_LEAST_LOAD_PULLING] = {{"slo-least-load-pulling", 22}, 0, 0, 0},
};

brix_text brix_strategy_at(uint32_t index)
{
    return index < BRIX_STRATEGIES ? TABLE[index].name : BRIX_NOTHING;
}

unsigned brix_strategy_needs(brix_strategy strategy)
{
    return TABLE[strategy].needs;
}

static int find_strategy(brix_text name)
{
    for (int i = 0; i < BRIX_STRATEGIES; i++)
        if (brix_text_is(TABLE[i].name, name))
            return i;
    return -1;
}

static int is_exclusive(brix_text name)
{
    return brix_text_is(name, TABLE[BRIX_PD].name) ||
           (name.length >= 3 && memcmp(name.at, "slo", 3) == 0);
}

/* A weight, or -1 when the text is none or out of range. */
static int64_t parse_weight(brix_text text)
{
    int64_t value = 0;
    if (text.length > 1 && text.at[0] == '+') {
        text.at++;
        text.length--;
    }
    if (text.length == 0)
        return -1;
    for (size_t i = 0; i < text.length; i++) {
        if (text.at[i] < '0' || text.at[i] > '9')
            return -1;
        value = value * 10 + (text.at[i] - '0');
        if (value > BRIX_WEIGHT_LIMIT)
            return -1;
    }
    return value;
}

/* name[:weight] in one part; 0 when it breaks the grammar. */
static int parse_part(brix_text part, brix_text *name, int64_t *weight)
{
    brix_text rest = part, after;
    brix_text_cut(&rest, ':', name);
    *name = brix_text_trim(*name);
    *weight = 1;
    if (name->length == 0)
        return 0;
    if (!brix_text_cut(&rest, ':', &after))
        return 1;
    *weight = parse_weight(brix_text_trim(after));
    return rest.at == NULL && *weight >= 0;
}

static int add_item(brix_plan *plan, brix_text name, int64_t weight)
{
    int found = find_strategy(name);
    if (found < 0 || !TABLE[found].runs || plan->items == BRIX_PLAN_ITEMS)
        return 0;
    plan->item[plan->items++] = (brix_plan_item){(brix_strategy)found, (uint32_t)weight};
    return 1;
}

static int all_score(const brix_plan *plan)
{
    for (uint32_t i = 0; i < plan->items; i++)
        if (!TABLE[plan->item[i].strategy].scores)
            return 0;
    return 1;
}

/* The whole text must obey the grammar, also behind an exclusive name. */
int brix_plan_parse(brix_text text, brix_plan *plan)
{
    brix_text rest = {text.length ? text.at : "", text.length}, part, name, alone = BRIX_NOTHING;
    int64_t weight;
    int known = 1;
    plan->items = 0;
    while (brix_text_cut(&rest, ',', &part)) {
        if (!parse_part(part, &name, &weight))
            return 0;
        if (weight == 0)
            continue;
        if (alone.at == NULL && is_exclusive(name))
            alone = name;
        known &= add_item(plan, name, weight);
    }
    if (alone.at) {
        plan->items = 0;
        return add_item(plan, alone, 1);
    }
    return known && plan->items > 0 && (plan->items == 1 || all_score(plan));
}
