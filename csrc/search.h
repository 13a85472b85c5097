/*
 * search.h: one decision under way, and its candidates in columns.
 *
 *   members of the model -> ready? filter? -> chunk 0: place [..] load [..] growth [..] -> scores [..]
 *                                             chunk 1: ...
 * Nothing is allocated: a model of more than BRIX_CHUNK candidates is walked chunk by chunk, as often as a
 * strategy must look. What a pod carries is the sum over live slots, and what other nodes put on it.
 */
#ifndef BRIX_SEARCH_H
#define BRIX_SEARCH_H

#include "reader.h"
#include "selector.h"
#include "session.h"
#include "strategy.h"
#include "users.h"

#define BRIX_CHUNK 512

/* Who the candidates of a chunk are. */
typedef struct {
    uint32_t count;
    uint32_t is_run; /* place[c] is place[0] + c */
    const brix_pod_row *pod[BRIX_CHUNK];
    uint32_t place[BRIX_CHUNK];
    uint32_t generation[BRIX_CHUNK];
} brix_members;

typedef struct {
    uint32_t count;
    uint32_t first; /* candidates before it */
    uint32_t next; /* index of the member that a following chunk begins with */
    uint32_t is_run; /* as its members say, as what follows */
    const brix_pod_row *const *pod;
    const uint32_t *place;
    const uint32_t *generation;
    double load[BRIX_CHUNK];   /* requests on the pod now, when asked for */
    double growth[BRIX_CHUNK]; /* of the load since the sample, against what ran then; NaN: no fresh gauges */
} brix_chunk;

typedef struct {
    const brix_view *view;
    brix_topology *topology;
    const brix_model_row *model;
    const brix_request *request;
    brix_selector selector;
    brix_session session;
    brix_plan plan;
    unsigned needs;
    uint64_t random;
    uint64_t now;
    double prompt_tokens; /* of this request, or the mean over the candidates */
    double generation_tokens;
    brix_fair fair;
    double share; /* index of the pod that the user's tokens come to */
    uint32_t candidates;
    uint32_t slots;
    brix_slot *slot[BRIX_READERS_LIMIT];
    brix_chunk chunk;
    brix_members members; /* the chunk's, unless those of the last decision serve */
    brix_explained *rows; /* to be told what the strategies see; NULL: it is a real decision, and counts */
    uint32_t capacity;
    int is_imagined;  /* nothing is counted */
    int is_collected; /* the chunk holds all candidates */
    uint32_t pod_limit; /* requests in flight that make a pod no candidate; 0: none do */
    int leaves_out;   /* pods that could not be reached are no candidates, now or for this request */
} brix_search;

/* Members of the model: never more than a segment has room for, whatever a damaged one says. */
static inline uint32_t brix_member_count(const brix_search *search)
{
    uint32_t listed = search->view->map.limits.members;
    return search->model->count < listed ? search->model->count : listed;
}

/* Below bound, evenly (multiply and shift). */
uint32_t brix_random_below(uint64_t *state, uint32_t bound);

/* The pod of a member, or NULL when the segment is damaged. */
const brix_pod_row *brix_member_at(const brix_search *search, uint32_t index);

/* Call visit with each chunk of candidates, in order. */
typedef void (*brix_visit)(brix_search *search, const brix_chunk *chunk, void *context);
void brix_each_chunk(brix_search *search, brix_visit visit, void *context);

/* Raw scores of a chunk under a strategy; NaN where its data is missing. */
void brix_scores(const brix_search *search, const brix_chunk *chunk, brix_strategy strategy, double *scores);
int brix_is_larger_better(brix_strategy strategy);
/* Find what the strategies of the plan must know of all candidates first. */
void brix_survey(brix_search *search);

/* The best pod by the plan, or NULL when there is no candidate. blind: mask of the items of the plan that found
   data of no candidate. */
const brix_pod_row *brix_pick(brix_search *search, uint32_t *blind);

#endif
