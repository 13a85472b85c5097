#define _POSIX_C_SOURCE 200809L
#include "flow.h"
#include "gauges.h"
#include "kernel.h"
#include "routes.h"
#include "times.h"
#include "trouble.h"
#include "upstream_error.h"

static uint32_t parse_status(brix_text value)
{
    uint32_t status = 0;
    if (value.length != 3)
        return 500;
    for (size_t i = 0; i < 3; i++) {
        if (value.at[i] < '0' || value.at[i] > '9')
            return 500;
        status = status * 10 + (uint32_t)(value.at[i] - '0');
    }
    return status;
}

int brix_means_unanswered(brix_text details)
{
    return brix_text_starts(details, BRIX_LITERAL("upstream_reset_before_response_started")) &&
           !brix_text_holds(details, BRIX_LITERAL("{overflow"));
}

void brix_flow_attribute(brix_flow *flow, brix_text name, brix_text value)
{
    if (flow->stage == FLOW_ANSWERING)
        return;
    if (brix_text_is(name, BRIX_LITERAL("upstream.address")))
        brix_order_note(&flow->order, value);
    if (!brix_text_is(name, BRIX_LITERAL("response.code_details")))
        return;
    flow->is_local = !brix_text_is(value, BRIX_LITERAL("via_upstream"));
    flow->unanswered = brix_means_unanswered(value);
}

void brix_flow_response_header(brix_flow *flow, brix_text name, brix_text value)
{
    if (flow->stage == FLOW_ANSWERING)
        return;
    if (brix_text_is(name, BRIX_LITERAL(":status")))
        flow->status = parse_status(value);
    else if (brix_text_folds(name, BRIX_LITERAL("content-encoding")))
        flow->is_encoded = value.length > 0 && !brix_text_folds(brix_text_trim(value), BRIX_LITERAL("identity"));
}

static int hides_address(const brix_flow *flow)
{
    brix_held held = brix_hold(flow->view);
    int hides = held.topology && held.topology->hide_pod_address;
    brix_release(&held);
    return hides;
}

static void set_contract(brix_flow *flow, brix_action *action)
{
    brix_action_set(action, BRIX_LITERAL("x-went-into-req-headers"), BRIX_LITERAL("true"));
    brix_action_set(action, BRIX_LITERAL("request-id"), (brix_text){flow->request_id, flow->request_id_length});
    if (flow->update_length)
        brix_action_set(action, BRIX_LITERAL("x-update-rpm"), (brix_text){flow->update, flow->update_length});
    if (flow->decision.is_auto)
        brix_action_set(action, BRIX_LITERAL("x-aibrix-config-profile"),
                        (brix_text){flow->decision.profile, flow->decision.profile_length});
    if (flow->decision.address_length == 0)
        return;
    brix_action_set(action, BRIX_LITERAL("routing-strategy"), brix_decision_strategy(&flow->decision));
    brix_action_set(action, BRIX_LITERAL("target-pod"), brix_decision_pod(&flow->decision));
    if (flow->decision.sticky) {
        size_t length = brix_session_id(brix_decision_address(&flow->decision), flow->session_id);
        brix_action_set(action, BRIX_LITERAL("x-session-id"), (brix_text){flow->session_id, length});
    }
    if (!hides_address(flow))
        brix_action_set(action, BRIX_LITERAL("target-pod-ip"), brix_decision_address(&flow->decision));
}

static int is_success(uint32_t status)
{
    return status >= 200 && status <= 299;
}

/* The statuses that a proxy can send by itself. */
static int is_repliable(uint32_t status)
{
    return (status >= 400 && status <= 417) || (status >= 421 && status <= 424) || status == 426 || status == 428 ||
           status == 429 || status == 431 || (status >= 500 && status <= 508) || status == 510 || status == 511;
}

/* What the host itself refuses never came from an engine. */
static void settle_answer(brix_flow *flow)
{
    brix_outcome bad = flow->is_local && flow->status < 500 ? BRIX_OUTCOME_REJECTED : BRIX_OUTCOME_UPSTREAM_ERROR;
    brix_flow_settle(flow, is_success(flow->status) ? BRIX_OUTCOME_OK : bad, flow->status);
}

static void reply_instead(brix_flow *flow, brix_text body, brix_action *action)
{
    action->kind = BRIX_REPLY;
    action->status = flow->status;
    action->removes = 0;
    brix_action_set(action, BRIX_LITERAL("content-type"), BRIX_LITERAL("application/json"));
    action->body = body;
    brix_flow_settle(flow, BRIX_OUTCOME_UPSTREAM_ERROR, flow->status);
}

/* What the client reads in place of the engine's error. */
static brix_text error_body(const brix_flow *flow, brix_text body, brix_out *scratch)
{
    brix_text problem = brix_route_problem(flow, scratch);
    return problem.length ? brix_upstream_unrouted(body, problem, flow->status, scratch)
                          : brix_upstream_error(body, flow->status, scratch);
}

