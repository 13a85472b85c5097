#define _POSIX_C_SOURCE 200809L
#include <stdlib.h>

#include "ext_proc.h"
#include "gauges.h"
#include "module.h"

/* Envoy's local-reply mapper leaves bodies alone whose details begin like this. */
#define DETAILS ((envoy_text){"gateway", 7})
#define CHUNKS 64 /* slices of a body that are read at a time */

/* 1: a header of which there is one says the same already. Most requests tell their length themselves, and Envoy's
   id is ours. */
static int says_already(void *host, int map, const brix_header_line *line)
{
    envoy_text value;
    int is_single = brix_text_is(line->name, BRIX_LITERAL("content-length")) ||
                    brix_text_is(line->name, BRIX_LITERAL("x-request-id"));
    return is_single &&
           envoy_dynamic_module_callback_http_get_header(host, map, brix_to_envoy(line->name), &value, 0, NULL) &&
           brix_text_is(brix_from_envoy(value), line->value);
}

/* Setting costs Envoy twice what adding costs, so what cannot be there is added. */
static void set_headers(void *host, int map, const brix_action *action, brix_names *names)
{
    for (uint32_t i = 0; i < action->removes; i++)
        envoy_dynamic_module_callback_http_set_header(host, map, brix_to_envoy(action->remove[i]), (envoy_text){NULL, 0});
    for (uint32_t i = 0; i < action->sets; i++) {
        const brix_header_line *line = &action->set[i];
        envoy_text name = brix_to_envoy(line->name), value = brix_to_envoy(line->value);
        if (!brix_names_may_hold(*names, line->name))
            envoy_dynamic_module_callback_http_add_header(host, map, name, value);
        else if (!says_already(host, map, line))
            envoy_dynamic_module_callback_http_set_header(host, map, name, value);
        brix_names_add(names, line->name);
    }
}

static void reply(void *host, const brix_action *action)
{
    envoy_header headers[BRIX_SETS];
    for (uint32_t i = 0; i < action->sets; i++)
        headers[i] = (envoy_header){action->set[i].name.at, action->set[i].name.length, action->set[i].value.at,
                                    action->set[i].value.length};
    envoy_dynamic_module_callback_http_send_response(host, action->status, headers, action->sets,
                                                     brix_to_envoy(action->body), DETAILS);
}

int brix_act_on_request(void *host, brix_flow *flow, const brix_action *action)
{
    if (action->kind == BRIX_ASK)
        return !brix_ask_collector(host, action) && brix_act_on_answer(host, flow, BRIX_NOTHING);
    if (action->kind == BRIX_REPLY) {
        brix_act_record(host, flow);
        reply(host, action);
        return 0;
    }
    if (flow->asks)
        return 0;
    set_headers(host, ENVOY_REQUEST_HEADERS, action, &flow->names);
    if (action->clear_route_cache)
        envoy_dynamic_module_callback_http_clear_route_cache(host);
    return 1;
}

int brix_act_on_response(void *host, brix_names names, const brix_action *action)
{
    if (action->kind == BRIX_REPLY) {
        reply(host, action);
        return 0;
    }
    set_headers(host, ENVOY_RESPONSE_HEADERS, action, &names);
    return 1;
}

/* The slices of a body. More than `few` holds are rare, and only those are allocated. */
typedef struct {
    envoy_text *at;
    size_t count;
    envoy_text few[CHUNKS];
} slices;

static int read_slices(void *host, int body, slices *slices)
{
    slices->count = envoy_dynamic_module_callback_http_get_body_chunks_size(host, body);
    slices->at = slices->count <= CHUNKS ? slices->few : malloc(slices->count * sizeof *slices->at);
    if (!slices->at)
        return 0;
    if (slices->count > 0 && !envoy_dynamic_module_callback_http_get_body_chunks(host, body, slices->at))
        slices->count = 0;
    return 1;
}

static void drop_slices(slices *slices)
{
    if (slices->at != slices->few)
        free(slices->at);
}

