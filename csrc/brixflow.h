/*
 * brixflow.h: the kernel's public face. A gateway process decides here which pod
 * serves a request; the collector tells here which pods there are.
 *
 *      collector (one writer)                    gateway processes (readers)
 *      brix_writer_open                          brix_reader_open
 *      begin, settings, pod, model, member       brix_flow_begin       one per request
 *      publish ----.                             brix_flow_message     one per ext_proc message
 *      sweep       |                             brix_flow_end         exactly one finish
 *      totals <-.  |                                 |        |
 *      scrape      |                                 |        |
 *               |  v                                 v        v
 *      .--------+---------------- segment -------------------------------------.
 *      | header | places | retained | topology x4 | slot | slot | ... | gauges  |
 *      '------------------------------------------------------------------------'
 *
 * Rules that hold for every function:
 *  - the return value is a brix_status unless the text says otherwise;
 *  - sizes go in with every pointer, texts are not terminated by zero;
 *  - nothing allocates after open, except that a reader maps a successor segment;
 *  - a writer belongs to one thread, a reader to any number, a flow to one at a time.
 */
#ifndef BRIXFLOW_H
#define BRIXFLOW_H

#include <stddef.h>
#include <stdint.h>

#include "counted.h"

/* cdef: begin */
typedef struct brix_writer brix_writer;
typedef struct brix_reader brix_reader;
typedef struct brix_flow brix_flow;

typedef enum {
    BRIX_OK = 0,
    BRIX_MISSING = 1,   /* no segment at this path yet */
    BRIX_FOREIGN = 2,   /* not a segment, damaged, or of an unknown major version */
    BRIX_BUSY = 3,      /* another writer, or every spare topology is being read */
    BRIX_FULL = 4,      /* a configured maximum is reached */
    BRIX_SYSTEM = 5,    /* the system refused; errno says why */
    BRIX_BAD = 6,       /* an argument or a message that cannot be read */
    BRIX_ASKS = 7,      /* a question for the collector: brix_flow_question, then brix_flow_answer goes on */
} brix_status;

/* Configured maxima. Everything in the segment is laid out once from them. */
typedef struct {
    uint32_t models;
    uint32_t pods;
    uint32_t members;    /* pairs of model and pod */
    uint32_t text_bytes; /* names, addresses, labels of one topology */
    uint32_t readers;    /* reader slots: gateway processes of this node */
} brix_limits;

typedef struct {
    const char *at;
    size_t length;
} brix_text;

typedef struct {
    brix_text default_strategy; /* used when the request names none; empty: none */
    brix_text api_key;          /* only its SHA-256 is kept; empty: no check */
    uint32_t hide_pod_address;  /* 1: no target-pod-ip to clients */
    uint32_t leave_streams;     /* 1: streams whose clients did not ask for usage are not counted */
    uint32_t fair_window_ms;    /* of vtc-basic, as all that follow */
    uint32_t fair_least_tokens;
    uint32_t fair_most_tokens;
    uint32_t fair_full_load;    /* requests on a pod that mean full */
    double fair_input_weight;
    double fair_output_weight;
    double fair_fairness_weight;
    double fair_utilization_weight;
    uint32_t users;           /* mask: BRIX_USERS_... */
    uint32_t model_in_flight; /* requests of a model at one time on this node; 0: any number */
    uint32_t pod_in_flight;   /* and on a pod */
    uint32_t ask_ms;          /* what a request waits for the collector at most; 0: 50 */
} brix_settings;

enum {
    BRIX_USERS_KNOWN = 1,    /* there are users with limits; without it a user's name means nothing */
    BRIX_USERS_COMPLETE = 2, /* the segment holds them all: who is not in it is nobody */
    BRIX_USERS_SHARED = 4,   /* limits are counted with other nodes: each request that has one is asked for */
    BRIX_USERS_CLOSED = 8,   /* what cannot be asked is refused instead of being decided here */
};

typedef struct {
    brix_text key;     /* identity: one that changes when the pod is another, its uid */
    brix_text space;   /* namespace */
    brix_text name;
    brix_text address; /* ip:port, IPv6 in brackets */
    brix_text engine;
    brix_text labels;  /* pairs key NUL value NUL, for external-filter */
    uint32_t ready;    /* 1: may be chosen */
} brix_pod;

#define BRIX_HINTS 4     /* prompt at least, prompt below, max_tokens at least, max_tokens below */
#define BRIX_PROFILES 64 /* of one model */