/* The status goes on as it is; the body will be normalised when its last byte is here. */
static void begin_error(brix_flow *flow, int end, brix_out *scratch, brix_action *action)
{
    if (flow->status == 401)
        return reply_instead(flow, error_body(flow, BRIX_LITERAL("Incorrect API key provided"), scratch), action);
    if (flow->is_encoded || flow->status < 400 || (end && !is_repliable(flow->status)))
        return;
    if (end)
        return reply_instead(flow, error_body(flow, BRIX_NOTHING, scratch), action);
    flow->is_error = 1;
    brix_action_set(action, BRIX_LITERAL("content-type"), BRIX_LITERAL("application/json"));
    brix_action_remove(action, BRIX_LITERAL("content-length"));
}

/* The answer says usage only because we asked for it; it may become shorter. */
static void begin_stream(brix_flow *flow, brix_action *action)
{
    flow->events = (brix_events){.is_on = 1};
    brix_action_remove(action, BRIX_LITERAL("content-length"));
}

void brix_flow_response_headers_done(brix_flow *flow, int end, brix_out *scratch, brix_action *action)
{
    if (brix_flow_is_complete(flow) || flow->stage == FLOW_ANSWERING)
        return;
    flow->stage = FLOW_ANSWERING;
    if (flow->order.is_wanted)
        brix_order_settle(&flow->order, flow->view, &flow->decision, flow->unanswered, brix_clock());
    if (flow->decision.address_length > 0 && !flow->unanswered)
        brix_trouble_served(flow->view, flow->decision.pod_place, flow->decision.generation);
    if (flow->status == 0)
        flow->status = 500;
    set_contract(flow, action);
    if (!is_success(flow->status) && !flow->is_local)
        begin_error(flow, end, scratch, action);
    else if (flow->hides_usage && !flow->is_encoded && !end)
        begin_stream(flow, action);
    flow->skips_body = flow->reader->skips_answers && !end && is_success(flow->status) && !flow->events.is_on;
    action->skips_body = flow->skips_body;
    if (end)
        settle_answer(flow);
}

/* An error too long to be kept: one that begins as an OpenAI error goes on as it is. */
static int looks_like_envelope(const brix_flow *flow, brix_text chunk)
{
    static const char head[] = "{\"error\":{";
    size_t matched = 0;
    for (size_t i = 0; i < flow->error_length + chunk.length && matched < sizeof head - 1; i++) {
        char byte = i < flow->error_length ? flow->error[i] : chunk.at[i - flow->error_length];
        if (brix_is_blank(byte))
            continue;
        if (byte != head[matched++])
            return 0;
    }
    return matched == sizeof head - 1;
}

static void replace_body(brix_action *action, brix_text body)
{
    action->body_changed = 1;
    action->body = body;
}

static void release_long_error(brix_flow *flow, brix_text chunk, brix_out *scratch, brix_action *action)
{
    flow->passes_error = 1;
    if (flow->error_length == 0)
        return;
    size_t from = scratch->length;
    brix_out_bytes(scratch, flow->error, flow->error_length);
    brix_out_text(scratch, chunk);
    replace_body(action, (brix_text){scratch->at + from, scratch->length - from});
}

static void collect_error(brix_flow *flow, brix_text chunk, int end, brix_out *scratch, brix_action *action)
{
    if (flow->passes_error)
        return;
    size_t room = BRIX_ERROR_LIMIT - flow->error_length;
    int fits = flow->error_length == 0 || chunk.length + flow->error_length < scratch->capacity - scratch->length;
    if (chunk.length > room && fits && looks_like_envelope(flow, chunk))
        return release_long_error(flow, chunk, scratch, action);
    flow->error_length += (uint32_t)brix_text_copy(flow->error + flow->error_length, room, chunk);
    brix_text whole = {flow->error, flow->error_length};
    replace_body(action, end ? error_body(flow, whole, scratch) : BRIX_LITERAL(""));
}

static void read_answer(brix_flow *flow, brix_text chunk)
{
    brix_times_see(flow, chunk);
    brix_usage_feed(&flow->usage, chunk.at, chunk.length);
}

void brix_flow_response_body(brix_flow *flow, brix_text chunk, int end, brix_out *scratch, brix_action *action)
{
    if (brix_flow_is_complete(flow) || flow->stage != FLOW_ANSWERING)
        return;
    flow->skips_body = 0; /* the host does not take that from us */
    if (flow->is_error)
        collect_error(flow, chunk, end, scratch, action);
    else if (!flow->is_encoded && flow->endpoint && flow->endpoint->has_usage)
        read_answer(flow, chunk);
    if (flow->events.is_on)
        brix_events_filter(&flow->events, flow->error, sizeof flow->error, chunk, end, scratch, action);
    if (end)
        settle_answer(flow);
}

void brix_flow_response_trailers(brix_flow *flow, brix_action *action)
{
    (void)action;
    if (flow->stage == FLOW_ANSWERING)
        settle_answer(flow);
}
