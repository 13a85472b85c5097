/*
 * scan_state.h: what the two halves of the scanner share. scan.c reads strings, structure.c reads the rest
 * and knows which value matters.
 *
 *   VALUE -> STRING <-> ESCAPE -> HEX      COLON <- key STRING
 *         -> NUMBER, LITERAL               AFTER -> KEY | VALUE | close
 *         -> FIRST_KEY, FIRST_ELEMENT      DONE: only blanks may follow
 */
#ifndef BRIX_SCAN_STATE_H
#define BRIX_SCAN_STATE_H

#include "scan.h"

enum {
    STATE_VALUE,
    STATE_FIRST_KEY,
    STATE_FIRST_ELEMENT,
    STATE_KEY,
    STATE_COLON,
    STATE_AFTER,
    STATE_STRING,
    STATE_ESCAPE,
    STATE_HEX,
    STATE_LITERAL,
    STATE_NUMBER,
    STATE_DONE,
    STATE_FAILED,
};

enum { TARGET_NONE, TARGET_KEY, TARGET_MODEL, TARGET_TEXT };

/* Each takes the byte at `at` and returns where to go on. */
const char *brix_scan_structure(brix_scan *scan, const char *at);
const char *brix_scan_literal(brix_scan *scan, const char *at);
const char *brix_scan_number(brix_scan *scan, const char *at, const char *end);

void brix_scan_key_ended(brix_scan *scan);
/* after points behind the value; filled: it was not empty. */
void brix_scan_value_ended(brix_scan *scan, const char *after, int filled);

#endif
