/*
 * ext_proc.h: Envoy's external processing protocol (envoy.service.ext_proc.v3) over a flow.
 *
 *   ProcessingRequest --read--> flow event --> action --write--> ProcessingResponse
 *
 *   caller's output: [ scratch for texts ......... | ........ <- response written backwards ]
 *   and then the response is moved to the front.
 *
 * Every header is written as raw_value with OVERWRITE_IF_EXISTS_OR_ADD. A body mutation is written only when
 * the body changes. Each message gets exactly one answer of its own kind, or an ImmediateResponse.
 * The entry point is brix_flow_message, in brixflow.h.
 */
#ifndef BRIX_EXT_PROC_H
#define BRIX_EXT_PROC_H

#include "flow.h"
#include "wire.h"

#define BRIX_SCRATCH_BYTES (240u * 1024)

/* The numbers of the message kinds in ProcessingRequest. */
enum {
    EXT_REQUEST_HEADERS = 2,
    EXT_RESPONSE_HEADERS = 3,
    EXT_REQUEST_BODY = 4,
    EXT_RESPONSE_BODY = 5,
    EXT_REQUEST_TRAILERS = 6,
    EXT_RESPONSE_TRAILERS = 7,
    EXT_ATTRIBUTES = 9, /* beside one of the kinds */
};

/* Write what the access log takes from the flow, as metadata of the answer. */
void brix_ext_proc_note(brix_back *back, const brix_flow *flow);
/* Write the answer to a message of this kind. */
void brix_ext_proc_write(brix_back *back, uint32_t kind, const brix_action *action);

#endif
