#include "module.h"

_Static_assert(BRIX_TRIES <= BRIX_MODULE_TRY_BITS + 1, "the number of a try fits the low bits of a flow's address");

/* A stream that nothing could decide about. */
static const _Alignas(8) char NO_FLOW[8] = {0};

/* The flow that goes on in the filter chain which Envoy makes while the callback runs that asks for it. */
static _Thread_local brix_flow *handed_over;

static brix_flow *owner_of(const void *stream)
{
    return stream == NO_FLOW ? NULL : (brix_flow *)((uintptr_t)stream & ~(uintptr_t)BRIX_MODULE_TRY_BITS);
}

/* The flow of a stream, or NULL when it has none or its request went on in another stream. */
static brix_flow *flow_of(const void *stream)
{
    brix_flow *flow = owner_of(stream);
    return flow && ((uintptr_t)stream & BRIX_MODULE_TRY_BITS) == flow->tries ? flow : NULL;
}

static const void *stream_of(const brix_flow *flow)
{
    return (const void *)((uintptr_t)flow | flow->tries);
}

const char *envoy_dynamic_module_on_program_init(void)
{
    return ENVOY_ABI_VERSION;
}

const void *envoy_dynamic_module_on_http_filter_config_new(void *config, envoy_text name, envoy_text text)
{
    (void)config;
    (void)name;
    return brix_gateway_open(brix_from_envoy(text));
}

void envoy_dynamic_module_on_http_filter_config_destroy(const void *made)
{
    brix_gateway_close((brix_gateway *)(uintptr_t)made);
}

const void *envoy_dynamic_module_on_http_filter_new(const void *made, void *host)
{
    (void)host;
    brix_flow *flow = handed_over;
    handed_over = NULL;
    if (!flow)
        flow = brix_gateway_begin((brix_gateway *)(uintptr_t)made);
    return flow ? stream_of(flow) : NO_FLOW;
}

/* Envoy gave the request an id already: it becomes ours, unless a trace told one, and need not be set. */
static void adopt_id(brix_flow *flow, brix_text value)
{
    if (flow->tries > 0 || value.length != BRIX_REQUEST_ID || flow->request_id_length != BRIX_REQUEST_ID)
        return;
    for (size_t i = 0; i < value.length; i++)
        if (value.at[i] != '-' && !(value.at[i] >= '0' && value.at[i] <= '9') &&
            !(value.at[i] >= 'a' && value.at[i] <= 'f'))
            return;
    flow->request_id_length = (uint8_t)brix_text_copy(flow->request_id, BRIX_REQUEST_ID, value);
}

static void tell_request_headers(void *host, brix_flow *flow, brix_action *action)
{
    envoy_header headers[BRIX_MODULE_HEADERS];
    size_t count = envoy_dynamic_module_callback_http_get_headers_size(host, ENVOY_REQUEST_HEADERS);
    if (count > BRIX_MODULE_HEADERS) {
        flow->too_many = 1;
        return;
    }
    envoy_dynamic_module_callback_http_get_headers(host, ENVOY_REQUEST_HEADERS, headers);
    brix_text id = BRIX_NOTHING;
    for (size_t i = 0; i < count; i++) {
        brix_text name = {headers[i].name, headers[i].name_length};
        brix_text value = {headers[i].value, headers[i].value_length};
        brix_names_add(&flow->names, name);
        if (brix_text_is(name, BRIX_LITERAL("x-request-id")))
            id = value;
        brix_flow_request_header(flow, name, value, action);
    }
    adopt_id(flow, id);
}

int envoy_dynamic_module_on_http_filter_request_headers(void *host, const void *stream, bool end)
{
    char bytes[BRIX_MODULE_SCRATCH];
    brix_out scratch = {bytes, 0, sizeof bytes, 0};
    brix_action action;
    brix_flow *flow = flow_of(stream);
    if (stream == NO_FLOW)
        brix_act_without_flow(host);
    if (!flow)
        return ENVOY_STOP;
    brix_action_begin(&action);
    tell_request_headers(host, flow, &action);
    brix_flow_request_headers_done(flow, end, &scratch, &action);
    action.clear_route_cache &= end; /* else the body's decision clears it */
    return brix_act_on_request(host, flow, &action) && end ? ENVOY_CONTINUE : ENVOY_STOP;
}

