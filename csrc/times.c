#define _GNU_SOURCE
#include "times.h"

#include "counters.h"
#include "gauges.h"

#define MICROSECOND 1000u
#define MILLISECOND 1000000u

static const uint64_t TOKENS[BRIX_TOKEN_BUCKETS - 1] = {256, 512, 1024, 2048, 4096, 8192, 16384, 32768};
static const uint64_t SPANS[BRIX_TIME_BUCKETS - 1] = {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000};
static const uint64_t WHOLES[BRIX_WHOLE_BUCKETS - 1] = {100, 250, 500, 1000, 5000, 20000, 60000};

brix_times *brix_map_times(const brix_map *map, uint32_t index, uint32_t place)
{
    return brix_map_has(map, BRIX_REGION_TIMES) ? (brix_times *)brix_map_row(map, BRIX_REGION_TIMES, index) + place
                                                : NULL;
}

/* A string with at least one byte behind this member name. */
static int carries(brix_text chunk, brix_text name)
{
    const char *at = chunk.at, *end = chunk.at + chunk.length;
    while ((at = memmem(at, (size_t)(end - at), name.at, name.length)) != NULL) {
        at += name.length;
        while (at < end && *at == ' ')
            at++;
        if (end - at >= 2 && at[0] == '"' && at[1] != '"')
            return 1;
    }
    return 0;
}

static int has_content(brix_text chunk)
{
    return carries(chunk, BRIX_LITERAL("\"content\":")) || carries(chunk, BRIX_LITERAL("\"text\":")) ||
           carries(chunk, BRIX_LITERAL("\"delta\":")) || carries(chunk, BRIX_LITERAL("\"reasoning_content\":")) ||
           carries(chunk, BRIX_LITERAL("\"arguments\":"));
}

void brix_times_see(brix_flow *flow, brix_text chunk)
{
    if (!flow->is_streaming || flow->has_content || chunk.length == 0)
        return;
    flow->has_content = (uint8_t)has_content(chunk);
    if (flow->has_content || flow->first_chunk_at == 0)
        flow->first_chunk_at = brix_clock();
}

uint64_t brix_times_first_token(const brix_flow *flow)
{
    return flow->first_chunk_at > flow->begun_at ? flow->first_chunk_at - flow->begun_at : 0;
}

uint32_t brix_times_bucket(uint32_t first, uint64_t value)
{
    int is_tokens = first == BRIX_TIMES_PROMPT || first == BRIX_TIMES_COMPLETION, is_whole = first == BRIX_TIMES_WHOLE;
    const uint64_t *bounds = is_tokens ? TOKENS : is_whole ? WHOLES : SPANS;
    uint32_t bucket = 0, last = is_tokens ? BRIX_TOKEN_BUCKETS - 1 : is_whole ? BRIX_WHOLE_BUCKETS - 1 : BRIX_TIME_BUCKETS - 1;
    while (bucket < last && value >= bounds[bucket] * (is_tokens ? 1 : MILLISECOND))
        bucket++;
    return bucket;
}

static void count(brix_times *times, uint32_t first, uint64_t value)
{
    brix_add(&times->word[first + brix_times_bucket(first, value)], 1);
}

static void count_span(brix_times *times, uint32_t first, uint32_t sum, uint64_t nanoseconds)
{
    count(times, first, nanoseconds);
    brix_add(&times->word[sum], nanoseconds / MICROSECOND);
}

static void count_stream(brix_times *times, const brix_flow *flow, uint64_t whole)
{
    uint64_t first = brix_times_first_token(flow), made = brix_usage_completion(&flow->usage);
    count_span(times, BRIX_TIMES_FIRST_TOKEN, BRIX_TIMES_FIRST_TOKEN_SUM, first);
    if (made > 0)
        count_span(times, BRIX_TIMES_TOKEN, BRIX_TIMES_TOKEN_SUM, (whole - first) / made);
}

void brix_times_count(const brix_flow *flow)
{
    const brix_view *view = flow->view;
    brix_times *times = brix_map_times(&view->map, brix_slot_index(&view->map, view->slot) + 2,
                                       flow->decision.model_place);
    uint64_t now = brix_clock(), whole = now > flow->begun_at ? now - flow->begun_at : 0;
    if (!times || brix_usage_total(&flow->usage) == 0)
        return;
    count(times, BRIX_TIMES_PROMPT, brix_usage_prompt(&flow->usage));
    count(times, BRIX_TIMES_COMPLETION, brix_usage_completion(&flow->usage));
    count_span(times, BRIX_TIMES_WHOLE, BRIX_TIMES_WHOLE_SUM, whole);
    if (flow->decided_at > flow->begun_at)
        count_span(times, BRIX_TIMES_ROUTING, BRIX_TIMES_ROUTING_SUM, flow->decided_at - flow->begun_at);
    if (flow->first_chunk_at > 0)
        count_stream(times, flow, whole);
}
