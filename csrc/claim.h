/*
 * claim.h: models that a ModelClaim is to bring up and that no pod serves now (gateway 4.5, 10).
 *
 *   model row without members: first = mark | brix_claim, instead of where its members begin
 *   request for one that sleeps -> place of the model: wanted = 1 -> the collector takes it and has the model woken
 *
 * A row without members and without a mark is a model all of whose pods are gone.
 */
#ifndef BRIX_CLAIM_H
#define BRIX_CLAIM_H

#include "segment.h"

#define BRIX_CLAIM_MARK 0x80000000u

static inline brix_claim brix_claim_of(const brix_model_row *model)
{
    uint32_t state = model->first ^ BRIX_CLAIM_MARK;
    return model->count == 0 && state >= BRIX_CLAIM_ACTIVATING && state <= BRIX_CLAIM_FAILED ? (brix_claim)state
                                                                                             : BRIX_CLAIM_NONE;
}

/* A request came for the model at this place. */
void brix_claim_want(const brix_map *map, uint32_t place);

#endif