int envoy_dynamic_module_on_http_filter_request_body(void *host, const void *stream, bool end)
{
    brix_flow *flow = flow_of(stream);
    if (!flow || brix_flow_is_complete(flow) || !brix_act_on_request_body(host, flow, end))
        return flow && (flow->asks || flow->is_late) ? ENVOY_STOP_AND_BUFFER : ENVOY_STOP_NO_BUFFER;
    return end ? ENVOY_CONTINUE : ENVOY_STOP_AND_BUFFER;
}

int envoy_dynamic_module_on_http_filter_request_trailers(void *host, const void *stream)
{
    brix_flow *flow = flow_of(stream);
    if (!flow || brix_flow_is_complete(flow))
        return ENVOY_STOP;
    return brix_act_on_request_trailers(host, flow) ? ENVOY_CONTINUE : ENVOY_STOP;
}

/* A body that is counted goes on where its last hook stopped. */
void envoy_dynamic_module_on_http_filter_scheduled(void *host, const void *stream, uint64_t event)
{
    (void)event;
    brix_flow *flow = flow_of(stream);
    if (flow && !brix_flow_is_complete(flow) && brix_act_when_scheduled(host, flow))
        envoy_dynamic_module_callback_http_filter_continue_decoding(host);
}

static void tell_response_header(void *host, brix_flow *flow, brix_text name)
{
    envoy_text value;
    if (envoy_dynamic_module_callback_http_get_header(host, ENVOY_RESPONSE_HEADERS, brix_to_envoy(name), &value, 0,
                                                      NULL))
        brix_flow_response_header(flow, name, brix_from_envoy(value));
}

#define ANSWER_BYTES 32 /* of the collector: a letter and a number */

static brix_text joined(const envoy_text *body, size_t chunks, char bytes[ANSWER_BYTES])
{
    size_t length = 0;
    for (size_t i = 0; i < chunks; i++)
        length += brix_text_copy(bytes + length, ANSWER_BYTES - length, brix_from_envoy(body[i]));
    return (brix_text){bytes, length};
}

static int is_fine(const envoy_header *headers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (brix_text_is((brix_text){headers[i].name, headers[i].name_length}, BRIX_LITERAL(":status")))
            return brix_text_is((brix_text){headers[i].value, headers[i].value_length}, BRIX_LITERAL("200"));
    return 0;
}

void envoy_dynamic_module_on_http_filter_http_callout_done(void *host, const void *stream, uint64_t id, int result,
                                                           envoy_header *headers, size_t count, envoy_text *body,
                                                           size_t chunks)
{
    char bytes[ANSWER_BYTES];
    brix_flow *flow = flow_of(stream);
    (void)id;
    if (!flow || !flow->asks || brix_flow_is_complete(flow))
        return;
    brix_text answer = BRIX_NOTHING;
    if (result == 0 && is_fine(headers, count))
        answer = joined(body, chunks, bytes);
    if (brix_act_on_answer(host, flow, answer))
        envoy_dynamic_module_callback_http_filter_continue_decoding(host);
}

/* The names of all headers of the answer; of more than we can take, any. */
static brix_names tell_response_headers(void *host, brix_flow *flow)
{
    envoy_header headers[BRIX_MODULE_HEADERS];
    size_t count = envoy_dynamic_module_callback_http_get_headers_size(host, ENVOY_RESPONSE_HEADERS);
    brix_names names = count > BRIX_MODULE_HEADERS ? ~(brix_names)0 : 0;
    if (count > BRIX_MODULE_HEADERS) {
        tell_response_header(host, flow, BRIX_LITERAL(":status"));
        tell_response_header(host, flow, BRIX_LITERAL("content-encoding"));
        return names;
    }
    envoy_dynamic_module_callback_http_get_headers(host, ENVOY_RESPONSE_HEADERS, headers);
    for (size_t i = 0; i < count; i++) {
        brix_text name = {headers[i].name, headers[i].name_length};
        brix_names_add(&names, name);
        brix_flow_response_header(flow, name, (brix_text){headers[i].value, headers[i].value_length});
    }
    return names;
}