typedef struct {
    brix_text name;
    brix_text strategy;
    uint32_t is_default;
    uint32_t requests_per_second; /* 0: no limit */
    uint32_t hints;               /* mask: which hints are given, for `auto` */
    int64_t hint[BRIX_HINTS];
} brix_profile;

typedef enum {
    BRIX_CREATED = 0,  /* a new file, published with the first topology */
    BRIX_ADOPTED = 1,  /* what another writer left is carried on */
    BRIX_REPLACED = 2, /* a file of other size or layout will be superseded */
} brix_origin;

typedef struct {
    uint32_t slots_freed;  /* slots of readers that died */
    uint32_t slots_live;
    uint32_t places_freed; /* places of pods that are gone and count nothing */
    uint32_t places_held;  /* places of pods that are gone and still count */
} brix_swept;

/* What an engine says of itself, per pod and port. A gauge that is missing is NaN. Times are seconds, usages
   and shares go from 0 to 1, lengths are tokens a request. Averages are over the last seconds. */
typedef enum {
    BRIX_GAUGE_TAKEN = 0,      /* time of the sample: nanoseconds of CLOCK_MONOTONIC, an integer */
    BRIX_GAUGE_OWNER = 1,      /* generation of the pod that it is about, an integer */
    BRIX_GAUGE_LOCAL = 2,      /* requests that this node had on the pod then */
    BRIX_GAUGE_REMOTE = 3,     /* requests on it that are of nobody here */
    BRIX_GAUGE_RUNNING = 4,
    BRIX_GAUGE_WAITING = 5,
    BRIX_GAUGE_KV_CACHE = 6,
    BRIX_GAUGE_GPU_CACHE = 7,
    BRIX_GAUGE_CPU_CACHE = 8,
    BRIX_GAUGE_UTILIZATION = 9,
    BRIX_GAUGE_BUSY = 10,      /* share of the time in which the engine had work */
    BRIX_GAUGE_PROMPT_RATE = 11, /* tokens a second */
    BRIX_GAUGE_GENERATION_RATE = 12,
    BRIX_GAUGE_PROMPT_LENGTH = 13,
    BRIX_GAUGE_GENERATION_LENGTH = 14,
    BRIX_GAUGE_QUEUE_TIME = 15,
    BRIX_GAUGE_PREFILL_TIME = 16,
    BRIX_GAUGE_DECODE_TIME = 17,
    BRIX_GAUGE_FIRST_TOKEN_TIME = 18,
    BRIX_GAUGE_TOKEN_TIME = 19, /* between two tokens */
    BRIX_GAUGE_REQUEST_TIME = 20,
    BRIX_GAUGES = 21,
} brix_gauge;

#define BRIX_GAUGES_LAID_OUT 32

/* One scrape of a pod. */
typedef struct {
    brix_text page;      /* Prometheus text */
    brix_text model;     /* series of other models are left out, where the page has some of this one */
    int32_t rank;        /* the data-parallel engine that serves this port; -1: all of them */
    uint64_t now;        /* CLOCK_MONOTONIC, nanoseconds */
    uint64_t local;      /* requests of this node on the pod when the page was asked for */
} brix_scrape;

typedef struct {
    double values[BRIX_GAUGES]; /* by gauge; TAKEN in seconds */
} brix_sample;

typedef enum {
    BRIX_CLAIM_NONE = 0,
    BRIX_CLAIM_ACTIVATING = 1,
    BRIX_CLAIM_SLEEPING = 2,
    BRIX_CLAIM_FAILED = 3,
} brix_claim;

/* --- writer: the collector ------------------------------------------------------ */

/* Take the writer lock (path + ".lock") and adopt the segment at path, or prepare a new one
   that replaces it with the first publish. BRIX_BUSY: another writer lives. */
brix_status brix_writer_open(const char *path, const brix_limits *limits, brix_writer **writer, brix_origin *origin);
/* Release the lock and the mapping; the segment stays and serves. */
void brix_writer_close(brix_writer *writer);

/* A topology is written whole: begin, settings, pods, then each model followed by its members,
   publish. Readers see all of it or nothing. BRIX_FULL leaves the last one in force. */
brix_status brix_writer_begin(brix_writer *writer);
brix_status brix_writer_settings(brix_writer *writer, const brix_settings *settings);
brix_status brix_writer_pod(brix_writer *writer, const brix_pod *pod, uint32_t *index);
brix_status brix_writer_model(brix_writer *writer, const char *name, size_t length);
brix_status brix_writer_member(brix_writer *writer, uint32_t pod);
/* Configuration of the model begun last: a locked strategy, may be empty, and profiles in the order of their names. */
brix_status brix_writer_profiles(brix_writer *writer, brix_text locked, const brix_profile *profiles, uint32_t count);
/* Why no pod serves the model begun last, which gets no members: a ModelClaim is to bring it up. */
brix_status brix_writer_claim(brix_writer *writer, brix_claim state);
/* What is wrong with the HTTPRoutes of the first models, in their order; empty: nothing. Of one at most
   2 KiB are kept. */
