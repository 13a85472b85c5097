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
/* Bytes to stop at, as a mask. With bit 1 turned over, a quote falls into the gap between blank and bang, so that
   one signed comparison finds quotes, control bytes and bytes above 0x7f, which are negative. */
static inline __m128i brix_special(__m128i bytes)
{
    const __m128i slash = _mm_set1_epi8('\\'), turn = _mm_set1_epi8(2), bang = _mm_set1_epi8('!');
    return _mm_or_si128(_mm_cmplt_epi8(_mm_xor_si128(bytes, turn), bang), _mm_cmpeq_epi8(bytes, slash));
}

static inline __m128i brix_load(const char *at)
{
    return _mm_loadu_si128((const __m128i *)(const void *)at);
}

static inline const char *brix_plain(const char *at, const char *end)
{
    for (; end - at >= 64; at += 64) {
        __m128i half = _mm_or_si128(brix_special(brix_load(at)), brix_special(brix_load(at + 16)));
        __m128i rest = _mm_or_si128(brix_special(brix_load(at + 32)), brix_special(brix_load(at + 48)));
        if (_mm_movemask_epi8(_mm_or_si128(half, rest)) != 0)
            break;
    }
    for (; end - at >= 16; at += 16) {
        int mask = _mm_movemask_epi8(brix_special(brix_load(at)));
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
