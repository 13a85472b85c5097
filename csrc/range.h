/*
 * range.h: least and greatest finite value of a column of scores.
 *
 *   [ 0.3 | NaN | 0.7 | inf | 0.1 ]  ->  { 0.1, 0.7 }      nothing finite: { inf, -inf }
 *
 * brix_range_scalar is the reference; brix_range_of must agree with it for every input.
 */
#ifndef BRIX_RANGE_H
#define BRIX_RANGE_H

#include <math.h>
#include <stdint.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

typedef struct {
    double least;
    double most;
} brix_range;

#define BRIX_NO_RANGE ((brix_range){INFINITY, -INFINITY})

static inline brix_range brix_range_scalar(const double *scores, uint32_t count, brix_range range)
{
    for (uint32_t i = 0; i < count; i++) {
        if (scores[i] > -INFINITY && scores[i] < range.least)
            range.least = scores[i];
        if (scores[i] < INFINITY && scores[i] > range.most)
            range.most = scores[i];
    }
    return range;
}

#if defined(__SSE2__)
#define BRIX_RANGE_STEP 8

static inline double brix_lane(__m128d pair, int high)
{
    return _mm_cvtsd_f64(high ? _mm_unpackhi_pd(pair, pair) : pair);
}

/* Four pairs at a time, so that none waits for the one before. The minimum takes its second operand, the one so
   far, when the first is NaN; an infinity is lifted out of the way. */
static inline brix_range brix_range_of(const double *scores, uint32_t count, brix_range range)
{
    const __m128d top = _mm_set1_pd(INFINITY), bottom = _mm_set1_pd(-INFINITY);
    __m128d least[4], most[4];
    uint32_t i = 0;
    for (int lane = 0; lane < 4; lane++) {
        least[lane] = _mm_set1_pd(range.least);
        most[lane] = _mm_set1_pd(range.most);
    }
    for (; i + BRIX_RANGE_STEP <= count; i += BRIX_RANGE_STEP)
        for (uint32_t lane = 0; lane < 4; lane++) {
            __m128d pair = _mm_loadu_pd(scores + i + 2 * lane);
            __m128d low = _mm_cmpgt_pd(pair, bottom), high = _mm_cmplt_pd(pair, top);
            least[lane] = _mm_min_pd(_mm_or_pd(_mm_and_pd(low, pair), _mm_andnot_pd(low, top)), least[lane]);
            most[lane] = _mm_max_pd(_mm_or_pd(_mm_and_pd(high, pair), _mm_andnot_pd(high, bottom)), most[lane]);
        }
    for (int lane = 0; lane < 4; lane++)
        for (int half = 0; half < 2; half++) {
            double low = brix_lane(least[lane], half), high = brix_lane(most[lane], half);
            range.least = low < range.least ? low : range.least;
            range.most = high > range.most ? high : range.most;
        }
    return brix_range_scalar(scores + i, count - i, range);
}
#else
static inline brix_range brix_range_of(const double *scores, uint32_t count, brix_range range)
{
    return brix_range_scalar(scores, count, range);
}
#endif

#endif
