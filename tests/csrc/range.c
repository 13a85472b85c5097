/*
 * range.c: brix_range_of against its scalar reference, on columns of random bits and of what is hard.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "range.h"

static double hard(uint32_t dice)
{
    static const double values[] = {0.0, -0.0, 1.0, -1.0, 0.5, INFINITY, -INFINITY, NAN, 1e308, -1e308, 5e-324};
    return values[dice % 11];
}

int main(void)
{
    double scores[40];
    srand(7);
    for (int round = 0; round < 200000; round++) {
        uint32_t count = (uint32_t)rand() % 40;
        for (uint32_t i = 0; i < count; i++)
            scores[i] = rand() % 2 ? hard((uint32_t)rand()) : (double)rand() / 1000 - 1000;
        brix_range so_far = rand() % 2 ? BRIX_NO_RANGE : (brix_range){-3, 3};
        brix_range fast = brix_range_of(scores, count, so_far), plain = brix_range_scalar(scores, count, so_far);
        if (fast.least != plain.least || fast.most != plain.most) {
            printf("round %d of %u: %g %g and %g %g\n", round, count, fast.least, fast.most, plain.least, plain.most);
            return 1;
        }
    }
    puts("agree");
    return 0;
}
