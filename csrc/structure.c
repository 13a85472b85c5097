#include "scan_state.h"

static const brix_text FIELD_NAMES[BRIX_FIELDS] = {
    [BRIX_FIELD_MODEL] = {"model", 5},
    [BRIX_FIELD_STREAM] = {"stream", 6},
    [BRIX_FIELD_MESSAGES] = {"messages", 8},
    [BRIX_FIELD_PROMPT] = {"prompt", 6},
    [BRIX_FIELD_INPUT] = {"input", 5},
    [BRIX_FIELD_QUERY] = {"query", 5},
    [BRIX_FIELD_DOCUMENTS] = {"documents", 9},
    [BRIX_FIELD_MAX_TOKENS] = {"max_tokens", 10},
    [BRIX_FIELD_MAX_COMPLETION_TOKENS] = {"max_completion_tokens", 21},
    [BRIX_FIELD_USER] = {"user", 4},
    [BRIX_FIELD_STREAM_OPTIONS] = {"stream_options", 14},
};

enum { MINUS, ZERO, WHOLE, DOT, FRACTION, E, SIGN, EXPONENT };

static const char *fail(brix_scan *scan, const char *at)
{
    scan->state = STATE_FAILED;
    return at;
}

static int is_object(const brix_scan *scan, uint32_t level)
{
    return (int)(scan->levels[(level - 1) / 64] >> ((level - 1) % 64) & 1);
}

/* The array whose elements have a content member each. */
static int is_message_field(const brix_scan *scan)
{
    return (scan->source == BRIX_TEXT_MESSAGES && scan->field == BRIX_FIELD_MESSAGES) ||
           (scan->source == BRIX_TEXT_ITEMS && scan->field == BRIX_FIELD_INPUT);
}

/* The member that is text itself, or an array of texts. */
static int is_text_field(const brix_scan *scan)
{
    switch (scan->source) {
    case BRIX_TEXT_PROMPT:
        return scan->field == BRIX_FIELD_PROMPT;
    case BRIX_TEXT_INPUT:
    case BRIX_TEXT_ITEMS:
        return scan->field == BRIX_FIELD_INPUT;
    case BRIX_TEXT_DOCUMENTS:
        return scan->field == BRIX_FIELD_QUERY || scan->field == BRIX_FIELD_DOCUMENTS;
    default:
        return 0;
    }
}

static int is_in_message(const brix_scan *scan)
{
    return scan->depth == 3 && is_message_field(scan) && !is_object(scan, 2) && is_object(scan, 3);
}

/* A member of an element of `input`, which somebody watches. */
static int is_in_part(const brix_scan *scan)
{
    return scan->source == BRIX_TEXT_WATCHED && scan->depth == 3 && scan->field == BRIX_FIELD_INPUT &&
           !is_object(scan, 2) && is_object(scan, 3);
}

static int is_in_stream_options(const brix_scan *scan)
{
    return scan->depth == 2 && scan->field == BRIX_FIELD_STREAM_OPTIONS && is_object(scan, 2);
}

/* Between the parts of a text stands one blank; before a document there is always the query. */
static void begin_part(brix_scan *scan)
{
    int follows = scan->source == BRIX_TEXT_DOCUMENTS ? scan->field == BRIX_FIELD_DOCUMENTS : scan->text_parts;
    if (follows && scan->sink)
        scan->sink(scan->context, " ", 1);
    scan->text_parts = 1;
}

static void begin_raw(brix_scan *scan, const char *at)
{
    scan->is_raw = 1;
    scan->raw_depth = scan->depth;
    scan->run = at;
}

static uint64_t place_of(const brix_scan *scan, const char *at)
{
    return scan->base + (uint64_t)(at - scan->chunk);
}

