#define _POSIX_C_SOURCE 200809L
#include "flow.h"

#include "counters.h"
#include "gauges.h"
#include "kernel.h"
#include "times.h"
#include "trouble.h"

size_t brix_flow_bytes(void)
{
    return (sizeof(brix_flow) + 4095) / 4096 * 4096;
}

/* Version 4 of RFC 9562 from two random words. */
static void write_uuid(char target[BRIX_REQUEST_ID], uint64_t high, uint64_t low)
{
    static const char digits[] = "0123456789abcdef";
    high = (high & ~0xf000ull) | 0x4000ull;
    low = (low & ~(3ull << 62)) | 2ull << 62;
    for (int i = 0, nibble = 0; i < BRIX_REQUEST_ID; i++) {
        if (i == 8 || i == 13 || i == 18 || i == 23) {
            target[i] = '-';
            continue;
        }
        uint64_t word = nibble < 16 ? high : low;
        target[i] = digits[word >> (60 - 4 * (nibble % 16)) & 15];
        nibble++;
    }
}

static void begin_id(brix_flow *flow, brix_text trace_id)
{
    flow->has_trace = trace_id.length > 0;
    if (flow->has_trace) {
        flow->request_id_length = (uint8_t)brix_text_copy(flow->request_id, BRIX_REQUEST_ID, trace_id);
        return;
    }
    write_uuid(flow->request_id, brix_reader_random(flow->reader), brix_reader_random(flow->reader));
    flow->request_id_length = BRIX_REQUEST_ID;
}

brix_status brix_flow_begin(brix_reader *reader, const char *trace_id, size_t length, brix_flow **result)
{
    uint32_t index = 0;
    brix_flow *flow = brix_flow_take(reader, &index);
    if (!flow)
        return BRIX_FULL;
    /* The link is read by other threads, and the buffers at the end need no clearing. */
    memset((char *)flow + sizeof flow->link, 0, offsetof(brix_flow, decision) - sizeof flow->link);
    memset(&flow->usage, 0, sizeof flow->usage);
    brix_intake_type(&flow->intake, BRIX_LITERAL(""));
    flow->decision.counted = 0;
    flow->order.others = flow->order.served = flow->order.is_wanted = 0;
    flow->decision.model_place = 0;
    flow->decision.pod_name_length = flow->decision.address_length = flow->decision.strategy_length = 0;
    flow->decision.profile_length = 0;
    flow->index = index;
    flow->reader = reader;
    flow->view = brix_view_enter(reader);
    flow->begun_at = brix_clock();
    begin_id(flow, (brix_text){trace_id, length});
    brix_add(&flow->view->slot->requests, 1);
    *result = flow;
    return BRIX_OK;
}

int brix_flow_is_complete(const brix_flow *flow)
{
    return flow->outcome != BRIX_OUTCOME_NONE;
}

brix_text brix_outcome_name(brix_outcome outcome)
{
    switch (outcome) {
    case BRIX_OUTCOME_OK:
        return BRIX_LITERAL("ok");
    case BRIX_OUTCOME_REJECTED:
        return BRIX_LITERAL("rejected");
    case BRIX_OUTCOME_UPSTREAM_ERROR:
        return BRIX_LITERAL("upstream_error");
    case BRIX_OUTCOME_CLIENT_CANCELLED:
        return BRIX_LITERAL("client_cancelled");
    case BRIX_OUTCOME_SHUTDOWN:
        return BRIX_LITERAL("shutdown");
    default:
        return BRIX_LITERAL("");
    }
}

static void count_usage(brix_flow *flow, brix_model_cells *cells)
{
    if (!flow->endpoint || !flow->endpoint->has_usage)
        return;
    if (brix_usage_is_broken(&flow->usage) || (flow->usage.seen == 0 && !flow->is_streaming))
        brix_add(&flow->view->slot->unparsed, 1);
    if (flow->usage.seen == 0)
        return;
    brix_add(&cells->with_usage, 1);
    brix_add(&cells->prompt_tokens, brix_usage_prompt(&flow->usage));
    brix_add(&cells->completion_tokens, brix_usage_completion(&flow->usage));
}

void brix_flow_settle(brix_flow *flow, brix_outcome outcome, uint32_t code)
{
    if (flow->outcome != BRIX_OUTCOME_NONE)
        return;
    flow->outcome = outcome;
    flow->code = code;
    brix_model_cells *cells = brix_slot_model(flow->view->slot, flow->decision.model_place);
    brix_add(&cells->endings[brix_ending_index(outcome, code)], 1);
    if (outcome == BRIX_OUTCOME_OK) {
        count_usage(flow, cells);
        brix_times_count(flow);
    }
    brix_flow_charge(flow);
    brix_finish(flow->view, &flow->decision);
}

