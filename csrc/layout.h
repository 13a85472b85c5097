/*
 * layout.h: what stands where in a segment, and nothing that runs.
 *
 *   0        header: magic, major.minor, state, limits, regions, active topology
 *   page 1.. pod places      stable numbers of pods: counters are found by place
 *            model places    the same for models; place 0 is "no known model"
 *            retained x2     what dead readers counted; header.fold says which row is true
 *            topology x4     immutable once published; header.active says which is true
 *            slot x readers  one per gateway process
 *   minor 1: gauges          one array over the pod places per gauge: what the engines said of themselves
 *            more            counters that the slots of minor 0 had no room for: retained x2, slots
 *   minor 2: users           tokens per user and part of a window, for fair sharing
 *   minor 3: limits          what users and models may still take; see quota.h
 *   minor 4: times           how long the requests of a model took: retained x2, slots; see times.h
 *            (prefix index: a region to come, offset 0 until then)
 *
 *   slot or retained row:
 *     [head | pin x64 | model cells: places + 1 | pod cells: places ]
 *   topology:
 *     [head | model rows | pod rows | members | name table | text]
 *
 * Offsets come from the limits alone, so nothing moves while mapped. A minor version may use spare
 * words and give offsets to regions; anything else is a new major.
 */
#ifndef BRIX_LAYOUT_H
#define BRIX_LAYOUT_H

#include <stdalign.h>
#include <stdatomic.h>

#include "brixflow.h"
#include "sha256.h"

#define BRIX_MAGIC 0x31676573776c6678u
#define BRIX_MAJOR 1u
#define BRIX_MINOR 4u
#define BRIX_TOPOLOGIES 4u
#define BRIX_PINS 64u
#define BRIX_REGIONS 16u
#define BRIX_KEY 16u
#define BRIX_READERS_LIMIT 64u /* a decision looks at every live slot */

enum { BRIX_SEGMENT_LIVE = 1, BRIX_SEGMENT_SUPERSEDED = 2 };
enum { BRIX_SLOT_FREE = 0, BRIX_SLOT_CLAIMED = 1 };
enum { BRIX_PLACE_FREE = 0, BRIX_PLACE_USED = 1, BRIX_PLACE_DEPARTED = 2 };

typedef enum {
    BRIX_REGION_POD_PLACES,
    BRIX_REGION_MODEL_PLACES,
    BRIX_REGION_RETAINED,
    BRIX_REGION_TOPOLOGY,
    BRIX_REGION_SLOTS,
    BRIX_REGION_GAUGES, /* since minor 1, as all that follow */
    BRIX_REGION_MORE,
    BRIX_REGION_USERS, /* since minor 2 */
    BRIX_REGION_LIMITS, /* since minor 3 */
    BRIX_REGION_TIMES, /* since minor 4 */
} brix_region_id;

typedef struct {
    uint64_t offset;
    uint64_t stride;
    uint64_t count;
} brix_region;

typedef struct {
    uint64_t magic;
    uint32_t major;
    uint32_t minor;
    uint64_t bytes;
    _Atomic uint32_t state;
    uint32_t spare;
    brix_limits limits;
    uint32_t more;
    brix_region regions[BRIX_REGIONS];
    alignas(64) _Atomic uint32_t active; /* topology in force, plus one; 0: none */
    _Atomic uint64_t fold;               /* low 32 bits: true retained row; high 32: slot just folded, plus one */
} brix_header;

/* A stable number for something with a name. But for `wanted`, only the writer reads and writes places. */
typedef struct {
    uint8_t key[BRIX_KEY];
    _Atomic uint32_t generation;
    _Atomic uint32_t state;
    uint32_t name_length; /* models only, as what follows */
    _Atomic uint32_t wanted; /* a request came that a claim should be woken for; readers set it */
    char name[BRIX_MODEL_NAME];
} brix_place;

typedef struct {
    uint32_t at;
    uint32_t length;
} brix_span; /* in the text of a topology */

typedef struct {
    brix_span name;
    uint32_t first; /* in members; without any, see claim.h */
    uint32_t count;
    uint32_t place;
    uint32_t generation;
    brix_span locked;   /* strategy */
    brix_span profiles; /* rows of profile.c */
} brix_model_row;

