/*
 * quota_writer.h: the part of the public face by which the collector tells of users and their limits.
 *
 *   file or store --records--> brix_writer_user_limits --> rows of quota.h <-- readers take and charge
 *                                                             owed --> brix_writer_owed --> the shared store
 */
#ifndef BRIX_QUOTA_WRITER_H
#define BRIX_QUOTA_WRITER_H

#include "brixflow.h"

/* cdef: begin */
typedef struct {
    uint32_t exists;   /* 0: nobody of this name, for five seconds */
    uint32_t replaces; /* 1: another user in whose row nothing counts may go for it */
    uint64_t rpm;      /* 0: the default, as tpm */
    uint64_t tpm;
} brix_user_record;

typedef struct {
    uint64_t key; /* of brix_writer_user_limits */
    uint64_t tokens;
} brix_owed;

/* A list of all users is told between begin and end: who is not told of then is forgotten. Outside of it single
   users may be told of. now: CLOCK_MONOTONIC, nanoseconds; 0: the clock is asked. BRIX_FULL: no room. */
void brix_writer_users_begin(brix_writer *writer);
brix_status brix_writer_user_limits(brix_writer *writer, brix_text user, const brix_user_record *record, uint64_t now,
                                    uint64_t *key);
void brix_writer_users_end(brix_writer *writer);
/* Tokens that a user was charged with and the shared store was not told of: taken out, index moves on from 0.
   BRIX_MISSING ends it. */
brix_status brix_writer_owed(brix_writer *writer, uint32_t *index, uint64_t now, brix_owed *owed);
/* How many names the segment has room for. */
uint32_t brix_users_capacity(void);
/* cdef: end */

#endif
