#include "scan.h"

#include "plain.h"
#include "scan_state.h"

/* --- where a string's bytes go -------------------------------------------------- */

static void emit(brix_scan *scan, const char *bytes, size_t length)
{
    if (length == 0)
        return;
    if (scan->target == TARGET_TEXT && scan->sink) {
        scan->sink(scan->context, bytes, length);
    } else if (scan->target == TARGET_MODEL) {
        size_t kept = scan->model_length < scan->model_capacity ? scan->model_length : scan->model_capacity;
        brix_text_copy(scan->model + kept, scan->model_capacity - kept, (brix_text){bytes, length});
        scan->model_length += length;
    } else if (scan->target == TARGET_KEY) {
        for (size_t i = 0; i < length && scan->key_length <= BRIX_SCAN_KEY; i++, scan->key_length++)
            if (scan->key_length < BRIX_SCAN_KEY)
                scan->key[scan->key_length] = bytes[i];
    }
}

static void emit_text(brix_scan *scan, const char *bytes, size_t length)
{
    if (scan->sink)
        scan->sink(scan->context, bytes, length);
}

/* Hand on the bytes between run and at. */
static void flush(brix_scan *scan, const char *at)
{
    if (scan->is_raw)
        return;
    emit(scan, scan->run, (size_t)(at - scan->run));
    scan->run = at;
}

static void emit_point(brix_scan *scan, uint32_t point)
{
    char utf8[4];
    if (point < 0x80) {
        utf8[0] = (char)point;
        emit(scan, utf8, 1);
    } else if (point < 0x800) {
        utf8[0] = (char)(0xc0 | point >> 6);
        utf8[1] = (char)(0x80 | (point & 0x3f));
        emit(scan, utf8, 2);
    } else if (point < 0x10000) {
        utf8[0] = (char)(0xe0 | point >> 12);
        utf8[1] = (char)(0x80 | (point >> 6 & 0x3f));
        utf8[2] = (char)(0x80 | (point & 0x3f));
        emit(scan, utf8, 3);
    } else {
        utf8[0] = (char)(0xf0 | point >> 18);
        utf8[1] = (char)(0x80 | (point >> 12 & 0x3f));
        utf8[2] = (char)(0x80 | (point >> 6 & 0x3f));
        utf8[3] = (char)(0x80 | (point & 0x3f));
        emit(scan, utf8, 4);
    }
}

static void emit_lone_surrogate(brix_scan *scan)
{
    scan->high = 0;
    if (!scan->is_raw)
        emit_point(scan, 0xfffd);
}

/* --- strings -------------------------------------------------------------------- */

/* A byte above 0x7f begins a sequence: what must follow it (RFC 3629). */
static int begin_sequence(brix_scan *scan, unsigned char lead)
{
    scan->tail_low = 0x80;
    scan->tail_high = 0xbf;
    if (lead >= 0xc2 && lead <= 0xdf) {
        scan->tail_left = 1;
    } else if (lead >= 0xe0 && lead <= 0xef) {
        scan->tail_left = 2;
        if (lead == 0xe0)
            scan->tail_low = 0xa0;
        if (lead == 0xed)
            scan->tail_high = 0x9f;
    } else if (lead >= 0xf0 && lead <= 0xf4) {
        scan->tail_left = 3;
        if (lead == 0xf0)
            scan->tail_low = 0x90;
        if (lead == 0xf4)
            scan->tail_high = 0x8f;
    } else {
        return 0;
    }
    return 1;
}

static int continue_sequence(brix_scan *scan, unsigned char byte)
{
    if (byte < scan->tail_low || byte > scan->tail_high)
        return 0;
    scan->tail_left--;
    scan->tail_low = 0x80;
    scan->tail_high = 0xbf;
    return 1;
}

static const char *fail(brix_scan *scan, const char *at)
{
    scan->state = STATE_FAILED;
    return at;
}

static const char *end_string(brix_scan *scan, const char *quote)
{
    flush(scan, quote);
    scan->target = TARGET_NONE;
    if (scan->is_key)
        brix_scan_key_ended(scan);
    else
        brix_scan_value_ended(scan, quote + 1, scan->has_bytes);
    return quote + 1;
}

