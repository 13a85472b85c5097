#define _POSIX_C_SOURCE 200809L
#include "counters.h"
#include "flow.h"
#include "gauges.h"
#include "kernel.h"
#include "profile.h"
#include "routes.h"

#define TRACE_ID 32
#define BYTES_PER_TOKEN 4 /* an estimate */

static brix_text request_id(const brix_flow *flow)
{
    return (brix_text){flow->request_id, flow->request_id_length};
}

/* version-traceid-spanid-flags: four parts, and 32 characters in the second. */
static void note_traceparent(brix_flow *flow, brix_text value)
{
    brix_text rest = brix_text_trim(value), part, trace = BRIX_NOTHING;
    int parts = 0;
    while (brix_text_cut(&rest, '-', &part))
        if (++parts == 2)
            trace = part;
    if (!flow->has_trace && parts == 4 && trace.length == TRACE_ID)
        flow->request_id_length = (uint8_t)brix_text_copy(flow->request_id, BRIX_REQUEST_ID, trace);
}

static uint16_t keep(char *target, size_t capacity, brix_text value, uint8_t *cut)
{
    value = brix_text_trim(value);
    *cut = value.length > capacity;
    return (uint16_t)brix_text_copy(target, capacity, value);
}

/* A text that is too long is as absent. */
static uint16_t keep_whole(char *target, size_t capacity, brix_text value)
{
    uint8_t cut;
    uint16_t length = keep(target, capacity, value, &cut);
    return cut ? 0 : length;
}

/* A name that is too long is nobody's. */
static void note_user(brix_flow *flow, brix_text value)
{
    uint16_t length = keep(flow->user, sizeof flow->user, value, &flow->user_cut);
    flow->user_length = flow->user_cut ? 0 : length;
}

/* What a client may not say: it is ours to the engine and to Envoy's routes. */
static int is_reserved(brix_text name)
{
    return brix_text_folds(name, BRIX_LITERAL("target-pod")) || brix_text_folds(name, BRIX_LITERAL("target-pod-ip")) ||
           brix_text_folds(name, BRIX_LITERAL("model")) || brix_text_starts(name, BRIX_LITERAL("x-error-")) ||
           brix_text_starts(name, BRIX_LITERAL("x-brixflow-"));
}

void brix_flow_request_header(brix_flow *flow, brix_text name, brix_text value, brix_action *action)
{
    if (flow->stage != FLOW_OPEN)
        return;
    if (is_reserved(name))
        flow->too_many |= !brix_action_remove(action, name);
    else if (brix_text_folds(name, BRIX_LITERAL(":path")))
        flow->endpoint = flow->tries ? flow->endpoint : brix_endpoint_find(value); /* it may be rewritten by now */
    else if (brix_text_folds(name, BRIX_LITERAL(":method")))
        flow->is_post = (uint8_t)brix_text_is(value, BRIX_LITERAL("POST"));
    else if (brix_text_folds(name, BRIX_LITERAL("authorization")))
        flow->authorization = value;
    else if (brix_text_folds(name, BRIX_LITERAL("routing-strategy")))
        flow->strategy_length = keep(flow->strategy, sizeof flow->strategy, value, &flow->strategy_cut);
    else if (brix_text_folds(name, BRIX_LITERAL("external-filter")))
        flow->filter_length = keep(flow->filter, sizeof flow->filter, value, &flow->filter_cut);
    else if (brix_text_folds(name, BRIX_LITERAL("user")))
        note_user(flow, value);
    else if (brix_text_folds(name, BRIX_LITERAL("x-session-id")))
        flow->session_id_length = keep_whole(flow->session_id, sizeof flow->session_id, value);
    else if (brix_text_folds(name, BRIX_LITERAL("x-aibrix-session-key")))
        flow->session_key_length = keep_whole(flow->session_key, sizeof flow->session_key, value);
    else if (brix_text_folds(name, BRIX_LITERAL("content-length")))
        flow->announced = brix_text_number(value);
    else if (brix_text_folds(name, BRIX_LITERAL("config-profile")))
        flow->profile_length = keep_whole(flow->profile, sizeof flow->profile, value);
    else if (brix_text_folds(name, BRIX_LITERAL("content-type")))
        brix_intake_type(&flow->intake, value);
    else if (brix_text_folds(name, BRIX_LITERAL("traceparent")))
        note_traceparent(flow, value);
}

