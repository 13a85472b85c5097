#include "module.h"

/* A stream that nothing could decide about. */
static const char NO_FLOW;

static brix_flow *flow_of(const void *stream)
{
    return stream == &NO_FLOW ? NULL : (brix_flow *)(uintptr_t)stream;
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
    brix_flow *flow = brix_gateway_begin((brix_gateway *)(uintptr_t)made);
    return flow ? (const void *)flow : &NO_FLOW;
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
    for (size_t i = 0; i < count; i++)
        brix_flow_request_header(flow, (brix_text){headers[i].name, headers[i].name_length},
                                 (brix_text){headers[i].value, headers[i].value_length}, action);
}

int envoy_dynamic_module_on_http_filter_request_headers(void *host, const void *stream, bool end)
{
    char bytes[BRIX_MODULE_SCRATCH];
    brix_out scratch = {bytes, 0, sizeof bytes, 0};
    brix_action action;
    brix_flow *flow = flow_of(stream);
    if (!flow) {
        brix_act_without_flow(host);
        return ENVOY_STOP;
    }
    brix_action_begin(&action);
    tell_request_headers(host, flow, &action);
    brix_flow_request_headers_done(flow, end, &scratch, &action);
    action.clear_route_cache &= end; /* else the body's decision clears it */
    return brix_act_on_request(host, &action) && end ? ENVOY_CONTINUE : ENVOY_STOP;
}

int envoy_dynamic_module_on_http_filter_request_body(void *host, const void *stream, bool end)
{
    brix_flow *flow = flow_of(stream);
    if (!flow || brix_flow_is_complete(flow) || !brix_act_on_request_body(host, flow, end))
        return ENVOY_STOP_NO_BUFFER;
    return end ? ENVOY_CONTINUE : ENVOY_STOP_AND_BUFFER;
}

int envoy_dynamic_module_on_http_filter_request_trailers(void *host, const void *stream)
{
    char bytes[BRIX_MODULE_SCRATCH];
    brix_out scratch = {bytes, 0, sizeof bytes, 0};
    brix_action action;
    brix_flow *flow = flow_of(stream);
    if (!flow || brix_flow_is_complete(flow))
        return ENVOY_STOP;
    brix_action_begin(&action);
    brix_flow_request_trailers(flow, &scratch, &action);
    return brix_act_on_request(host, &action) ? ENVOY_CONTINUE : ENVOY_STOP;
}

static void tell_response_header(void *host, brix_flow *flow, brix_text name)
{
    envoy_text value;
    if (envoy_dynamic_module_callback_http_get_header(host, ENVOY_RESPONSE_HEADERS, brix_to_envoy(name), &value, 0,
                                                      NULL))
        brix_flow_response_header(flow, name, brix_from_envoy(value));
}

int envoy_dynamic_module_on_http_filter_response_headers(void *host, const void *stream, bool end)
{
    char bytes[BRIX_MODULE_SCRATCH];
    brix_out scratch = {bytes, 0, sizeof bytes, 0};
    brix_action action;
    brix_flow *flow = flow_of(stream);
    if (!flow || brix_flow_is_complete(flow))
        return ENVOY_CONTINUE;
    tell_response_header(host, flow, BRIX_LITERAL(":status"));
    tell_response_header(host, flow, BRIX_LITERAL("content-encoding"));
    brix_action_begin(&action);
    brix_flow_response_headers_done(flow, end, &scratch, &action);
    return brix_act_on_response(host, &action) ? ENVOY_CONTINUE : ENVOY_STOP;
}

int envoy_dynamic_module_on_http_filter_response_body(void *host, const void *stream, bool end)
{
    brix_flow *flow = flow_of(stream);
    if (flow && !brix_flow_is_complete(flow))
        brix_act_on_response_body(host, flow, end);
    return ENVOY_CONTINUE;
}

int envoy_dynamic_module_on_http_filter_response_trailers(void *host, const void *stream)
{
    (void)host;
    brix_action action;
    brix_flow *flow = flow_of(stream);
    brix_action_begin(&action);
    if (flow)
        brix_flow_response_trailers(flow, &action);
    return ENVOY_CONTINUE;
}

int envoy_dynamic_module_on_http_filter_local_reply(void *host, const void *stream, uint32_t status,
                                                    envoy_text details, bool reset_imminent)
{
    (void)host;
    (void)stream;
    (void)status;
    (void)details;
    (void)reset_imminent;
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
    brix_flow *flow = flow_of(stream);
    if (flow)
        brix_flow_end(flow, BRIX_END_STREAM);
}