static void begin_member(brix_scan *scan, brix_kind kind, const char *at)
{
    if (scan->field < 0)
        return;
    scan->found[scan->field] = (brix_found){.kind = (uint8_t)kind};
    if (scan->field == BRIX_FIELD_STREAM_OPTIONS) {
        scan->found[BRIX_FIELD_INCLUDE_USAGE] = (brix_found){0};
        scan->options_at = place_of(scan, at);
    }
    if (scan->field == BRIX_FIELD_MODEL) {
        scan->model_length = 0;
        scan->target = kind == BRIX_STRING ? TARGET_MODEL : TARGET_NONE;
    }
    if (!is_text_field(scan) && !is_message_field(scan))
        return;
    if (scan->sink) {
        scan->sink(scan->context, NULL, 0);
        scan->text_parts = 0;
    }
    if (kind == BRIX_STRING && is_text_field(scan)) {
        begin_part(scan);
        scan->target = TARGET_TEXT;
    }
}

static void begin_element(brix_scan *scan, brix_kind kind, const char *at)
{
    if (scan->field < 0)
        return;
    brix_found *found = &scan->found[scan->field];
    found->elements |= (uint16_t)(1u << kind);
    found->filled = 1;
    if (is_message_field(scan)) {
        begin_part(scan);
    } else if (is_text_field(scan)) {
        begin_part(scan);
        if (kind == BRIX_STRING)
            scan->target = TARGET_TEXT;
        else
            begin_raw(scan, at);
    }
}

static int is_key_named(const brix_scan *scan, brix_text name)
{
    return brix_text_is((brix_text){scan->key, scan->key_length}, name);
}

static void begin_option(brix_scan *scan, brix_kind kind, const char *at)
{
    scan->found[BRIX_FIELD_STREAM_OPTIONS].filled = 1;
    if (!is_key_named(scan, BRIX_LITERAL("include_usage")))
        return;
    scan->found[BRIX_FIELD_INCLUDE_USAGE] = (brix_found){.kind = (uint8_t)kind};
    scan->usage_at = place_of(scan, at);
}

static int is_watched(const brix_scan *scan)
{
    return scan->watch && scan->field == BRIX_FIELD_INPUT && scan->depth >= 1 && scan->depth <= 3;
}

static void tell_watch(brix_scan *scan, brix_kind kind)
{
    scan->watch(scan->context, scan, scan->depth, kind, 0);
    if (kind == BRIX_STRING)
        scan->target = TARGET_TEXT;
}

/* Note what a value is when it stands where something is looked for. */
static void begin_value(brix_scan *scan, brix_kind kind, const char *at)
{
    scan->target = TARGET_NONE;
    if (scan->is_raw || scan->depth > 3 || scan->depth == 0)
        return;
    if (scan->depth == 1) {
        begin_member(scan, kind, at);
    } else if (scan->depth == 2 && !is_object(scan, 2)) {
        begin_element(scan, kind, at);
    } else if (is_in_stream_options(scan)) {
        begin_option(scan, kind, at);
    } else if (scan->depth == 3 && !is_object(scan, 2) && !is_object(scan, 3)) {
        if (scan->field >= 0)
            scan->found[scan->field].inner |= (uint16_t)(1u << kind);
    } else if (is_in_message(scan) && is_key_named(scan, BRIX_LITERAL("content"))) {
        if (kind == BRIX_STRING)
            scan->target = TARGET_TEXT;
        else
            begin_raw(scan, at);
    }
    if (is_watched(scan))
        tell_watch(scan, kind);
}

void brix_scan_key_ended(brix_scan *scan)
{
    scan->state = STATE_COLON;
    if (scan->depth != 1)
        return;
    scan->field = -1;
    for (int i = 0; i < BRIX_FIELD_INCLUDE_USAGE; i++)
        if (is_key_named(scan, FIELD_NAMES[i]))
            scan->field = (int8_t)i;
}

void brix_scan_value_ended(brix_scan *scan, const char *after, int filled)
{
    scan->state = scan->depth == 0 ? STATE_DONE : STATE_AFTER;
    if (scan->is_raw && scan->depth == scan->raw_depth) {
        if (scan->sink)
            scan->sink(scan->context, scan->run, (size_t)(after - scan->run));
        scan->is_raw = 0;
        scan->run = after;
    }
    if (scan->depth == 1 && scan->field >= 0 && filled)
        scan->found[scan->field].filled = 1;
    if (is_watched(scan))
        scan->watch(scan->context, scan, scan->depth, BRIX_ABSENT, 1);
}

