/*
 * names.h: which header names may be there, in one word.
 *
 *   "content-length" --> length and first letter --> bit 17      64 bits, no bit: surely absent
 *
 * Names as Envoy keeps them, in lower case.
 */
#ifndef BRIX_NAMES_H
#define BRIX_NAMES_H

#include "text.h"

typedef uint64_t brix_names;

static inline brix_names brix_names_bit(brix_text name)
{
    return name.length ? (brix_names)1 << ((name.length * 11 + (unsigned char)name.at[0] * 5u) & 63) : 0;
}

static inline void brix_names_add(brix_names *names, brix_text name)
{
    *names |= brix_names_bit(name);
}

/* 0: no header of this name was added. */
static inline int brix_names_may_hold(brix_names names, brix_text name)
{
    return (names & brix_names_bit(name)) != 0;
}

#endif
