#include <stdlib.h>

#include "bpe.h"

struct brix_counter {
    brix_vocabulary *vocabulary;
    brix_count count;
};

brix_status brix_vocabulary_check(const char *segment)
{
    brix_vocabulary *vocabulary = NULL;
    brix_status status = brix_vocabulary_open(segment, &vocabulary);
    brix_vocabulary_close(vocabulary);
    return status;
}

brix_status brix_counter_open(const char *segment, brix_counter **result)
{
    brix_counter *counter = calloc(1, sizeof *counter);
    if (!counter)
        return BRIX_SYSTEM;
    brix_status status = brix_vocabulary_open(segment, &counter->vocabulary);
    if (status == BRIX_OK)
        *result = counter;
    else
        free(counter);
    return status;
}

void brix_counter_close(brix_counter *counter)
{
    brix_vocabulary_close(counter->vocabulary);
    free(counter);
}

uint64_t brix_counter_count(brix_counter *counter, const char *text, size_t length, size_t chunk, uint64_t limit)
{
    size_t step = chunk > 0 ? chunk : length;
    brix_count_begin(&counter->count, counter->vocabulary, limit);
    for (size_t at = 0; at < length; at += step)
        brix_count_feed(&counter->count, text + at, length - at < step ? length - at : step);
    return brix_count_end(&counter->count);
}