/* "Bearer <key>" with any case and blanks; only digests are compared. */
static int has_key(const brix_flow *flow, const brix_topology *topology)
{
    brix_text rest = brix_text_trim(flow->authorization), scheme;
    uint8_t digest[BRIX_DIGEST];
    if (!brix_text_cut(&rest, ' ', &scheme) || !brix_text_folds(scheme, BRIX_LITERAL("Bearer")))
        return 0;
    rest = brix_text_trim(rest);
    if (rest.length == 0)
        return 0;
    brix_sha256(rest.at, rest.length, digest);
    return brix_digest_equal(digest, topology->key_digest);
}

/* What the headers alone decide against the settings in force. */
typedef struct {
    int is_known; /* 0: no settings can be read */
    int is_allowed;
    int has_strategy;
} gate;

static gate pass_gate(brix_flow *flow)
{
    brix_held held = brix_hold(flow->view);
    gate gate = {.has_strategy = 1};
    if (held.topology) {
        gate.is_known = 1;
        flow->leaves_streams = held.topology->leave_streams || flow->reader->skips_answers;
        gate.is_allowed = !held.topology->has_key || has_key(flow, held.topology);
        gate.has_strategy = flow->strategy_length > 0 || held.topology->default_strategy.length > 0;
    }
    brix_release(&held);
    return gate;
}

static void refuse_key(brix_flow *flow, brix_out *scratch, brix_action *action)
{
    brix_refusal refusal = {.status = 401,
                            .before = BRIX_LITERAL("Incorrect API key provided"),
                            .code = BRIX_LITERAL("invalid_api_key"),
                            .param = BRIX_LITERAL("api_key")};
    brix_flow_refuse(flow, &refusal, scratch, action);
}

static void refuse_body(brix_flow *flow, uint32_t status, brix_fault fault, brix_out *scratch, brix_action *action)
{
    brix_refusal refusal = {.status = status,
                            .marker = fault.marker,
                            .marker_value = BRIX_LITERAL("true"),
                            .before = fault.message,
                            .param = fault.param};
    brix_flow_refuse(flow, &refusal, scratch, action);
}

static void refuse_plainly(brix_flow *flow, uint32_t status, brix_text message, brix_out *scratch, brix_action *action)
{
    refuse_body(flow, status, (brix_fault){message, BRIX_NOTHING, BRIX_BODY_MARKER}, scratch, action);
}

static void refuse_routing(brix_flow *flow, brix_refusal refusal, brix_out *scratch, brix_action *action)
{
    refusal.marker = BRIX_LITERAL("x-error-routing");
    refusal.marker_value = BRIX_LITERAL("true");
    brix_flow_refuse(flow, &refusal, scratch, action);
}

static void refuse_target(brix_flow *flow, brix_out *scratch, brix_action *action)
{
    brix_refusal refusal = {.status = 503,
                            .before = BRIX_LITERAL("error on selecting target pod"),
                            .code = BRIX_LITERAL("service_unavailable")};
    refuse_routing(flow, refusal, scratch, action);
}

/* Its model's route would not take it: that is told before Envoy finds no way (gateway 4.10). */
static int refuse_unrouted(brix_flow *flow, brix_out *scratch, brix_action *action)
{
    brix_refusal refusal = {.status = 503,
                            .before = brix_route_problem(flow, scratch),
                            .code = BRIX_LITERAL("service_unavailable")};
    if (refusal.before.length == 0)
        return 0;
    refuse_routing(flow, refusal, scratch, action);
    return 1;
}

