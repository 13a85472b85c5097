/*
 * plain.h: how far a string runs on without anything to look at.
 *
 *   ... t h i s   i s   p l a i n "
 *       ^ at                      ^ result: a quote, a backslash, a control byte or a byte above 0x7f
 *
 * brix_plain_scalar is the reference; brix_plain must agree with it for every input.
 */
#ifndef BRIX_PLAIN_H
#define BRIX_PLAIN_H

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

static inline const char *brix_plain_scalar(const char *at, const char *end)
{
    while (at < end && *at != '"' && *at != '\\' && (signed char)*at >= 0x20)
        at++;
    return at;
}

#if defined(__SSE2__)
/* Bytes above 0x7f are negative, so one signed comparison finds them and the control bytes. */
static inline const char *brix_plain(const char *at, const char *end)
{
    const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\'), blank = _mm_set1_epi8(0x20);
    for (; end - at >= 16; at += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
        __m128i special = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(bytes, quote), _mm_cmpeq_epi8(bytes, slash)),
                                       _mm_cmplt_epi8(bytes, blank));
        int mask = _mm_movemask_epi8(special);
        if (mask != 0)
            return at + __builtin_ctz((unsigned)mask);
    }
    return brix_plain_scalar(at, end);
}
#else
static inline const char *brix_plain(const char *at, const char *end)
{
    return brix_plain_scalar(at, end);
}
#endif

#endif
