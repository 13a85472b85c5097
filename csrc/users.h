/*
 * users.h: what each user's requests weighed in the last minutes, for fair sharing.
 *
 *   row 0    least and most of the users that are active, refreshed by the collector
 *   row 1..  sets of BRIX_USER_WAYS rows: [ name | touched | window: 64 x [ part of time : 32 | tokens : 32 ] ]
 *
 * Every reader adds to the same words, by compare-and-swap. A name is its hash; where a set is full the one that
 * was touched longest ago goes, so that any number of invented names leaves the memory as it is.
 */
#ifndef BRIX_USERS_H
#define BRIX_USERS_H

#include "segment.h"

#define BRIX_USER_WAYS 8u
#define BRIX_USER_SETS 128u
#define BRIX_USER_PARTS 60u /* of a window; the ring has four more, so that no part is two at once */

/* Weights as configured; the topology holds them. */
typedef struct {
    uint64_t window; /* nanoseconds */
    double least_tokens;
    double most_tokens;
    double full_load;
    double input_weight;
    double output_weight;
    double fairness_weight;
    double utilization_weight;
} brix_fair;

brix_fair brix_fair_of(const brix_topology *topology);

/* Tokens of the user within the window; 0 for an unknown or empty one, or where the segment has no users. */
double brix_user_total(const brix_map *map, const brix_fair *fair, brix_text user, uint64_t now);
/* BRIX_BAD for an empty user. */
brix_status brix_user_add(const brix_map *map, const brix_fair *fair, brix_text user, uint64_t input, uint64_t output,
                          uint64_t now);
/* The length that stands for one pod: between the least and the most active user. */
double brix_user_bucket(const brix_map *map, const brix_fair *fair);
/* Find the least and the most active user anew. */
void brix_users_refresh(const brix_map *map, const brix_fair *fair, uint64_t now);
void brix_users_range(const brix_map *map, const brix_fair *fair, double *least, double *most);

/* Tokens that an answer will have, as estimated. */
static inline uint64_t brix_estimated_output(uint64_t input)
{
    return (input * 3 + 1) / 2;
}

#endif
