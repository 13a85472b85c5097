/*
 * order.h: the pods of one request in the order in which a proxy may try them.
 *
 *   chosen      decided and counted      x-brixflow-pod
 *   others[0]   if that gave no byte     x-brixflow-next
 *   others[1]   and that neither         x-brixflow-last
 *
 * For a host that cannot ask again once the request is on its way (ext_proc): each pod is the fresh decision without
 * those before it, taken at the same moment. The proxy says with the answer whose it is; the counts then move there.
 * With fewer pods than tries the order begins again.
 */
#ifndef BRIX_ORDER_H
#define BRIX_ORDER_H

#include "action.h"
#include "reader.h"

typedef struct {
    uint32_t others;
    uint32_t served;     /* index of the pod that answered: 0 the chosen one */
    uint8_t is_wanted;   /* the host tries them in order */
    brix_decision other[BRIX_TRIES - 1];
} brix_order;

/* Find the others for a request that was decided, in the topology that the caller holds. */
void brix_order_line_up(brix_order *order, const brix_view *view, brix_topology *topology, const brix_request *request,
                        const brix_decision *chosen);
void brix_order_tell(const brix_order *order, const brix_decision *chosen, brix_action *action);
/* The answer, or the last failure, came from this address. */
void brix_order_note(brix_order *order, brix_text address);
/* Account to the pod that served: those before it failed. With is_unanswered none served, all failed. */
void brix_order_settle(brix_order *order, brix_view *view, brix_decision *chosen, int is_unanswered, uint64_t now);

#endif
