/*
 * routes.h: what keeps the HTTPRoute of a model from being used, as the collector found it (gateway 4.10).
 *
 *   topology: problems -> [ count | span | span | ... ] in its text, for the first models; length 0: the route is well
 *
 * Only requests that no strategy routes ask for it: before they are sent, and when an engine answers with an error.
 */
#ifndef BRIX_ROUTES_H
#define BRIX_ROUTES_H

#include "flow.h"

/* The problem of the flow's model, written to scratch; nothing when there is none, or a strategy routes the flow. */
brix_text brix_route_problem(const brix_flow *flow, brix_out *scratch);

#endif