/* A request without a body reaches no decision, so it must not reach a route that trusts one. */
static int refuse_bodyless(brix_flow *flow, gate gate, brix_out *scratch, brix_action *action)
{
    if (!gate.has_strategy)
        return 0;
    if (!flow->is_post)
        refuse_plainly(flow, 405, BRIX_LITERAL("method not allowed"), scratch, action);
    else
        refuse_plainly(flow, 400, BRIX_LITERAL("error processing request body"), scratch, action);
    return 1;
}

/* The bodies of all requests together are bounded, or a few hundred uploads would end Envoy. */
static void refuse_load(brix_flow *flow, brix_out *scratch, brix_action *action)
{
    brix_refusal refusal = {.status = 503,
                            .marker = BRIX_LITERAL("Retry-After"),
                            .marker_value = BRIX_LITERAL("1"),
                            .before = BRIX_LITERAL("too many bytes of request bodies are held"),
                            .code = BRIX_LITERAL("service_unavailable")};
    brix_flow_refuse(flow, &refusal, scratch, action);
}

/* Before a body that the host hands over only as a whole, what it announces is what it will take. */
static int may_announce(brix_flow *flow)
{
    uint64_t most = flow->reader->body_limit;
    return flow->whole_bodies || brix_flow_hold(flow, flow->announced < most ? flow->announced : most);
}

void brix_flow_request_headers_done(brix_flow *flow, int end, brix_out *scratch, brix_action *action)
{
    if (flow->stage != FLOW_OPEN || brix_flow_is_complete(flow))
        return;
    flow->stage = FLOW_HEADERS;
    gate gate = pass_gate(flow);
    flow->authorization = BRIX_NOTHING;
    if (!gate.is_known)
        return refuse_target(flow, scratch, action);
    if (!gate.is_allowed)
        return refuse_key(flow, scratch, action);
    if (flow->too_many)
        return refuse_plainly(flow, 431, BRIX_LITERAL("too many reserved headers"), scratch, action);
    if (!flow->endpoint && (!end || gate.has_strategy))
        return refuse_plainly(flow, 501, BRIX_LITERAL("unknown request path"), scratch, action);
    if (end && refuse_bodyless(flow, gate, scratch, action))
        return;
    if (!may_announce(flow))
        return refuse_load(flow, scratch, action);
    if (!brix_flow_peek(flow, scratch, action))
        return;
    if (flow->endpoint)
        brix_intake_begin(&flow->intake, flow->endpoint, flow->model, sizeof flow->model, flow->view->vocabulary,
                          brix_profile_is_auto((brix_text){flow->profile, flow->profile_length}));
    brix_action_set(action, BRIX_LITERAL("x-went-into-req-headers"), BRIX_LITERAL("true"));
    action->clear_route_cache = 1;
}

static void refuse_model(brix_flow *flow, brix_text model, brix_out *scratch, brix_action *action)
{
    brix_refusal refusal = {.status = 400,
                            .marker = BRIX_LITERAL("x-error-no-model-backends"),
                            .marker_value = model,
                            .before = BRIX_LITERAL("model "),
                            .subject = model,
                            .after = BRIX_LITERAL(" does not exist"),
                            .code = BRIX_LITERAL("model_not_found"),
                            .param = BRIX_LITERAL("model")};
    brix_flow_refuse(flow, &refusal, scratch, action);
}

static void refuse_unready(brix_flow *flow, brix_text model, brix_out *scratch, brix_action *action)
{
    brix_refusal refusal = {.status = 503,
                            .marker = BRIX_LITERAL("x-error-no-model-backends"),
                            .marker_value = BRIX_LITERAL("true"),
                            .before = BRIX_LITERAL("error on getting pods for model "),
                            .subject = model,
                            .code = BRIX_LITERAL("service_unavailable")};
    brix_flow_refuse(flow, &refusal, scratch, action);
}

static void refuse_strategy(brix_flow *flow, brix_out *scratch, brix_action *action)
{
    brix_text asked = brix_decision_strategy(&flow->decision);
    brix_refusal refusal = {
        .status = 400, .before = BRIX_LITERAL("incorrect routing strategy "), .subject = asked};
    refuse_routing(flow, refusal, scratch, action);
}

