#include "probe.h"

#include <math.h>
#include <stdlib.h>

#define MARK_DISTANCE 1000000000u
#define BUSY_SECONDS 5.0 /* time constant of the share of busy time */
#define FADE_SECONDS 10.0

brix_probe *brix_probes_make(uint32_t pods)
{
    return calloc(pods, sizeof(brix_probe));
}

static double seconds(uint64_t from, uint64_t to)
{
    return to > from ? (double)(to - from) / 1e9 : 0;
}

static double at_least_zero(double value)
{
    return value > 0 ? value : 0;
}

static int is_restarted(const brix_reading *old, const brix_reading *now)
{
    for (int i = BRIX_METRIC_QUEUE_TIME; i < BRIX_METRICS; i++)
        if (now->count[i] < old->count[i])
            return 1;
    return now->value[BRIX_METRIC_GENERATION_TOKENS] < old->value[BRIX_METRIC_GENERATION_TOKENS];
}

static void begin(brix_probe *probe, uint32_t generation)
{
    memset(probe, 0, sizeof *probe);
    probe->generation = generation;
    for (int i = 0; i < BRIX_AVERAGES; i++)
        probe->average[i] = NAN;
}

/* The mean of what finished between two pages; NaN when nothing did or the page does not tell. */
static double mean_between(const brix_reading *old, const brix_reading *now, brix_metric metric)
{
    double count = now->count[metric], sum = now->value[metric];
    if (old && !isnan(old->value[metric])) {
        count -= old->count[metric];
        sum -= old->value[metric];
    }
    return count > 0 ? at_least_zero(sum) / count : NAN;
}

static int is_idle(const brix_reading *reading)
{
    return reading->value[BRIX_METRIC_RUNNING] == 0 && !(reading->value[BRIX_METRIC_WAITING] > 0);
}

static void average(brix_probe *probe, const brix_reading *old, const brix_reading *now, double passed)
{
    for (int i = 0; i < BRIX_AVERAGES; i++) {
        brix_metric metric = (brix_metric)(BRIX_METRIC_QUEUE_TIME + i);
        double fresh = mean_between(old, now, metric);
        if (isnan(now->value[metric]))
            probe->average[i] = NAN;
        else if (!isnan(fresh))
            probe->average[i] = fresh;
        else if (isnan(probe->average[i]))
            probe->average[i] = 0;
        else if (is_idle(now))
            probe->average[i] /= 1 + passed / FADE_SECONDS;
    }
}

static double average_of(const brix_probe *probe, brix_metric metric)
{
    return probe->average[metric - BRIX_METRIC_QUEUE_TIME];
}

/* Tokens a request by counters, for engines that have no histogram of it. */
static double length_by_counters(const brix_reading *old, const brix_reading *now, brix_metric tokens)
{
    double count = now->value[BRIX_METRIC_FINISHED], sum = now->value[tokens];
    if (old) {
        count -= old->value[BRIX_METRIC_FINISHED];
        sum -= old->value[tokens];
    }
    return count > 0 ? sum / count : isnan(count) || isnan(sum) ? NAN : 0;
}

static double rate_of(const brix_reading *old, const brix_reading *now, brix_metric tokens, double window)
{
    return old && window > 0 ? (now->value[tokens] - old->value[tokens]) / window : NAN;
}

static double or_else(double value, double other)
{
    return isnan(value) ? other : value;
}

static double difference(double whole, double part)
{
    return isnan(whole) || isnan(part) ? NAN : at_least_zero(whole - part);
}

/* The mark before the window begins, or the oldest; marks older than that are let go. */
static const brix_mark *window_begin(brix_probe *probe, uint64_t now)
{
    uint32_t first = 0;
    while (first + 1 < probe->marks && now - probe->mark[first + 1].at >= BRIX_PROBE_WINDOW)
        first++;
    probe->marks -= first;
    memmove(probe->mark, probe->mark + first, probe->marks * sizeof probe->mark[0]);
    return probe->marks ? &probe->mark[0] : NULL;
}

static void put_mark(brix_probe *probe, const brix_reading *reading, uint64_t now)
{
    if (probe->marks && now - probe->mark[probe->marks - 1].at < MARK_DISTANCE)
        return;
    if (probe->marks == BRIX_PROBE_MARKS)
        memmove(probe->mark, probe->mark + 1, --probe->marks * sizeof probe->mark[0]);
    probe->mark[probe->marks++] = (brix_mark){now, *reading};
}

static double busy_share(brix_probe *probe, const brix_reading *now, double passed)
{
    double running = now->value[BRIX_METRIC_RUNNING];
    if (isnan(running))
        return now->value[BRIX_METRIC_UTILIZATION];
    double share = running > 0, keep = probe->last ? 1 / (1 + passed / BUSY_SECONDS) : 0;
    probe->busy = probe->busy * keep + share * (1 - keep);
    return probe->busy;
}

