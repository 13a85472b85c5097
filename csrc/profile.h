/*
 * profile.h: the configuration profiles of a model, and which one a request gets (gateway 4.6).
 *
 *   model row: locked strategy | profiles -> [ row | row | ... ] in the topology's text, by name
 *   config-profile: NAME -> that one; auto -> the best whose hints all hold; else the default one
 *
 * The collector has parsed the annotation; a decision only compares names and numbers.
 */
#ifndef BRIX_PROFILE_H
#define BRIX_PROFILE_H

#include "segment.h"

typedef struct {
    brix_text locked;   /* strategy of the model, whatever is asked for */
    brix_text name;     /* at NULL: no profile */
    brix_text strategy;
    uint32_t requests_per_second;
    int is_auto;        /* the request left the choice to us */
} brix_profile_choice;

int brix_profile_is_auto(brix_text wanted);
brix_profile_choice brix_profile_choose(const brix_map *map, brix_topology *topology, const brix_model_row *model,
                                        const brix_request *request);

#endif