brix_status brix_writer_problems(brix_writer *writer, const brix_text *problems, uint32_t count);
brix_status brix_writer_publish(brix_writer *writer);

/* Fold the counters of dead readers into the retained totals, free their slots, and
   free places of departed pods that no live slot counts on. To be called every 200 ms or so. */
brix_status brix_writer_sweep(brix_writer *writer, brix_swept *swept);

void brix_writer_totals(brix_writer *writer, brix_totals *totals);
/* 1 when requests came, since this was asked last, for a published model whose claim sleeps. */
int brix_writer_wanted(brix_writer *writer, brix_text model);
/* Count a metrics page of an engine, given or not, for good. */
void brix_writer_count_page(brix_writer *writer, int failed);
/* The same of a call that should wake a model. */
void brix_writer_count_wake(brix_writer *writer, int failed);
/* index runs from 0; BRIX_MISSING ends it. Index 0 stands for requests of no known model. */
brix_status brix_writer_model_totals(brix_writer *writer, uint32_t index, brix_model_totals *totals);
/* index as given by brix_writer_pod for the published topology; BRIX_MISSING beyond it. */
brix_status brix_writer_pod_totals(brix_writer *writer, uint32_t index, brix_pod_totals *totals);
/* Read the page of a pod, derive its gauges from this and the scrapes before, and make them true. index as
   above; BRIX_MISSING beyond it, BRIX_BAD for a page that is no Prometheus text: then nothing changes. */
brix_status brix_writer_scrape(brix_writer *writer, uint32_t index, const brix_scrape *scrape);
/* Set the gauges of a pod as they are given. */
brix_status brix_writer_gauges(brix_writer *writer, uint32_t index, const brix_sample *sample);
/* The gauges of a pod, all NaN when there are none or they are too old at `now`. */
brix_status brix_writer_sample(brix_writer *writer, uint32_t index, uint64_t now, brix_sample *sample);
typedef struct {
    double least; /* tokens of the least active user; as configured when none is active */
    double most;
    double bucket; /* tokens that stand for one pod */
} brix_users;

/* Find the least and the most active user of vtc-basic anew. To be called every 100 ms or so. */
brix_status brix_writer_users(brix_writer *writer, uint64_t now, brix_users *users);
/* Tokens of one user within the window. */
brix_status brix_writer_user(brix_writer *writer, brix_text user, uint64_t now, double *total);
/* As a decision does it. BRIX_BAD for an empty name. */
brix_status brix_writer_user_add(brix_writer *writer, brix_text user, uint64_t input, uint64_t output, uint64_t now);

/* Name of the strategy that decisions[index] counts; length 0 beyond the last. A list counts as its first item. */
brix_text brix_strategy_at(uint32_t index);
/* What the counter endings[index] means; outcome NONE beyond the last. */
brix_ending brix_ending_at(uint32_t index);

/* --- reader: a gateway process --------------------------------------------------- */

/* Map the segment and claim a slot, which the system frees when the process dies.
   flows bounds the requests at one time. A child process must open its own reader. */
brix_status brix_reader_open(const char *path, uint32_t flows, brix_reader **reader);
void brix_reader_close(brix_reader *reader);

/* Before the first flow: bytes of bodies at one time, beyond them 503 (0: any), and of one request. */
void brix_reader_bound(brix_reader *reader, uint64_t held, uint64_t body);
void brix_reader_skip_answers(brix_reader *reader); /* nothing of a good answer's body is wanted */

/* --- flow: one HTTP request ------------------------------------------------------- */

#define BRIX_OUTPUT_BYTES 524288

/* Begin a request. trace_id, when not empty, is the request id (the caller's span).
   BRIX_FULL: as many requests as the reader was opened for are running. */
brix_status brix_flow_begin(brix_reader *reader, const char *trace_id, size_t length, brix_flow **flow);

/* One serialized envoy.service.ext_proc.v3.ProcessingRequest in, one ProcessingResponse out.
   output must hold BRIX_OUTPUT_BYTES and, where bodies may be changed, twice the message. BRIX_BAD: not such a message; the caller ends the flow. */
