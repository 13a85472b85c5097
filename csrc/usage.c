#include "usage.h"

#include <string.h>

#include "mark.h"

enum { SEARCH, NAMED, OPENING, MEMBER, KEY, COLON, VALUE, NUMBER, LITERAL, STRING, SKIP };

static const char *const NAMES[BRIX_USAGE_COUNTS] = {
    [BRIX_PROMPT_TOKENS] = "prompt_tokens",         [BRIX_INPUT_TOKENS] = "input_tokens",
    [BRIX_COMPLETION_TOKENS] = "completion_tokens", [BRIX_OUTPUT_TOKENS] = "output_tokens",
    [BRIX_TOTAL_TOKENS] = "total_tokens",
};

static int is_blank(char byte)
{
    return byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t';
}

/* Of a number, or of true, false and null. */
static int is_literal(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '-' || byte == '+' || byte == '.' ||
           byte == 'E';
}

static void give_up(brix_usage *usage)
{
    usage->broken = 1;
    usage->state = SEARCH;
}

/* Byte by byte, where a piece begins or ends within the name. */
static const char *match(brix_usage *usage, const char *at)
{
    if (*at == BRIX_MARK[usage->matched])
        usage->matched++;
    else
        usage->matched = *at == '"';
    if (usage->matched == BRIX_MARK_BYTES) {
        usage->matched = 0;
        usage->state = NAMED;
    }
    return at + 1;
}

static const char *search(brix_usage *usage, const char *at, const char *end)
{
    if (usage->matched > 0)
        return match(usage, at);
    const char *found = brix_mark(at, end);
    if (found) {
        usage->state = NAMED;
        return found + BRIX_MARK_BYTES;
    }
    if (end - at >= (ptrdiff_t)BRIX_MARK_BYTES)
        at = end - (BRIX_MARK_BYTES - 1);
    at = memchr(at, '"', (size_t)(end - at));
    return at ? match(usage, at) : end;
}

static uint8_t name_of(const brix_usage *usage)
{
    for (uint8_t i = 0; i < BRIX_USAGE_COUNTS; i++)
        if (strlen(NAMES[i]) == usage->key_length && memcmp(NAMES[i], usage->key, usage->key_length) == 0)
            return i;
    return BRIX_USAGE_COUNTS;
}

static void in_key(brix_usage *usage, char byte)
{
    if (byte == '"' && !usage->escaped) {
        usage->name = name_of(usage);
        usage->state = COLON;
        return;
    }
    usage->escaped = byte == '\\' && !usage->escaped;
    if (usage->key_length < BRIX_USAGE_KEY)
        usage->key[usage->key_length++] = byte;
}

static void begin_value(brix_usage *usage, char byte)
{
    if (is_blank(byte))
        return;
    usage->escaped = 0;
    if (byte >= '0' && byte <= '9') {
        usage->number = (uint64_t)(byte - '0');
        usage->state = NUMBER;
    } else if (byte == '{' || byte == '[') {
        usage->depth = 1;
        usage->state = SKIP;
    } else if (byte == '"') {
        usage->state = STRING;
    } else if (is_literal(byte)) {
        usage->state = LITERAL;
    } else {
        give_up(usage);
    }
}

/* 1 when the byte was part of the number. */
static int in_number(brix_usage *usage, char byte)
{
    if (byte >= '0' && byte <= '9') {
        if (usage->number < UINT64_MAX / 100)
            usage->number = usage->number * 10 + (uint64_t)(byte - '0');
        return 1;
    }
    if (is_literal(byte)) {
        usage->state = LITERAL;
        return 1;
    }
    usage->state = MEMBER;
    if (usage->name < BRIX_USAGE_COUNTS) {
        usage->count[usage->name] = usage->number;
        usage->seen |= (uint8_t)(1u << usage->name);
    }
    return 0;
}

/* A string inside a value that is skipped: depth says where to go back to. */
static void in_string(brix_usage *usage, char byte)
{
    if (byte == '"' && !usage->escaped)
        usage->state = usage->depth ? SKIP : MEMBER;
    usage->escaped = byte == '\\' && !usage->escaped;
}

static void skip(brix_usage *usage, char byte)
{
    if (byte == '"') {
        usage->escaped = 0;
        usage->state = STRING;
    } else if (byte == '{' || byte == '[') {
        if (++usage->depth == UINT8_MAX)
            give_up(usage);
    } else if (byte == '}' || byte == ']') {
        if (--usage->depth == 0)
            usage->state = MEMBER;
    }
}

static void in_members(brix_usage *usage, char byte)
{
    if (byte == '"') {
        usage->key_length = usage->escaped = 0;
        usage->state = KEY;
    } else if (byte == '}') {
        usage->state = SEARCH;
    } else if (byte != ',' && !is_blank(byte)) {
        give_up(usage);
    }
}

static void before_object(brix_usage *usage, char byte)
{
    usage->depth = 0;
    if (is_blank(byte))
        return;
    if (usage->state == NAMED && byte == ':')
        usage->state = OPENING;
    else if (usage->state == OPENING && byte == '{')
        usage->state = MEMBER;
    else
        usage->state = SEARCH;
}

static void step(brix_usage *usage, char byte)
{
    switch (usage->state) {
    case NAMED:
    case OPENING:
        before_object(usage, byte);
        break;
    case MEMBER:
        in_members(usage, byte);
        break;
    case KEY:
        in_key(usage, byte);
        break;
    case COLON:
        if (byte == ':')
            usage->state = VALUE;
        else if (!is_blank(byte))
            give_up(usage);
        break;
    case VALUE:
        begin_value(usage, byte);
        break;
    case NUMBER:
        if (!in_number(usage, byte))
            in_members(usage, byte);
        break;
    case LITERAL:
        if (!is_literal(byte)) {
            usage->state = MEMBER;
            in_members(usage, byte);
        }
        break;
    case STRING:
        in_string(usage, byte);
        break;
    default:
        skip(usage, byte);
    }
}

void brix_usage_feed(brix_usage *usage, const char *bytes, size_t length)
{
    const char *at = bytes, *end = bytes + length;
    while (at < end) {
        if (usage->state == SEARCH)
            at = search(usage, at, end);
        else
            step(usage, *at++);
    }
}

static uint64_t first_of(const brix_usage *usage, int first, int second)
{
    return usage->count[usage->seen >> first & 1 ? first : second];
}

uint64_t brix_usage_prompt(const brix_usage *usage)
{
    return first_of(usage, BRIX_PROMPT_TOKENS, BRIX_INPUT_TOKENS);
}

uint64_t brix_usage_completion(const brix_usage *usage)
{
    return first_of(usage, BRIX_COMPLETION_TOKENS, BRIX_OUTPUT_TOKENS);
}

uint64_t brix_usage_total(const brix_usage *usage)
{
    if (usage->seen >> BRIX_TOTAL_TOKENS & 1)
        return usage->count[BRIX_TOTAL_TOKENS];
    return brix_usage_prompt(usage) + brix_usage_completion(usage);
}

int brix_usage_is_broken(const brix_usage *usage)
{
    return usage->broken || usage->state >= MEMBER;
}
