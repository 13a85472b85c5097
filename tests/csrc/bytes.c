/*
 * bytes.c: brix_plain and brix_mark against their scalar references, on random bytes that are often the hard ones.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "mark.h"
#include "plain.h"

static char hard(uint32_t dice)
{
    static const char bytes[] = {'"', '\\', 'u', 0x1f, 0x20, '!', '#', 0x00, 0x7f, (char)0x80, (char)0xff, 'a'};
    return bytes[dice % sizeof bytes];
}

int main(void)
{
    char bytes[200];
    srand(7);
    for (int round = 0; round < 200000; round++) {
        size_t from = (size_t)rand() % 17, length = (size_t)rand() % (sizeof bytes - from);
        int easy = rand() % 64 + 1;
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = rand() % easy ? 'a' : hard((uint32_t)rand());
        if (rand() % 2)
            memcpy(bytes + (size_t)rand() % (sizeof bytes - BRIX_MARK_BYTES), BRIX_MARK, BRIX_MARK_BYTES);
        const char *at = bytes + from, *end = at + length;
        if (brix_plain(at, end) != brix_plain_scalar(at, end) || brix_mark(at, end) != brix_mark_scalar(at, end)) {
            printf("round %d of %zu bytes at %zu\n", round, length, from);
            return 1;
        }
    }
    puts("agree");
    return 0;
}
