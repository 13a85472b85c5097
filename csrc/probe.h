/*
 * probe.h: from what a page says to what a decision needs.
 *
 *   page now  --------------.
 *   page of 10 s ago -------+--> averages of what finished between, rates, share of busy time
 *   the averages before ----'    kept while nothing finishes; they fade while the engine is idle
 *
 * An engine that has never finished a request has averages of 0, so that it is tried. Of what an engine
 * does not tell, the prefill is taken as time to the first token without the queue, and the decode as the
 * whole time without the time to the first token.
 */
#ifndef BRIX_PROBE_H
#define BRIX_PROBE_H

#include "text.h"

#define BRIX_PROBE_WINDOW 10000000000u /* nanoseconds that averages look back */
#define BRIX_PROBE_MARKS 11
#define BRIX_AVERAGES (BRIX_METRICS - BRIX_METRIC_QUEUE_TIME)

typedef struct {
    uint64_t at;
    brix_reading reading;
} brix_mark;

typedef struct {
    uint32_t generation; /* of the pod it is about; another one begins anew */
    uint32_t marks;      /* at most BRIX_PROBE_MARKS: oldest first, a second apart */
    uint64_t last;       /* time of the last page */
    double busy;
    double remote; /* of the last page */
    double average[BRIX_AVERAGES];
    brix_mark mark[BRIX_PROBE_MARKS];
} brix_probe;

/* One for each of so many pods, or NULL. Freed with free(). */
brix_probe *brix_probes_make(uint32_t pods);

/* The gauges that follow from a page and those before it. */
void brix_probe_take(brix_probe *probe, uint32_t generation, const brix_reading *reading, const brix_scrape *scrape,
                     double gauges[BRIX_GAUGES]);

#endif