brix_status brix_flow_message(brix_flow *flow, const char *message, size_t length, char *output, size_t capacity,
                              size_t *written);

/* What is to be asked after BRIX_ASKS. It lies in the output, which must be kept for brix_flow_answer. */
brix_text brix_flow_question(const brix_flow *flow);
/* What the collector answered, empty when it did not in time. The output, the same as before, gets the answer to the
   message that had to wait. */
brix_status brix_flow_answer(brix_flow *flow, const char *answer, size_t length, char *output, size_t capacity,
                             size_t *written);

/* 1 once the answer has been accounted: nothing more will change. */
int brix_flow_is_complete(const brix_flow *flow);

typedef struct {
    brix_outcome outcome; /* NONE while it runs */
    uint32_t code;        /* the status that the client got, 499 when it left */
    brix_text request_id;
    brix_text model;
    brix_text strategy;
    brix_text pod;
    brix_text address;
    uint32_t streaming;
    uint64_t prompt_tokens;
    uint64_t completion_tokens;
} brix_record;

/* What an access log needs; texts live until brix_flow_end. */
void brix_flow_record(const brix_flow *flow, brix_record *record);

/* The host's stream is over (done, or the client left), or the host gives up on it. */
typedef enum { BRIX_END_STREAM = 0, BRIX_END_SHUTDOWN = 1 } brix_end;

/* Close the books (if they are still open) and give the flow back. */
void brix_flow_end(brix_flow *flow, brix_end end);

/* --- decisions without HTTP: benchmarks, explanations, tests ----------------------- */

typedef enum {
    BRIX_CHOSEN = 0,
    BRIX_NO_STRATEGY = 1,
    BRIX_UNKNOWN_MODEL = 2,
    BRIX_NO_READY_POD = 3,
    BRIX_BAD_STRATEGY = 4,
    BRIX_BAD_FILTER = 5,
    BRIX_NO_CANDIDATE = 6,
    BRIX_OVERLOADED = 7,
    BRIX_TOO_MANY = 8, /* in flight, of the model or on each of its pods */
    BRIX_CLAIMED = 9,  /* no pod serves it; the decision's claim says why */
} brix_verdict;

#define BRIX_TRIES 3

typedef struct {
    brix_text model;
    brix_text strategy; /* what the request asks for; empty: the default decides */
    brix_text filter;
    brix_text session_id;  /* header x-session-id */
    brix_text session_key; /* header x-aibrix-session-key */
    brix_text user;         /* header user; empty: none */
    uint64_t prompt_tokens; /* of the request, as estimated; 0: unknown */
    brix_text profile;      /* header config-profile; empty: the default one */
    int64_t max_tokens;     /* of the answer, as the body says */
    uint32_t knows;         /* 1: prompt_tokens is counted, 2: max_tokens was given */
    uint32_t avoids;        /* pods by place, left out while there is any other candidate */
    uint32_t avoid[BRIX_TRIES];
    uint64_t random;
    uint64_t now; /* CLOCK_MONOTONIC, nanoseconds; 0: the clock is asked */
} brix_request;

#define BRIX_POD_NAME 256
#define BRIX_ADDRESS 80
#define BRIX_STRATEGY 512
#define BRIX_PROFILE_NAME 128

typedef struct {
    brix_verdict verdict;
    uint32_t model_place;
    uint32_t pod_place;
    uint32_t generation;
    uint32_t candidates;
    uint16_t pod_name_length;
    uint16_t address_length;
    uint16_t strategy_length;
    uint8_t counted; /* bit 0: model, bit 1: pod; what finish takes back */
    uint8_t view;    /* of the reader: where it was counted */
    uint8_t sticky;  /* 1: the client is told its session */
    uint8_t is_xdit; /* 1: the model's engine has paths of its own */
    uint8_t is_auto; /* 1: the client is told its profile */
    uint8_t profile_length;
    uint8_t claim; /* brix_claim */
    uint32_t requests_per_second; /* limit of the profile; 0: none */
    char pod_name[BRIX_POD_NAME];
    char address[BRIX_ADDRESS];
    char strategy[BRIX_STRATEGY];
    char profile[BRIX_PROFILE_NAME];
} brix_decision;

/* Choose and count in one step, as a flow does; finish takes the count back, once. */
brix_status brix_reader_decide(brix_reader *reader, const brix_request *request, brix_decision *decision);
void brix_reader_finish(brix_reader *reader, brix_decision *decision);

#define BRIX_EXPLAINED_ITEMS 16

typedef struct { brix_text strategy; uint32_t weight; } brix_explained_item;