static const char *in_string(brix_scan *scan, const char *at, const char *end)
{
    while (at < end) {
        unsigned char byte = (unsigned char)*at;
        if (scan->tail_left > 0) {
            if (!continue_sequence(scan, byte))
                return fail(scan, at);
            at++;
            continue;
        }
        if (scan->high && byte != '\\')
            emit_lone_surrogate(scan);
        const char *stop = brix_plain(at, end);
        scan->has_bytes |= stop > at;
        if (stop == end)
            return end;
        at = stop;
        byte = (unsigned char)*at;
        if (byte == '"')
            return end_string(scan, at);
        scan->has_bytes = 1;
        if (byte == '\\') {
            flush(scan, at);
            scan->state = STATE_ESCAPE;
            return at + 1;
        }
        if (byte < 0x20 || !begin_sequence(scan, byte))
            return fail(scan, at);
        at++;
    }
    return at;
}

/* Back in the string behind an escape. */
static const char *go_on(brix_scan *scan, const char *at)
{
    if (!scan->is_raw)
        scan->run = at;
    scan->state = STATE_STRING;
    return at;
}

static const char *in_escape(brix_scan *scan, const char *at)
{
    static const char names[] = "\"\\/bfnrt", bytes[] = "\"\\/\b\f\n\r\t";
    if (*at == 'u') {
        scan->state = STATE_HEX;
        scan->hex_left = 4;
        scan->point = 0;
        return at + 1;
    }
    if (scan->high)
        emit_lone_surrogate(scan);
    const char *found = *at ? strchr(names, *at) : NULL;
    if (!found)
        return fail(scan, at);
    if (!scan->is_raw)
        emit(scan, bytes + (found - names), 1);
    return go_on(scan, at + 1);
}

static int hex_value(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    digit = brix_lower(digit);
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

static void end_point(brix_scan *scan)
{
    uint32_t point = scan->point;
    int is_low = point >= 0xdc00 && point <= 0xdfff;
    if (scan->high && is_low) {
        point = 0x10000 + ((scan->high - 0xd800) << 10) + (point - 0xdc00);
        scan->high = 0;
    } else if (scan->high) {
        emit_lone_surrogate(scan);
    }
    if (point >= 0xd800 && point <= 0xdbff)
        scan->high = point;
    else if (!scan->is_raw)
        emit_point(scan, point >= 0xdc00 && point <= 0xdfff ? 0xfffd : point);
}

static const char *in_hex(brix_scan *scan, const char *at)
{
    int value = hex_value(*at);
    if (value < 0)
        return fail(scan, at);
    scan->point = scan->point << 4 | (uint32_t)value;
    if (--scan->hex_left > 0)
        return at + 1;
    end_point(scan);
    return go_on(scan, at + 1);
}

/* --- the loop -------------------------------------------------------------------- */

static const char *step(brix_scan *scan, const char *at, const char *end)
{
    switch (scan->state) {
    case STATE_STRING:
        return in_string(scan, at, end);
    case STATE_ESCAPE:
        return in_escape(scan, at);
    case STATE_HEX:
        return in_hex(scan, at);
    case STATE_LITERAL:
        return brix_scan_literal(scan, at);
    case STATE_NUMBER:
        return brix_scan_number(scan, at, end);
    default:
        return brix_scan_structure(scan, at);
    }
}

void brix_scan_begin(brix_scan *scan, brix_text_source source, char *model, size_t capacity, brix_sink sink,
                     void *context)
{
    memset(scan, 0, sizeof *scan);
    scan->state = STATE_VALUE;
    scan->source = (uint8_t)source;
    scan->model = model;
    scan->model_capacity = capacity;
    scan->sink = sink;
    scan->context = context;
    scan->field = -1;
}

void brix_scan_feed(brix_scan *scan, const char *bytes, size_t length)
{
    const char *at = bytes, *end = bytes + length;
    scan->run = scan->chunk = bytes;
    while (at < end && scan->state != STATE_FAILED)
        at = step(scan, at, end);
    scan->base += length;
    if (scan->state == STATE_FAILED)
        return;
    if (scan->is_raw)
        emit_text(scan, scan->run, (size_t)(end - scan->run));
    else if (scan->state == STATE_STRING)
        flush(scan, end);
}

int brix_scan_is_complete(const brix_scan *scan)
{
    return scan->state == STATE_DONE;
}
