/*
 * module.h: host A, the kernel as a filter inside Envoy.
 *
 *   module.c         the hooks: Envoy's events told to a flow
 *   module_act.c     what the flow answers, done with Envoy's callbacks
 *   module_ask.c     what the flow asks of the collector, by Envoy's HTTP callout
 *   module_gateway.c the segment behind a filter configuration, opened as soon as there is one
 *
 *   gateway (one a filter configuration)          stream (one a filter chain)
 *     path, reader -- brix_flow_begin --------->    [ flow at a page's begin | number of the try ]
 *                                                   or NO_FLOW: nothing to decide with
 *
 * A request whose pod gave no byte runs through the filter chain again: Envoy makes a new stream for the same
 * flow. The number of the try, in the low bits of the stream's address, tells the new one from the old, which
 * Envoy may destroy later; the flow ends with the last stream that knows it.
 *
 * A request is decided once its body is complete; Envoy keeps headers and body back until then. The
 * configuration is the text "<requests> <bytes of bodies held at one time> <path of the segment>".
 */
#ifndef BRIX_MODULE_H
#define BRIX_MODULE_H

#include "flow.h"
#include "module_abi.h"

/* For what a request is refused with: a model's name, escaped, in header and message. */
#define BRIX_MODULE_SCRATCH (32u * 1024)

#define BRIX_MODULE_HEADERS 256 /* more are refused; Envoy is set to refuse earlier */

#define BRIX_MODULE_PIECE (128u * 1024) /* of an answer that may be changed: told at a time */
#define BRIX_MODULE_EDIT (2u << 20)     /* a larger buffered body is not copied to ask for usage: under 1 ms */

/* Counting tokens is cut: a hook stops at the first piece behind the deadline, so that it holds its worker for less than
   1 ms (docs/gateway.md, "Tokens"). */
#ifndef BRIX_MODULE_HOOK_NS
#define BRIX_MODULE_COUNTED 1024u
#define BRIX_MODULE_HOOK_NS 400000u
#endif

#define BRIX_MODULE_TRY_BITS 3u /* flows begin at multiples of 4096 */

typedef struct brix_gateway brix_gateway;

/* NULL when the text is no configuration or memory is lacking. A missing segment is no failure. */
brix_gateway *brix_gateway_open(brix_text text);
void brix_gateway_close(brix_gateway *gateway);
/* Begin a flow, or NULL while there is no segment, or no room. Looks for the segment at most every 100 ms. */
brix_flow *brix_gateway_begin(brix_gateway *gateway);

/* Carry out what the flow said; 0 when the request goes no further, for now or at all. */
int brix_act_on_request(void *host, brix_flow *flow, const brix_action *action);
/* names: of the headers that the answer came with. */
int brix_act_on_response(void *host, brix_names names, const brix_action *action);
/* The collector's answer to what a flow asked: 1 when the request may go on. */
int brix_act_on_answer(void *host, brix_flow *flow, brix_text answer);
/* Put a question: 1 when an answer will come, later. */
int brix_ask_collector(void *host, const brix_action *action);
/* Tell the chunks of a body that came with this event to the flow. 0 also while the flow is late: then the request
   stands, its body is buffered, and ..._scheduled goes on. */
int brix_act_on_request_body(void *host, brix_flow *flow, int end);
/* The trailers end the body; 0 as above. */
int brix_act_on_request_trailers(void *host, brix_flow *flow);
/* Tell more of a body that is late; 1 when the request that stood may go on. */
int brix_act_when_scheduled(void *host, brix_flow *flow);
int brix_act_on_response_body(void *host, brix_flow *flow, int end);
/* 503 for a request that no flow was there for. */
void brix_act_without_flow(void *host);
/* Hand the access log what only the flow knows. */
void brix_act_record(void *host, brix_flow *flow);

static inline envoy_text brix_to_envoy(brix_text text)
{
    return (envoy_text){text.at, text.length};
}

static inline brix_text brix_from_envoy(envoy_text text)
{
    return (brix_text){text.at, text.length};
}

#endif
