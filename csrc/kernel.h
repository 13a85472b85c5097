/*
 * kernel.h: filter, score, pick, and count.
 *
 *   request -> model row -> members -> ready? filter? -> candidates -> pick -> cells of our slot
 *                                                                              model +1, pod +1
 * One pass over the members, no list of candidates is built. What a pod carries is the sum over live
 * slots, so all gateway processes of the node see the same load. The decision keeps copies of names:
 * the topology is let go before the call returns.
 */
#ifndef BRIX_KERNEL_H
#define BRIX_KERNEL_H

#include "reader.h"

/* Decide within a topology that the caller holds, and count. */
void brix_decide(const brix_view *view, brix_topology *topology, const brix_request *request,
                 brix_decision *decision);
/* The same without counting: what each candidate scores. Returns how many rows were written. */
uint32_t brix_explain(const brix_view *view, brix_topology *topology, const brix_request *request,
                      brix_explained_item *items, uint32_t *item_count, brix_explained *rows, uint32_t capacity,
                      brix_decision *decision);
/* Decide without counting anything. */
void brix_imagine(const brix_view *view, brix_topology *topology, const brix_request *request,
                  brix_decision *decision);
/* Count what was decided on the pod of an imagined decision instead. */
void brix_move(const brix_view *view, brix_decision *decision, const brix_decision *imagined);
/* Take the counts back; once, whatever the caller does. */
void brix_finish(const brix_view *view, brix_decision *decision);

static inline brix_text brix_decision_strategy(const brix_decision *decision)
{
    return (brix_text){decision->strategy, decision->strategy_length};
}

static inline brix_text brix_decision_pod(const brix_decision *decision)
{
    return (brix_text){decision->pod_name, decision->pod_name_length};
}

static inline brix_text brix_decision_address(const brix_decision *decision)
{
    return (brix_text){decision->address, decision->address_length};
}

#endif