/* One candidate as the strategies see it. Scores that are missing are NaN. */
typedef struct {
    char pod_name[BRIX_POD_NAME];
    char address[BRIX_ADDRESS];
    uint16_t pod_name_length;
    uint16_t address_length;
    double load;                           /* requests on it: of this node and of others */
    double scores[BRIX_EXPLAINED_ITEMS]; /* raw, by item */
    double final;                          /* of a list: the weighted mean of what is brought to 0..1 */
    uint32_t picked;                       /* 1: it would be chosen now */
} brix_explained;

/* What a request would be decided as now; nothing is counted. items gets BRIX_EXPLAINED_ITEMS, rows at most
   capacity lines; decision holds verdict, pod and the number of candidates, and must not be finished. */
brix_status brix_reader_explain(brix_reader *reader, const brix_request *request, brix_explained_item *items,
                                uint32_t *item_count, brix_explained *rows, uint32_t capacity, uint32_t *row_count,
                                brix_decision *decision);

/* --- the scanner alone, for tests ------------------------------------------------- */

typedef struct {
    uint32_t valid;          /* 1: one JSON object, complete */
    uint32_t kinds[12];      /* by field: the kind of its value, 0 when absent */
    uint32_t elements[12];   /* by field: mask of the kinds inside an array */
    uint32_t model_length;   /* bytes of model, cut at its capacity */
    uint32_t text_length;    /* bytes of the routing text, cut at its capacity */
} brix_scan_result;

/* Scan body as if it came in chunks of chunk bytes (0: whole). path selects the routing text. */
brix_status brix_scan_body(const char *path, size_t path_length, const char *body, size_t length, size_t chunk,
                           char *model, size_t model_capacity, char *text, size_t text_capacity,
                           brix_scan_result *result);

/* --- the vocabulary, and counting tokens ------------------------------------------ */

/* Write the vocabulary of byte-level BPE beside the segment at this path: tokens in the order of their ranks, token i
   from offsets[i] to offsets[i + 1]; classes has a byte for each code point (0 other, 1 letter, 2 number, 3 blank). */
brix_status brix_vocabulary_write(const char *segment, const char *text, const uint32_t *offsets, uint32_t count,
                                  const uint8_t *classes);
brix_status brix_vocabulary_check(const char *segment);
typedef struct brix_counter brix_counter; /* counting alone, for tests and explanations */
brix_status brix_counter_open(const char *segment, brix_counter **counter);
void brix_counter_close(brix_counter *counter);
/* Tokens of a text that comes in chunks of chunk bytes (0: whole); limit + 1 when there are more. */
uint64_t brix_counter_count(brix_counter *counter, const char *text, size_t length, size_t chunk, uint64_t limit);

/* --- the metrics parser alone, for tests and the fuzzer ---------------------------- */

typedef enum {
    BRIX_METRIC_RUNNING = 0,
    BRIX_METRIC_WAITING = 1,
    BRIX_METRIC_KV_CACHE = 2,
    BRIX_METRIC_GPU_CACHE = 3,
    BRIX_METRIC_CPU_CACHE = 4,
    BRIX_METRIC_UTILIZATION = 5,
    BRIX_METRIC_GENERATION_RATE = 6,
    BRIX_METRIC_PROMPT_TOKENS = 7,
    BRIX_METRIC_GENERATION_TOKENS = 8,
    BRIX_METRIC_FINISHED = 9,
    BRIX_METRIC_QUEUE_TIME = 10, /* this and the following are histograms */
    BRIX_METRIC_PREFILL_TIME = 11,
    BRIX_METRIC_DECODE_TIME = 12,
    BRIX_METRIC_PROMPT_LENGTH = 13,
    BRIX_METRIC_GENERATION_LENGTH = 14,
    BRIX_METRIC_FIRST_TOKEN_TIME = 15,
    BRIX_METRIC_TOKEN_TIME = 16,
    BRIX_METRIC_REQUEST_TIME = 17,
    BRIX_METRICS = 18,
} brix_metric;

typedef struct {
    double value[BRIX_METRICS]; /* of gauges and counters; the sum of a histogram; NaN: not on the page */
    double count[BRIX_METRICS]; /* of histograms */
} brix_reading;

/* Only page, model and rank of the scrape are looked at. BRIX_BAD: no Prometheus text. */
brix_status brix_metrics_read(const brix_scrape *scrape, brix_reading *reading);

/* Names of the families that are read as this metric, best first; length 0 beyond the last. */
brix_text brix_metric_alias(brix_metric metric, uint32_t index);
/* cdef: end */

#include "quota_writer.h"

#endif