static void append(void *host, int body, brix_text piece)
{
    if (piece.length > 0)
        envoy_dynamic_module_callback_http_append_body(host, body, brix_to_envoy(piece));
}

static void refuse_without_memory(brix_flow *flow, brix_out *scratch, brix_action *action)
{
    brix_refusal refusal = {.status = 503,
                            .before = BRIX_LITERAL("out of memory"),
                            .code = BRIX_LITERAL("service_unavailable")};
    brix_flow_refuse(flow, &refusal, scratch, action);
}

/* Hand on a run of the body; 0 when what follows has to wait for another hook. */
static int tell_request(brix_flow *flow, brix_text bytes, uint64_t deadline, brix_out *scratch, brix_action *action)
{
    while (bytes.length > 0 && action->kind == BRIX_CONTINUE) {
        size_t length = deadline && bytes.length > BRIX_MODULE_COUNTED ? BRIX_MODULE_COUNTED : bytes.length;
        brix_flow_request_body(flow, (brix_text){bytes.at, length}, 0, scratch, action);
        bytes = (brix_text){bytes.at + length, bytes.length - length};
        if (deadline && brix_clock() >= deadline)
            return 0;
    }
    return 1;
}

/* Feed what the flow has not seen of this body: Envoys differ in whether the last chunk is still a received
   one or already joined to the buffered ones. `seen` are the body's bytes before it that are known. */
static int feed_request(void *host, brix_flow *flow, int body, size_t seen, uint64_t deadline, brix_out *scratch,
                        brix_action *action)
{
    slices slices;
    if (!read_slices(host, body, &slices))
        return 0;
    for (size_t i = 0; i < slices.count && action->kind == BRIX_CONTINUE && !flow->is_late; i++) {
        size_t skip = seen < slices.at[i].length ? seen : slices.at[i].length;
        seen -= skip;
        brix_text rest = {slices.at[i].at + skip, slices.at[i].length - skip};
        flow->is_late = !tell_request(flow, rest, deadline, scratch, action);
    }
    drop_slices(&slices);
    return 1;
}

/* All that is here of the body, until the deadline if tokens are counted. */
static void feed(void *host, brix_flow *flow, brix_out *scratch, brix_action *action)
{
    size_t buffered = envoy_dynamic_module_callback_http_get_body_size(host, ENVOY_BUFFERED_REQUEST);
    uint64_t deadline = brix_flow_counts(flow) ? brix_clock() + BRIX_MODULE_HOOK_NS : 0;
    int read = 1;
    flow->is_late = 0;
    if (buffered > flow->body_length)
        read = feed_request(host, flow, ENVOY_BUFFERED_REQUEST, (size_t)flow->body_length, deadline, scratch, action);
    if (!flow->is_late)
        read = read && feed_request(host, flow, ENVOY_RECEIVED_REQUEST, 0, deadline, scratch, action);
    if (!read)
        refuse_without_memory(flow, scratch, action);
}

static void come_back(void *host)
{
    void *scheduler = envoy_dynamic_module_callback_http_filter_scheduler_new(host);
    envoy_dynamic_module_callback_http_filter_scheduler_commit(scheduler, 0);
    envoy_dynamic_module_callback_http_filter_scheduler_delete(scheduler);
}

/* The edit within one body that begins at `begin`: everything is appended anew, then the old bytes are drained. */
static void edit_body(void *host, int body, size_t at, const brix_edit *edit)
{
    slices slices;
    size_t seen = 0, resume = at + edit->removed;
    if (!read_slices(host, body, &slices))
        return;
    for (size_t i = 0; i < slices.count; i++) {
        const char *bytes = slices.at[i].at;
        size_t length = slices.at[i].length, head = seen < at ? at - seen : 0, skip = seen < resume ? resume - seen : 0;
        append(host, body, (brix_text){bytes, head < length ? head : length});
        if (seen <= at && at < seen + length)
            append(host, body, edit->insert);
        if (skip < length)
            append(host, body, (brix_text){bytes + skip, length - skip});
        seen += length;
    }
    envoy_dynamic_module_callback_http_drain_body(host, body, seen);
    drop_slices(&slices);
}