static void refuse_filter(brix_flow *flow, brix_out *scratch, brix_action *action)
{
    brix_refusal refusal = {.status = 400,
                            .before = BRIX_LITERAL("external-filter is not a label selector"),
                            .param = BRIX_LITERAL("external-filter")};
    refuse_routing(flow, refusal, scratch, action);
}

#define IN_FLIGHT_RETRY BRIX_LITERAL("1") /* seconds */

static void refuse_more(brix_flow *flow, brix_text model, brix_out *scratch, brix_action *action)
{
    brix_refusal refusal = {.status = 429,
                            .marker = BRIX_LITERAL("x-error-in-flight-exceeded"),
                            .marker_value = BRIX_LITERAL("true"),
                            .before = BRIX_LITERAL("model: "),
                            .subject = model,
                            .after = BRIX_LITERAL(" has too many requests in flight"),
                            .code = BRIX_LITERAL("rate_limit_exceeded")};
    brix_flow_refuse(flow, &refusal, scratch, action);
    brix_action_set(action, BRIX_LITERAL("retry-after"), IN_FLIGHT_RETRY);
}

static brix_text content_length(brix_flow *flow)
{
    brix_out out = {flow->content_length, 0, sizeof flow->content_length, 0};
    brix_out_number(&out, flow->body_length);
    return (brix_text){flow->content_length, out.length};
}

/* Some engines have paths of their own (gateway 4.8). */
static void rewrite_path(const brix_flow *flow, brix_action *action)
{
    if (flow->decision.is_xdit && flow->endpoint->xdit.at)
        brix_action_set(action, BRIX_LITERAL(":path"), flow->endpoint->xdit);
}

static void send_to_pod(brix_flow *flow, brix_action *action)
{
    rewrite_path(flow, action);
    brix_action_set(action, BRIX_LITERAL("routing-strategy"), brix_decision_strategy(&flow->decision));
    brix_action_set(action, BRIX_LITERAL("target-pod"), brix_decision_address(&flow->decision));
    if (flow->order.is_wanted)
        brix_order_tell(&flow->order, &flow->decision, action);
    if (flow->is_whole)
        brix_action_set(action, BRIX_LITERAL("content-length"), content_length(flow));
    brix_action_set(action, BRIX_LITERAL("x-request-id"), request_id(flow));
    action->clear_route_cache = 1;
}

static brix_text model_of(const brix_flow *flow)
{
    return (brix_text){flow->model, flow->model_length < BRIX_MODEL_LIMIT ? flow->model_length : BRIX_MODEL_LIMIT};
}

static void send_to_model(brix_flow *flow, brix_action *action)
{
    rewrite_path(flow, action);
    brix_action_set(action, BRIX_LITERAL("model"), model_of(flow));
    if (flow->is_whole && flow->hides_usage)
        brix_action_set(action, BRIX_LITERAL("content-length"), content_length(flow));
    action->clear_route_cache = 1;
}

void brix_flow_send(brix_flow *flow, brix_action *action)
{
    flow->stage = FLOW_ROUTED;
    flow->is_admitted = 1;
    if (flow->decision.verdict == BRIX_CHOSEN)
        send_to_pod(flow, action);
    else
        send_to_model(flow, action);
}

int brix_flow_lacks_usage(const brix_flow *flow)
{
    return flow->is_streaming && flow->endpoint->id == BRIX_CHAT &&
           flow->intake.scan.found[BRIX_FIELD_INCLUDE_USAGE].kind != BRIX_TRUE;
}