static const char *begin_string(brix_scan *scan, const char *at, int is_key)
{
    scan->state = STATE_STRING;
    scan->is_key = (uint8_t)is_key;
    scan->has_bytes = 0;
    scan->high = 0;
    if (is_key) {
        scan->key_length = 0;
        int wanted = !scan->is_raw && (scan->depth == 1 || is_in_message(scan) || is_in_stream_options(scan) || is_in_part(scan));
        scan->target = wanted ? TARGET_KEY : TARGET_NONE;
    }
    if (!scan->is_raw)
        scan->run = at + 1;
    return at + 1;
}

static const char *begin_container(brix_scan *scan, const char *at, int object)
{
    if (scan->depth == BRIX_SCAN_DEPTH || (scan->depth == 0 && !object))
        return fail(scan, at);
    uint64_t bit = 1ull << (scan->depth % 64), *word = &scan->levels[scan->depth / 64];
    *word = object ? *word | bit : *word & ~bit;
    scan->depth++;
    scan->state = object ? STATE_FIRST_KEY : STATE_FIRST_ELEMENT;
    return at + 1;
}

static const char *end_container(brix_scan *scan, const char *at, int object)
{
    if (scan->depth == 0 || is_object(scan, scan->depth) != object)
        return fail(scan, at);
    scan->depth--;
    if (scan->depth == 0)
        scan->close_at = place_of(scan, at);
    brix_scan_value_ended(scan, at + 1, 0);
    return at + 1;
}

static const char *begin_literal(brix_scan *scan, const char *at, brix_kind kind, const char *rest)
{
    begin_value(scan, kind, at);
    scan->literal = rest;
    scan->state = STATE_LITERAL;
    return at + 1;
}

int brix_scan_is_integer(const brix_scan *scan)
{
    return scan->number == ZERO || scan->number == WHOLE;
}

#define MOST_TOKENS 1000000000000 /* more counts as this many */

static int counts(const brix_scan *scan)
{
    return scan->depth == 1 && (scan->field == BRIX_FIELD_MAX_TOKENS || scan->field == BRIX_FIELD_MAX_COMPLETION_TOKENS);
}

static int counted(const brix_scan *scan)
{
    return scan->field == BRIX_FIELD_MAX_COMPLETION_TOKENS;
}

static void count_digits(brix_scan *scan, const char *at, const char *end)
{
    int64_t *value = &scan->integers[counted(scan)];
    for (; at < end; at++)
        if (*value < MOST_TOKENS)
            *value = *value * 10 + (*at - '0');
}

static void end_count(brix_scan *scan)
{
    if (!brix_scan_is_integer(scan))
        return;
    scan->wholes |= (uint8_t)(1u << counted(scan));
    if (scan->negative)
        scan->integers[counted(scan)] = -scan->integers[counted(scan)];
}

int brix_scan_max_tokens(const brix_scan *scan, int64_t *value)
{
    uint8_t kind = scan->found[BRIX_FIELD_MAX_TOKENS].kind;
    int index = kind == BRIX_ABSENT || kind == BRIX_NULL;
    int field = index ? BRIX_FIELD_MAX_COMPLETION_TOKENS : BRIX_FIELD_MAX_TOKENS;
    *value = scan->integers[index];
    return scan->found[field].kind == BRIX_NUMBER && (scan->wholes >> index & 1);
}

static const char *begin_number(brix_scan *scan, const char *at)
{
    begin_value(scan, BRIX_NUMBER, at);
    scan->state = STATE_NUMBER;
    scan->negative = *at == '-';
    if (counts(scan)) {
        scan->integers[counted(scan)] = *at == '-' ? 0 : *at - '0';
        scan->wholes &= (uint8_t)~(1u << counted(scan));
    }
    scan->number = *at == '-' ? MINUS : *at == '0' ? ZERO : WHOLE;
    return at + 1;
}