/* Ask for usage where the body is at hand: in the chunk that ends it, or in what is buffered, if that is small. */
static void edit_request(void *host, brix_flow *flow)
{
    brix_edit edit;
    if (!brix_flow_wants_edit(flow, &edit))
        return;
    size_t buffered = envoy_dynamic_module_callback_http_get_body_size(host, ENVOY_BUFFERED_REQUEST);
    size_t received = envoy_dynamic_module_callback_http_get_body_size(host, ENVOY_RECEIVED_REQUEST);
    if (buffered + received != flow->body_length)
        return;
    if (edit.at >= buffered)
        edit_body(host, ENVOY_RECEIVED_REQUEST, (size_t)edit.at - buffered, &edit);
    else if (edit.at + edit.removed <= buffered && buffered <= BRIX_MODULE_EDIT)
        edit_body(host, ENVOY_BUFFERED_REQUEST, (size_t)edit.at, &edit);
    else
        return;
    brix_flow_edited(flow, &edit);
}

int brix_act_on_request_body(void *host, brix_flow *flow, int end)
{
    char bytes[BRIX_MODULE_SCRATCH];
    brix_out scratch = {bytes, 0, sizeof bytes, 0};
    brix_action action;
    int was_late = flow->is_late;
    brix_action_begin(&action);
    feed(host, flow, &scratch, &action);
    if (flow->is_late && action.kind == BRIX_CONTINUE) {
        flow->stands = end ? 1 : flow->stands;
        if (!was_late)
            come_back(host);
        return 0;
    }
    if (action.kind == BRIX_CONTINUE)
        edit_request(host, flow);
    if (end && action.kind == BRIX_CONTINUE)
        brix_flow_request_body(flow, BRIX_LITERAL(""), 1, &scratch, &action);
    return brix_act_on_request(host, flow, &action);
}

int brix_act_on_request_trailers(void *host, brix_flow *flow)
{
    char bytes[BRIX_MODULE_SCRATCH];
    brix_out scratch = {bytes, 0, sizeof bytes, 0};
    brix_action action;
    if (flow->is_late) {
        flow->stands = 2;
        return 0;
    }
    brix_action_begin(&action);
    brix_flow_request_trailers(flow, &scratch, &action);
    return brix_act_on_request(host, flow, &action);
}

int brix_act_when_scheduled(void *host, brix_flow *flow)
{
    int stands = flow->stands;
    if (!flow->is_late)
        return 0;
    flow->is_late = 0; /* so that another event is asked for, if need be */
    int acted = brix_act_on_request_body(host, flow, stands == 1);
    if (flow->is_late)
        return 0;
    flow->stands = 0;
    return stands == 2 ? acted && brix_act_on_request_trailers(host, flow) : acted && stands == 1;
}

/* What goes on of an answer: nothing is written while all of it goes on as it is; once something differs, all of it is
   appended anew and the old bytes are drained. */
typedef struct {
    const slices *slices;
    size_t told;
    int differs;
} rewriting;

/* The bytes that were told before the first difference. */
static void append_told(void *host, const rewriting *rewriting)
{
    size_t left = rewriting->told;
    for (size_t i = 0; i < rewriting->slices->count && left > 0; i++) {
        size_t length = rewriting->slices->at[i].length < left ? rewriting->slices->at[i].length : left;
        append(host, ENVOY_RECEIVED_RESPONSE, (brix_text){rewriting->slices->at[i].at, length});
        left -= length;
    }
}

