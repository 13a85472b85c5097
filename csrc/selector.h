/*
 * selector.h: Kubernetes label selectors, compiled once a request and matched against each pod.
 *
 *   "app=a, tier in (x,y), !beta"  ->  [ {app IN 0..1} {tier IN 1..3} {beta ABSENT} ]  values: a x y
 *   labels of a pod: key NUL value NUL key NUL value NUL
 *
 * Set based and equality based requirements; a comma means and. !=, notin and !key also match pods that
 * lack the key, as in Kubernetes.
 */
#ifndef BRIX_SELECTOR_H
#define BRIX_SELECTOR_H

#include "text.h"

#define BRIX_SELECTOR_REQUIREMENTS 32
#define BRIX_SELECTOR_VALUES 128

typedef enum { BRIX_SELECT_IN, BRIX_SELECT_NOT_IN, BRIX_SELECT_EXISTS, BRIX_SELECT_ABSENT } brix_operator;

typedef struct {
    brix_text key;
    brix_operator operator;
    uint16_t first;
    uint16_t count;
} brix_requirement;

typedef struct {
    uint32_t requirements;
    uint32_t values;
    brix_requirement requirement[BRIX_SELECTOR_REQUIREMENTS];
    brix_text value[BRIX_SELECTOR_VALUES];
} brix_selector;

/* 1 when text is a selector; blank text selects everything. The selector points into text. */
int brix_selector_parse(brix_text text, brix_selector *selector);
int brix_selector_matches(const brix_selector *selector, brix_text labels);

#endif
