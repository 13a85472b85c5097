/*
 * usage.h: finds token counts in an answer as it passes, plain JSON or server-sent events alike.
 *
 *   ... ,"us|age": {"prompt_tokens": 1|0, "details": {...}, "completion_tokens": 20} ...
 *          ^ state crosses every cut      ^ nested values are skipped
 *
 * Only a member named usage whose value is an object counts. Inside a JSON string its quotes would be
 * escaped, so a word in generated text never looks like it. The last object wins, name by name, which also
 * joins the two halves that Anthropic streams send. Broken JSON ends the object, never the answer.
 */
#ifndef BRIX_USAGE_H
#define BRIX_USAGE_H

#include <stddef.h>
#include <stdint.h>

#define BRIX_USAGE_KEY 20

enum {
    BRIX_PROMPT_TOKENS,
    BRIX_INPUT_TOKENS,
    BRIX_COMPLETION_TOKENS,
    BRIX_OUTPUT_TOKENS,
    BRIX_TOTAL_TOKENS,
    BRIX_USAGE_COUNTS,
};

typedef struct {
    uint64_t count[BRIX_USAGE_COUNTS];
    uint8_t seen; /* mask of the names that were there */
    uint8_t state;
    uint8_t matched;
    uint8_t depth;
    uint8_t escaped;
    uint8_t name; /* index into count, or BRIX_USAGE_COUNTS */
    uint8_t key_length;
    uint8_t broken; /* an object that is no JSON was begun */
    char key[BRIX_USAGE_KEY];
    uint64_t number;
} brix_usage;

void brix_usage_feed(brix_usage *usage, const char *bytes, size_t length);
/* The first name that was present decides, even when it says 0. */
uint64_t brix_usage_prompt(const brix_usage *usage);
uint64_t brix_usage_completion(const brix_usage *usage);
/* The total as given, else the sum. */
uint64_t brix_usage_total(const brix_usage *usage);

/* At the end of the answer: an object named usage was no JSON, or never ended. */
int brix_usage_is_broken(const brix_usage *usage);

#endif