typedef struct {
    brix_span name;
    brix_span space;
    brix_span address;
    brix_span engine;
    brix_span labels;
    uint32_t place;
    uint32_t generation;
    uint32_t ready;
    uint32_t spare[5];
} brix_pod_row;

/* As brix_settings says it. */
typedef struct {
    uint32_t window_ms; /* 0: of a collector that knows of no fair sharing */
    uint32_t least_tokens;
    uint32_t most_tokens;
    uint32_t full_load;
    uint32_t input_weight; /* thousandths, as the other weights */
    uint32_t output_weight;
    uint32_t fairness_weight;
    uint32_t utilization_weight;
} brix_fair_words;

/* As brix_settings says it. */
typedef struct {
    uint32_t users; /* mask: BRIX_USERS_... */
    uint32_t model_in_flight; /* 0: any number */
    uint32_t pod_in_flight;
    uint32_t ask_ms; /* 0: 50 */
} brix_limit_words;

typedef struct {
    uint64_t sequence;
    uint32_t models;
    uint32_t pods;
    uint32_t members;
    uint32_t text_used;
    uint32_t has_key;
    uint32_t hide_pod_address;
    uint8_t key_digest[BRIX_DIGEST];
    brix_span default_strategy;
    brix_fair_words fair;
    uint32_t leave_streams;
    brix_limit_words limits;
    uint32_t problems; /* where they stand in the text, plus one; 0: there are none. See routes.h */
    uint32_t spare[2];
} brix_topology;

/* A count that belongs to one generation: generation in the high half, count in the low. */
typedef _Atomic uint64_t brix_cell;

typedef struct {
    brix_cell in_flight;
    _Atomic uint64_t endings[BRIX_ENDINGS];
    _Atomic uint64_t with_usage;
    _Atomic uint64_t prompt_tokens;
    _Atomic uint64_t completion_tokens;
    _Atomic uint64_t spare[4];
} brix_model_cells;

typedef struct {
    brix_cell running;
    _Atomic uint64_t routed;
    _Atomic uint64_t spare[2];
} brix_pod_cells;

typedef struct {
    alignas(64) _Atomic uint32_t topology; /* index being read, plus one; 0: none */
} brix_pin;

typedef struct {
    _Atomic uint32_t state;
    uint32_t reserved;
    alignas(64) _Atomic uint64_t requests;
    _Atomic uint64_t ended;
    _Atomic uint64_t anomalies;
    _Atomic uint64_t unparsed;
    _Atomic uint64_t decisions[BRIX_DECISIONS];
    _Atomic uint64_t spare[4];
    brix_pin pins[BRIX_PINS];
} brix_slot;

#define BRIX_USER_RING 64u

typedef struct {
    alignas(64) _Atomic uint64_t name; /* hash of it; 0: free. In row 0 the least total of those that are active */
    _Atomic uint64_t touched;          /* nanoseconds; in row 0 the greatest total */
    _Atomic uint64_t spare[6];
    _Atomic uint64_t window[BRIX_USER_RING];
} brix_user;

typedef struct {
    alignas(64) _Atomic uint64_t name; /* 0: free */
    _Atomic uint64_t kind;    /* stamp of the collector's list : 32 | brix_limit_kind : 32 */
    _Atomic uint64_t rpm;     /* as recorded; of a model, requests a second */
    _Atomic uint64_t tpm;
    _Atomic uint64_t touched; /* nanoseconds */
    _Atomic uint64_t requests; /* window : 32 | count : 32 */
    _Atomic uint64_t tokens;  /* window : 24 | count : 40, as owed */
    _Atomic uint64_t owed;
} brix_limit;

typedef struct {
    _Atomic uint64_t without_data[BRIX_DECISIONS]; /* decisions that a strategy took blindly, by strategy */
    _Atomic uint64_t pages;        /* of engines, as the collector counts them in the retained row: given, */
    _Atomic uint64_t pages_failed; /* and not given */
    _Atomic uint64_t wakes;        /* of sleeping models, as the collector counts them: that worked, */
    _Atomic uint64_t wakes_failed; /* and that did not */
    _Atomic uint64_t spare[33];
    _Atomic uint64_t asked;      /* questions to the collector */
    _Atomic uint64_t unanswered; /* that it did not answer in time */
    _Atomic uint64_t degraded;   /* that it answered without its store */
} brix_more;

#endif