static void tell_piece(void *host, brix_flow *flow, rewriting *rewriting, brix_text chunk, int end)
{
    char bytes[BRIX_SCRATCH_BYTES];
    brix_out scratch = {bytes, 0, sizeof bytes, 0};
    brix_action action;
    brix_action_begin(&action);
    brix_flow_response_body(flow, chunk, end, &scratch, &action);
    if (action.body_changed && !rewriting->differs) {
        rewriting->differs = 1;
        append_told(host, rewriting);
    }
    rewriting->told += chunk.length;
    if (rewriting->differs)
        append(host, ENVOY_RECEIVED_RESPONSE, action.body_changed ? action.body : chunk);
}

static void rewrite_response(void *host, brix_flow *flow, const slices *slices, int end)
{
    rewriting rewriting = {slices, 0, 0};
    for (size_t i = 0; i < slices->count; i++)
        for (size_t at = 0; at < slices->at[i].length; at += BRIX_MODULE_PIECE) {
            size_t left = slices->at[i].length - at;
            brix_text piece = {slices->at[i].at + at, left < BRIX_MODULE_PIECE ? left : BRIX_MODULE_PIECE};
            tell_piece(host, flow, &rewriting, piece, 0);
        }
    if (end)
        tell_piece(host, flow, &rewriting, BRIX_LITERAL(""), 1);
    if (rewriting.differs)
        envoy_dynamic_module_callback_http_drain_body(host, ENVOY_RECEIVED_RESPONSE, rewriting.told);
}

static void watch_response(brix_flow *flow, const slices *slices, int end)
{
    brix_out nothing = {NULL, 0, 0, 0};
    brix_action action;
    brix_action_begin(&action);
    for (size_t i = 0; i < slices->count; i++)
        brix_flow_response_body(flow, brix_from_envoy(slices->at[i]), 0, &nothing, &action);
    if (end)
        brix_flow_response_body(flow, BRIX_LITERAL(""), 1, &nothing, &action);
}

int brix_act_on_response_body(void *host, brix_flow *flow, int end)
{
    slices slices;
    if (!read_slices(host, ENVOY_RECEIVED_RESPONSE, &slices))
        return 0;
    if (flow->is_error || flow->events.is_on)
        rewrite_response(host, flow, &slices, end);
    else
        watch_response(flow, &slices, end);
    drop_slices(&slices);
    return 1;
}

void brix_act_without_flow(void *host)
{
    char bytes[512];
    brix_out scratch = {bytes, 0, sizeof bytes, 0};
    brix_action action;
    brix_refusal refusal = {.status = 503,
                            .marker = BRIX_LITERAL("x-error-routing"),
                            .marker_value = BRIX_LITERAL("true"),
                            .before = BRIX_LITERAL("error on selecting target pod"),
                            .code = BRIX_LITERAL("service_unavailable")};
    brix_action_begin(&action);
    brix_action_refuse(&action, &scratch, &refusal);
    reply(host, &action);
}

static void note(void *host, brix_text key, brix_text value)
{
    envoy_dynamic_module_callback_http_set_filter_state_bytes(host, brix_to_envoy(key), brix_to_envoy(value));
}

static void note_number(void *host, brix_text key, uint64_t value)
{
    char digits[20];
    brix_out out = {digits, 0, sizeof digits, 0};
    brix_out_number(&out, value);
    note(host, key, (brix_text){digits, out.length});
}

/* As filter state: dynamic metadata would cost the request ten times as much, most of it in the log. */
void brix_act_record(void *host, brix_flow *flow)
{
    if (flow->is_noted || !brix_flow_is_complete(flow))
        return;
    flow->is_noted = 1;
    brix_record record;
    brix_flow_record(flow, &record);
    if (record.model.length > 0 && brix_is_utf8(record.model))
        note(host, BRIX_LITERAL("brixflow.model"), record.model);
    note(host, BRIX_LITERAL("brixflow.outcome"), brix_outcome_name(record.outcome));
    if (flow->usage.seen == 0)
        return;
    note_number(host, BRIX_LITERAL("brixflow.prompt_tokens"), record.prompt_tokens);
    note_number(host, BRIX_LITERAL("brixflow.completion_tokens"), record.completion_tokens);
}