static const char *value(brix_scan *scan, const char *at)
{
    if (scan->depth == 0 && *at != '{')
        return fail(scan, at);
    switch (*at) {
    case '"':
        begin_value(scan, BRIX_STRING, at);
        return begin_string(scan, at, 0);
    case '{':
        begin_value(scan, BRIX_OBJECT, at);
        return begin_container(scan, at, 1);
    case '[':
        begin_value(scan, BRIX_ARRAY, at);
        return begin_container(scan, at, 0);
    case 't':
        return begin_literal(scan, at, BRIX_TRUE, "rue");
    case 'f':
        return begin_literal(scan, at, BRIX_FALSE, "alse");
    case 'n':
        return begin_literal(scan, at, BRIX_NULL, "ull");
    default:
        return *at == '-' || (*at >= '0' && *at <= '9') ? begin_number(scan, at) : fail(scan, at);
    }
}

static const char *key(brix_scan *scan, const char *at)
{
    if (*at == '"')
        return begin_string(scan, at, 1);
    if (*at == '}' && scan->state == STATE_FIRST_KEY)
        return end_container(scan, at, 1);
    return fail(scan, at);
}

static const char *after(brix_scan *scan, const char *at)
{
    int object = is_object(scan, scan->depth);
    if (*at == (object ? '}' : ']'))
        return end_container(scan, at, object);
    if (*at != ',')
        return fail(scan, at);
    scan->state = object ? STATE_KEY : STATE_VALUE;
    return at + 1;
}

const char *brix_scan_structure(brix_scan *scan, const char *at)
{
    if (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r')
        return at + 1;
    switch (scan->state) {
    case STATE_FIRST_ELEMENT:
        return *at == ']' ? end_container(scan, at, 0) : value(scan, at);
    case STATE_VALUE:
        return value(scan, at);
    case STATE_FIRST_KEY:
    case STATE_KEY:
        return key(scan, at);
    case STATE_COLON:
        scan->state = STATE_VALUE;
        return *at == ':' ? at + 1 : fail(scan, at);
    case STATE_AFTER:
        return after(scan, at);
    default:
        return fail(scan, at);
    }
}

const char *brix_scan_literal(brix_scan *scan, const char *at)
{
    if (*at != *scan->literal)
        return fail(scan, at);
    scan->literal++;
    if (*scan->literal == 0)
        brix_scan_value_ended(scan, at + 1, 0);
    return at + 1;
}

/* The state after one more byte of a number, or -1 when it does not belong to it. */
static int number_next(int state, char byte)
{
    int digit = byte >= '0' && byte <= '9', exponent = byte == 'e' || byte == 'E';
    switch (state) {
    case MINUS:
        return byte == '0' ? ZERO : digit ? WHOLE : -1;
    case ZERO:
        return byte == '.' ? DOT : exponent ? E : -1;
    case WHOLE:
        return digit ? WHOLE : byte == '.' ? DOT : exponent ? E : -1;
    case DOT:
        return digit ? FRACTION : -1;
    case FRACTION:
        return digit ? FRACTION : exponent ? E : -1;
    case E:
        return digit ? EXPONENT : byte == '+' || byte == '-' ? SIGN : -1;
    default:
        return digit ? EXPONENT : -1;
    }
}

const char *brix_scan_number(brix_scan *scan, const char *at, const char *end)
{
    const char *from = at;
    for (; at < end; at++) {
        int next = number_next(scan->number, *at);
        if (next < 0)
            break;
        scan->number = (uint8_t)next;
    }
    if (counts(scan) && brix_scan_is_integer(scan))
        count_digits(scan, from, at);
    if (at == end)
        return at;
    if (scan->number == MINUS || scan->number == DOT || scan->number == E || scan->number == SIGN)
        return fail(scan, at);
    if (counts(scan))
        end_count(scan);
    brix_scan_value_ended(scan, at, 0);
    return at;
}
