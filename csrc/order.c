#include "order.h"

#include "kernel.h"
#include "trouble.h"

static int is_listed(const brix_request *request, uint32_t place)
{
    for (uint32_t i = 0; i < request->avoids; i++)
        if (request->avoid[i] == place)
            return 1;
    return 0;
}

void brix_order_line_up(brix_order *order, const brix_view *view, brix_topology *topology, const brix_request *request,
                        const brix_decision *chosen)
{
    brix_request again = *request;
    order->others = order->served = 0;
    if (chosen->verdict != BRIX_CHOSEN || chosen->candidates < 2)
        return;
    again.avoid[0] = chosen->pod_place;
    again.avoids = 1;
    while (order->others < BRIX_TRIES - 1) {
        brix_decision *other = &order->other[order->others];
        brix_imagine(view, topology, &again, other);
        if (other->verdict != BRIX_CHOSEN || is_listed(&again, other->pod_place))
            return;
        again.avoid[again.avoids++] = other->pod_place;
        order->others++;
    }
}

static const brix_decision *at(const brix_order *order, const brix_decision *chosen, uint32_t index)
{
    index %= order->others + 1;
    return index == 0 ? chosen : &order->other[index - 1];
}

void brix_order_tell(const brix_order *order, const brix_decision *chosen, brix_action *action)
{
    brix_action_set(action, BRIX_LITERAL("x-brixflow-pod"), brix_decision_address(chosen));
    brix_action_set(action, BRIX_LITERAL("x-brixflow-next"), brix_decision_address(at(order, chosen, 1)));
    brix_action_set(action, BRIX_LITERAL("x-brixflow-last"), brix_decision_address(at(order, chosen, 2)));
}

void brix_order_note(brix_order *order, brix_text address)
{
    order->served = 0;
    for (uint32_t i = 0; i < order->others; i++)
        if (brix_text_is(brix_decision_address(&order->other[i]), address))
            order->served = i + 1;
}

void brix_order_settle(brix_order *order, brix_view *view, brix_decision *chosen, int is_unanswered, uint64_t now)
{
    uint32_t failed = is_unanswered ? order->others + 1 : order->served;
    for (uint32_t i = 0; i < failed; i++)
        brix_trouble_failed(view, at(order, chosen, i)->pod_place, at(order, chosen, i)->generation, now);
    if (order->served > 0 && !is_unanswered)
        brix_move(view, chosen, &order->other[order->served - 1]);
    order->served = 0;
}