int brix_flow_try_again(brix_flow *flow)
{
    uint64_t now = brix_clock();
    if (flow->stage != FLOW_ROUTED || brix_flow_is_complete(flow) || flow->decision.verdict != BRIX_CHOSEN)
        return 0;
    brix_trouble_failed(flow->view, flow->decision.pod_place, flow->decision.generation, now);
    if (flow->tries + 1 >= BRIX_TRIES || now - flow->decided_at > BRIX_TRY_NS)
        return 0;
    flow->tried[flow->tries++] = flow->decision.pod_place;
    brix_finish(flow->view, &flow->decision);
    flow->decision.model_place = 0;
    flow->decision.pod_name_length = flow->decision.address_length = flow->decision.strategy_length = 0;
    flow->decision.profile_length = 0;
    flow->stage = FLOW_OPEN;
    flow->status = 0;
    flow->body_length = 0;
    flow->too_many = flow->unanswered = flow->is_local = 0;
    return 1;
}

void brix_flow_refuse(brix_flow *flow, const brix_refusal *refusal, brix_out *scratch, brix_action *action)
{
    brix_action_refuse(action, scratch, refusal);
    brix_flow_settle(flow, BRIX_OUTCOME_REJECTED, refusal->status);
}

int brix_flow_hold(brix_flow *flow, uint64_t bytes)
{
    brix_reader *reader = flow->reader;
    if (reader->held_limit == 0 || bytes <= flow->held)
        return 1;
    uint64_t more = bytes - flow->held;
    if (atomic_fetch_add_explicit(&reader->held, more, memory_order_relaxed) + more > reader->held_limit) {
        atomic_fetch_sub_explicit(&reader->held, more, memory_order_relaxed);
        return 0;
    }
    flow->held = bytes;
    return 1;
}

static void hold_nothing(brix_flow *flow)
{
    if (flow->held > 0)
        atomic_fetch_sub_explicit(&flow->reader->held, flow->held, memory_order_relaxed);
    flow->held = 0;
}

void brix_flow_end(brix_flow *flow, brix_end end)
{
    /* Whoever sees no body cannot tell a last byte from a client that left. */
    if (flow->skips_body && end == BRIX_END_STREAM)
        brix_flow_settle(flow, BRIX_OUTCOME_OK, flow->status);
    if (end == BRIX_END_SHUTDOWN)
        brix_flow_settle(flow, BRIX_OUTCOME_SHUTDOWN, 503);
    else
        brix_flow_settle(flow, BRIX_OUTCOME_CLIENT_CANCELLED, 499);
    hold_nothing(flow);
    brix_add(&flow->view->slot->ended, 1);
    brix_view_leave(flow->view);
    brix_flow_give(flow->reader, flow->index);
}

void brix_flow_record(const brix_flow *flow, brix_record *record)
{
    uint32_t length = flow->model_length < BRIX_MODEL_LIMIT ? flow->model_length : BRIX_MODEL_LIMIT;
    *record = (brix_record){
        .outcome = flow->outcome,
        .code = flow->code,
        .request_id = {flow->request_id, flow->request_id_length},
        .model = {flow->model, length},
        .strategy = brix_decision_strategy(&flow->decision),
        .pod = brix_decision_pod(&flow->decision),
        .address = brix_decision_address(&flow->decision),
        .streaming = flow->is_streaming,
        .prompt_tokens = brix_usage_prompt(&flow->usage),
        .completion_tokens = brix_usage_completion(&flow->usage),
    };
}

brix_status brix_reader_decide(brix_reader *reader, const brix_request *request, brix_decision *decision)
{
    brix_view *view = brix_view_enter(reader);
    brix_held held = brix_hold(view);
    brix_decide(view, held.topology, request, decision);
    brix_release(&held);
    decision->view = (uint8_t)(view - reader->views);
    if (!decision->counted)
        brix_view_leave(view);
    return BRIX_OK;
}

void brix_reader_finish(brix_reader *reader, brix_decision *decision)
{
    if (!decision->counted || decision->view >= BRIX_VIEWS)
        return;
    brix_view *view = &reader->views[decision->view];
    brix_finish(view, decision);
    brix_view_leave(view);
}

brix_status brix_reader_explain(brix_reader *reader, const brix_request *request, brix_explained_item *items,
                                uint32_t *item_count, brix_explained *rows, uint32_t capacity, uint32_t *row_count,
                                brix_decision *decision)
{
    brix_view *view = brix_view_enter(reader);
    brix_held held = brix_hold(view);
    *row_count = brix_explain(view, held.topology, request, items, item_count, rows, capacity, decision);
    brix_release(&held);
    brix_view_leave(view);
    return BRIX_OK;
}