/* Requests that no process of this node sent. Only what two pages in a row show: between asking for a page and
   its making, a request of ours may have come. */
static double remote_share(brix_probe *probe, const brix_reading *now, const brix_scrape *scrape)
{
    double engine = now->value[BRIX_METRIC_RUNNING] + or_else(now->value[BRIX_METRIC_WAITING], 0);
    double others = isnan(engine) ? 0 : at_least_zero(engine - (double)scrape->local);
    double shown = !probe->last ? 0 : others < probe->remote ? others : probe->remote;
    probe->remote = others;
    return shown;
}

static void put_averages(const brix_probe *probe, const brix_reading *old, const brix_reading *now, double *gauges)
{
    double queue = average_of(probe, BRIX_METRIC_QUEUE_TIME), first = average_of(probe, BRIX_METRIC_FIRST_TOKEN_TIME);
    double whole = average_of(probe, BRIX_METRIC_REQUEST_TIME);
    gauges[BRIX_GAUGE_QUEUE_TIME] = is_idle(now) && !isnan(queue) ? 0 : queue;
    gauges[BRIX_GAUGE_PREFILL_TIME] = or_else(average_of(probe, BRIX_METRIC_PREFILL_TIME), difference(first, queue));
    gauges[BRIX_GAUGE_DECODE_TIME] = or_else(average_of(probe, BRIX_METRIC_DECODE_TIME), difference(whole, first));
    gauges[BRIX_GAUGE_FIRST_TOKEN_TIME] = first;
    gauges[BRIX_GAUGE_TOKEN_TIME] = average_of(probe, BRIX_METRIC_TOKEN_TIME);
    gauges[BRIX_GAUGE_REQUEST_TIME] = whole;
    gauges[BRIX_GAUGE_PROMPT_LENGTH] = or_else(average_of(probe, BRIX_METRIC_PROMPT_LENGTH),
                                               length_by_counters(old, now, BRIX_METRIC_PROMPT_TOKENS));
    gauges[BRIX_GAUGE_GENERATION_LENGTH] = or_else(average_of(probe, BRIX_METRIC_GENERATION_LENGTH),
                                                   length_by_counters(old, now, BRIX_METRIC_GENERATION_TOKENS));
}

static void put_present(const brix_reading *now, double *gauges)
{
    const double *value = now->value;
    gauges[BRIX_GAUGE_RUNNING] = value[BRIX_METRIC_RUNNING];
    gauges[BRIX_GAUGE_WAITING] = value[BRIX_METRIC_WAITING];
    gauges[BRIX_GAUGE_KV_CACHE] = or_else(value[BRIX_METRIC_KV_CACHE], value[BRIX_METRIC_GPU_CACHE]);
    gauges[BRIX_GAUGE_GPU_CACHE] = or_else(value[BRIX_METRIC_GPU_CACHE], value[BRIX_METRIC_KV_CACHE]);
    gauges[BRIX_GAUGE_CPU_CACHE] = value[BRIX_METRIC_CPU_CACHE];
    gauges[BRIX_GAUGE_UTILIZATION] = value[BRIX_METRIC_UTILIZATION];
}

void brix_probe_take(brix_probe *probe, uint32_t generation, const brix_reading *reading, const brix_scrape *scrape,
                     double gauges[BRIX_GAUGES])
{
    if (probe->generation != generation || probe->last > scrape->now ||
        (probe->marks && is_restarted(&probe->mark[probe->marks - 1].reading, reading)))
        begin(probe, generation);
    const brix_mark *mark = window_begin(probe, scrape->now);
    const brix_reading *old = mark ? &mark->reading : NULL;
    double passed = seconds(probe->last, scrape->now), window = mark ? seconds(mark->at, scrape->now) : 0;
    average(probe, old, reading, probe->last ? passed : 0);
    put_present(reading, gauges);
    put_averages(probe, old, reading, gauges);
    gauges[BRIX_GAUGE_TAKEN] = (double)scrape->now / 1e9;
    gauges[BRIX_GAUGE_OWNER] = generation;
    gauges[BRIX_GAUGE_LOCAL] = (double)scrape->local;
    gauges[BRIX_GAUGE_REMOTE] = remote_share(probe, reading, scrape);
    gauges[BRIX_GAUGE_BUSY] = busy_share(probe, reading, passed);
    gauges[BRIX_GAUGE_PROMPT_RATE] = rate_of(old, reading, BRIX_METRIC_PROMPT_TOKENS, window);
    gauges[BRIX_GAUGE_GENERATION_RATE] = or_else(rate_of(old, reading, BRIX_METRIC_GENERATION_TOKENS, window),
                                                 reading->value[BRIX_METRIC_GENERATION_RATE]);
    put_mark(probe, reading, scrape->now);
    probe->last = scrape->now;
}
