#include "module.h"

#define CLUSTER ((envoy_text){"gateway_ask", 11})

int brix_ask_collector(void *host, const brix_action *action)
{
    uint64_t id;
    envoy_header headers[] = {
        {":method", 7, "POST", 4},
        {":path", 5, "/ask", 4},
        {"host", 4, "collector", 9},
        {"content-type", 12, "application/json", 16},
    };
    return envoy_dynamic_module_callback_http_filter_http_callout(host, &id, CLUSTER, headers,
                                                                  sizeof headers / sizeof headers[0],
                                                                  brix_to_envoy(action->question), action->ask_ms) == 0;
}

int brix_act_on_answer(void *host, brix_flow *flow, brix_text answer)
{
    char bytes[BRIX_MODULE_SCRATCH];
    brix_out scratch = {bytes, 0, sizeof bytes, 0};
    brix_action action;
    brix_action_begin(&action);
    brix_flow_answered(flow, answer, &scratch, &action);
    return brix_act_on_request(host, flow, &action);
}