static brix_verdict decide(brix_flow *flow, brix_text model)
{
    brix_request request = {.model = model,
                            .strategy = {flow->strategy, flow->strategy_length},
                            .filter = {flow->filter, flow->filter_length},
                            .session_id = {flow->session_id, flow->session_id_length},
                            .session_key = {flow->session_key, flow->session_key_length},
                            .user = {flow->user, flow->user_length},
                            .prompt_tokens = (brix_intake_bytes(&flow->intake) + BYTES_PER_TOKEN - 1) / BYTES_PER_TOKEN,
                            .profile = {flow->profile, flow->profile_length},
                            .random = brix_reader_random(flow->reader),
                            .now = brix_clock(),
                            .avoids = flow->tries};
    brix_intake_features(&flow->intake, &request);
    memcpy(request.avoid, flow->tried, sizeof request.avoid);
    if (flow->decided_at == 0)
        flow->decided_at = request.now;
    brix_held held = brix_hold(flow->view);
    brix_decide(flow->view, held.topology, &request, &flow->decision);
    if (flow->order.is_wanted)
        brix_order_line_up(&flow->order, flow->view, held.topology, &request, &flow->decision);
    brix_release(&held);
    return flow->decision.verdict;
}

/* A text that was too long to keep is no strategy and no selector of ours. */
static brix_verdict judge(brix_flow *flow, brix_text model)
{
    brix_verdict verdict = decide(flow, model);
    if (verdict != BRIX_CHOSEN && verdict != BRIX_NO_CANDIDATE)
        return verdict;
    if (flow->strategy_cut)
        return BRIX_BAD_STRATEGY;
    return flow->filter_cut ? BRIX_BAD_FILTER : verdict;
}

static void route(brix_flow *flow, int is_whole, brix_out *scratch, brix_action *action)
{
    brix_text model = model_of(flow);
    flow->is_whole = (uint8_t)is_whole;
    switch (judge(flow, model)) {
    case BRIX_CHOSEN:
    case BRIX_NO_STRATEGY:
        if (!refuse_unrouted(flow, scratch, action) && brix_flow_admit(flow, scratch, action))
            brix_flow_send(flow, action);
        return;
    case BRIX_UNKNOWN_MODEL:
        return refuse_model(flow, model, scratch, action);
    case BRIX_CLAIMED:
        return brix_flow_refuse_claimed(flow, model, scratch, action);
    case BRIX_NO_READY_POD:
        return refuse_unready(flow, model, scratch, action);
    case BRIX_BAD_STRATEGY:
        return refuse_strategy(flow, scratch, action);
    case BRIX_BAD_FILTER:
        return refuse_filter(flow, scratch, action);
    case BRIX_TOO_MANY:
        return refuse_more(flow, model, scratch, action);
    default:
        return refuse_target(flow, scratch, action);
    }
}

/* The body is here as far as it will come. */
static void conclude(brix_flow *flow, int is_whole, brix_out *scratch, brix_action *action)
{
    brix_fault fault;
    brix_text model = brix_intake_model(&flow->intake, sizeof flow->model);
    if (model.length > 0)
        memmove(flow->model, model.at, model.length);
    flow->model_length = (uint32_t)model.length;
    flow->is_streaming = (uint8_t)brix_intake_streams(&flow->intake);
    if (brix_intake_faults(&flow->intake, &fault))
        return refuse_body(flow, 400, fault, scratch, action);
    route(flow, is_whole, scratch, action);
}

void brix_flow_request_body(brix_flow *flow, brix_text chunk, int end, brix_out *scratch, brix_action *action)
{
    if (brix_flow_is_complete(flow) || flow->stage == FLOW_ROUTED || flow->stage == FLOW_ANSWERING || flow->asks)
        return;
    if (flow->stage == FLOW_OPEN || !flow->endpoint)
        return refuse_plainly(flow, 501, BRIX_LITERAL("unknown request path"), scratch, action);
    flow->body_length += chunk.length;
    if (!brix_flow_hold(flow, flow->body_length))
        return refuse_load(flow, scratch, action);
    brix_intake_feed(&flow->intake, chunk);
    if (!flow->whole_bodies)
        brix_flow_edit_chunk(flow, chunk, scratch, action);
    if (end || (!flow->whole_bodies && brix_intake_is_complete(&flow->intake)))
        conclude(flow, end, scratch, action);
}

void brix_flow_request_trailers(brix_flow *flow, brix_out *scratch, brix_action *action)
{
    if (flow->stage != FLOW_HEADERS || !flow->endpoint || brix_flow_is_complete(flow) || flow->asks)
        return;
    conclude(flow, 0, scratch, action);
}
