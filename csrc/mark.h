/*
 * mark.h: where the member name "usage" begins in a piece of an answer.
 *
 *   ..."object":"chat.completion","usage":{"prompt_tokens"...
 *                                 ^ result: its first quote, or NULL when the whole name is not in the piece
 *
 * brix_mark_scalar is the reference; brix_mark must agree with it for every input.
 */
#ifndef BRIX_MARK_H
#define BRIX_MARK_H

#include <stddef.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define BRIX_MARK "\"usage\""
#define BRIX_MARK_BYTES (sizeof BRIX_MARK - 1)

static inline const char *brix_mark_scalar(const char *at, const char *end)
{
    for (; end - at >= (ptrdiff_t)BRIX_MARK_BYTES; at++)
        if (memcmp(at, BRIX_MARK, BRIX_MARK_BYTES) == 0)
            return at;
    return NULL;
}

#if defined(__SSE2__)
/* Sixteen places at a time: a quote, a u behind it, and a quote where the name would end. */
static inline const char *brix_mark(const char *at, const char *end)
{
    const __m128i quote = _mm_set1_epi8('"'), u = _mm_set1_epi8('u');
    for (; end - at >= 16 + (ptrdiff_t)BRIX_MARK_BYTES - 1; at += 16) {
        __m128i first = _mm_loadu_si128((const __m128i *)(const void *)at);
        __m128i second = _mm_loadu_si128((const __m128i *)(const void *)(at + 1));
        __m128i last = _mm_loadu_si128((const __m128i *)(const void *)(at + BRIX_MARK_BYTES - 1));
        __m128i both = _mm_and_si128(_mm_cmpeq_epi8(first, quote), _mm_cmpeq_epi8(second, u));
        unsigned places = (unsigned)_mm_movemask_epi8(_mm_and_si128(both, _mm_cmpeq_epi8(last, quote)));
        for (; places != 0; places &= places - 1) {
            const char *place = at + __builtin_ctz(places);
            if (memcmp(place, BRIX_MARK, BRIX_MARK_BYTES) == 0)
                return place;
        }
    }
    return brix_mark_scalar(at, end);
}
#else
static inline const char *brix_mark(const char *at, const char *end)
{
    return brix_mark_scalar(at, end);
}
#endif

#endif