static void let_go(brix_flow *flow)
{
    if (--flow->holders == 0)
        brix_flow_end(flow, BRIX_END_STREAM);
}

/* 1: the request is on its way to another pod, and the stream whose hook this is may be gone. */
static int try_again(void *host, brix_flow *flow)
{
    if (!brix_flow_try_again(flow))
        return 0;
    flow->holders++;
    handed_over = flow;
    int recreated = envoy_dynamic_module_callback_http_filter_recreate_stream(host, NULL, 0);
    int taken = handed_over == NULL;
    handed_over = NULL;
    if (taken)
        return 1;
    brix_flow_settle(flow, BRIX_OUTCOME_UPSTREAM_ERROR, 503);
    let_go(flow);
    return recreated;
}

int envoy_dynamic_module_on_http_filter_response_headers(void *host, const void *stream, bool end)
{
    char bytes[BRIX_MODULE_SCRATCH];
    brix_out scratch = {bytes, 0, sizeof bytes, 0};
    brix_action action;
    brix_flow *flow = flow_of(stream);
    if (!flow || brix_flow_is_complete(flow))
        return ENVOY_CONTINUE;
    if (flow->unanswered && try_again(host, flow))
        return ENVOY_STOP;
    brix_names names = tell_response_headers(host, flow);
    brix_action_begin(&action);
    brix_flow_response_headers_done(flow, end, &scratch, &action);
    brix_act_record(host, flow);
    return brix_act_on_response(host, names, &action) ? ENVOY_CONTINUE : ENVOY_STOP;
}

int envoy_dynamic_module_on_http_filter_response_body(void *host, const void *stream, bool end)
{
    brix_flow *flow = flow_of(stream);
    if (flow && !brix_flow_is_complete(flow))
        brix_act_on_response_body(host, flow, end);
    if (flow)
        brix_act_record(host, flow);
    return ENVOY_CONTINUE;
}

int envoy_dynamic_module_on_http_filter_response_trailers(void *host, const void *stream)
{
    brix_action action;
    brix_flow *flow = flow_of(stream);
    brix_action_begin(&action);
    if (!flow)
        return ENVOY_CONTINUE;
    brix_flow_response_trailers(flow, &action);
    brix_act_record(host, flow);
    return ENVOY_CONTINUE;
}

int envoy_dynamic_module_on_http_filter_local_reply(void *host, const void *stream, uint32_t status,
                                                    envoy_text details, bool reset_imminent)
{
    (void)host;
    (void)status;
    brix_flow *flow = flow_of(stream);
    if (flow)
        flow->is_local = 1;
    if (flow && !reset_imminent && brix_means_unanswered(brix_from_envoy(details)))
        flow->unanswered = 1;
    return ENVOY_CONTINUE;
}

/* Before the access log is written: an end without an answer is settled here. */
void envoy_dynamic_module_on_http_filter_stream_complete(void *host, const void *stream)
{
    brix_flow *flow = flow_of(stream);
    if (!flow)
        return;
    brix_flow_settle(flow, BRIX_OUTCOME_CLIENT_CANCELLED, 499);
    brix_act_record(host, flow);
}

void envoy_dynamic_module_on_http_filter_destroy(const void *stream)
{
    brix_flow *flow = owner_of(stream);
    if (!flow)
        return;
    if (flow_of(stream))
        brix_flow_settle(flow, BRIX_OUTCOME_CLIENT_CANCELLED, 499);
    let_go(flow);
}
