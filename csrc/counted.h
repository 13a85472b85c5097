/*
 * counted.h: what is counted of requests, as the collector reads it out: a part of brixflow.h.
 *
 *   totals        over all readers, dead ones included
 *   model totals  endings [outcome, status], tokens, times [bucket, bucket, ... | sums]
 *   pod totals    what runs on it now, and what was ever sent to it
 */
#ifndef BRIX_COUNTED_H
#define BRIX_COUNTED_H

#include <stdint.h>

/* cdef: begin */
typedef enum {
    BRIX_OUTCOME_NONE = 0,
    BRIX_OUTCOME_OK = 1,
    BRIX_OUTCOME_REJECTED = 2,
    BRIX_OUTCOME_UPSTREAM_ERROR = 3,
    BRIX_OUTCOME_CLIENT_CANCELLED = 4,
    BRIX_OUTCOME_SHUTDOWN = 5,
} brix_outcome;

/* One counter of a model: how often this outcome with this HTTP status was its end.
   code 0 gathers the statuses that have no line of their own. */
typedef struct {
    brix_outcome outcome;
    uint32_t code;
} brix_ending;

#define BRIX_ENDINGS 32
#define BRIX_DECISIONS 24
#define BRIX_MODEL_NAME 256

typedef struct {
    uint64_t requests;  /* begun, ever */
    int64_t in_flight;  /* begun and not ended */
    uint32_t readers;   /* live slots */
    uint64_t anomalies; /* counts that did not match; 0 in a sound system */
    uint64_t unparsed;  /* successful answers whose usage could not be read */
    uint64_t bytes;     /* size of the segment */
    uint64_t decisions[BRIX_DECISIONS]; /* pods chosen, by strategy */
    uint64_t without_data[BRIX_DECISIONS]; /* decisions that a strategy took without data of any candidate */
    uint64_t pages;        /* metrics pages that engines gave */
    uint64_t pages_failed; /* and did not */
    uint64_t wakes;        /* calls that woke a model */
    uint64_t wakes_failed; /* and did not */
    uint64_t asked;      /* questions to the collector */
    uint64_t unanswered; /* that it did not answer in time */
    uint64_t degraded;   /* that it answered without its store */
} brix_totals;

/* Words of a model's times: buckets, and sums in microseconds. */
enum {
    BRIX_TOKEN_BUCKETS = 9,
    BRIX_TIME_BUCKETS = 13,
    BRIX_WHOLE_BUCKETS = 8,
    BRIX_TIMES_PROMPT = 0,
    BRIX_TIMES_COMPLETION = 9,
    BRIX_TIMES_FIRST_TOKEN = 18,
    BRIX_TIMES_TOKEN = 31, /* mean time of a token after the first */
    BRIX_TIMES_ROUTING = 44, /* from the request's begin to its decision */
    BRIX_TIMES_WHOLE = 57,
    BRIX_TIMES_FIRST_TOKEN_SUM = 65,
    BRIX_TIMES_TOKEN_SUM = 66,
    BRIX_TIMES_ROUTING_SUM = 67,
    BRIX_TIMES_WHOLE_SUM = 68,
    BRIX_TIMES = 72,
};

/* The bucket of a value, nanoseconds or tokens, among those that begin at this word. */
uint32_t brix_times_bucket(uint32_t first, uint64_t value);

typedef struct {
    char name[BRIX_MODEL_NAME]; /* empty: requests of no known model */
    uint32_t name_length;
    int64_t in_flight;
    uint64_t endings[BRIX_ENDINGS];
    uint64_t with_usage;
    uint64_t prompt_tokens;
    uint64_t completion_tokens;
    uint64_t times[72]; /* BRIX_TIMES */
} brix_model_totals;

typedef struct {
    uint32_t place;
    uint32_t generation;
    int64_t running;
    uint64_t routed;
} brix_pod_totals;
/* cdef: end */

#endif
