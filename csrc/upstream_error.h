/*
 * upstream_error.h: an engine's error in the form that OpenAI clients read.
 *
 *   {"error":{message,type,param,code}}   -> the same bytes
 *   {"error":{...fewer}}, {"message":..}  -> the envelope, values as they were, absent ones null
 *   anything else                         -> the envelope around the text
 */
#ifndef BRIX_UPSTREAM_ERROR_H
#define BRIX_UPSTREAM_ERROR_H

#include "out.h"

/* The body to send in place of `body`: itself, or text written to scratch. */
brix_text brix_upstream_error(brix_text body, uint32_t status, brix_out *scratch);
/* The body for a request that no strategy routed and whose model's route has a problem: the envelope around both. */
brix_text brix_upstream_unrouted(brix_text body, brix_text problem, uint32_t status, brix_out *scratch);

#endif
