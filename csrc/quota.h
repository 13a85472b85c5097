/*
 * quota.h: what users and models may still take, in words that all readers share.
 *
 *   sets of BRIX_LIMIT_WAYS rows, a name has two sets:
 *   [ name | kind | rpm | tpm | touched | requests: window, count | tokens: window, count | owed: window, count ]
 *
 * A name is a cut of its SHA-256. The collector puts users, with their limits or as absent; a model's row is claimed
 * by the first reader that needs it. Rows are claimed by compare-and-swap. Where both sets are full the oldest
 * without a limit goes, so that any number of invented names leaves memory and real limits as they are; a row with a
 * limit goes only for one of its kind, and only when nothing counts in it.
 *
 * Windows are fixed: minutes for users, seconds for models, of CLOCK_MONOTONIC.
 */
#ifndef BRIX_QUOTA_H
#define BRIX_QUOTA_H

#include "segment.h"

#define BRIX_LIMIT_WAYS 8u
#define BRIX_LIMIT_SETS 2048u
#define BRIX_LIMIT_ROWS (BRIX_LIMIT_WAYS * BRIX_LIMIT_SETS)
#define BRIX_ABSENT_NS 5000000000ull /* how long a name that nobody knows is not asked for again */
#define BRIX_DEFAULT_RPM 100u
#define BRIX_TPM_OF_RPM 1000u

#define BRIX_MINUTE 60000000000ull
#define BRIX_SECOND 1000000000ull

typedef enum {
    BRIX_LIMIT_USER = 1,
    BRIX_LIMIT_ABSENT = 2,
    BRIX_LIMIT_MODEL = 3,
} brix_limit_kind;

typedef enum {
    BRIX_ADMITTED,
    BRIX_USER_UNKNOWN, /* not in the table: the collector may know it */
    BRIX_USER_ABSENT,  /* nobody knows it */
    BRIX_OVER_RPM,
    BRIX_OVER_TPM,
} brix_admission;

/* A user's row, with the limits in force: the defaults are filled in. */
typedef struct {
    brix_admission admission;
    uint64_t rpm;
    uint64_t tpm;
    uint64_t recorded_tpm;
    uint32_t requests; /* in this window, this one included once it is taken */
} brix_allowance;

uint64_t brix_user_name(brix_text user);
uint64_t brix_model_name(brix_text model, brix_text profile);

/* What is left, without taking any of it. */
brix_allowance brix_user_peek(const brix_map *map, brix_text user, uint64_t now);
/* Take one request; nothing is counted unless ADMITTED. */
brix_allowance brix_user_take(const brix_map *map, brix_text user, uint64_t now);
/* Count one request whatever the limits say; it was admitted elsewhere. */
void brix_user_count(const brix_map *map, brix_text user, uint64_t now);
/* Charge tokens of an answer; owed: the shared store must be told as well. */
void brix_user_charge(const brix_map *map, brix_text user, uint64_t tokens, int owed, uint64_t now);

/* Take one request of this second: 1, or 0 when `limit` were taken. */
int brix_model_take(const brix_map *map, brix_text model, brix_text profile, uint32_t limit, uint64_t now);

/* Give one back that was taken at this time. */
void brix_model_give(const brix_map *map, brix_text model, brix_text profile, uint64_t now);

/* The row of a name as of this kind, claimed when it has none; NULL when there is no room. replaces: a row of the
   same kind in which nothing counts may go for it. */
brix_limit *brix_limit_claim(const brix_map *map, uint64_t name, brix_limit_kind kind, int replaces, uint64_t now);
brix_limit *brix_limit_find(const brix_map *map, uint64_t name);

/* Free the rows that somebody was killed over while they changed hands; to be called when a segment is adopted. */
void brix_quota_recover(const brix_map *map);

#endif
