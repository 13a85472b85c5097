#include "bpe.h"

#include "vocabulary.h"

/* --- merging ------------------------------------------------------------------------------- */

/* Undo BPE's merges on both sides of the cut, latest first: had the two sides formed another token before the merge
   that is undone, BPE would have taken that. */
int brix_pair_stays(const brix_vocabulary *v, uint32_t first, uint32_t second)
{
    uint32_t limit = UINT32_MAX;
    for (;;) {
        uint32_t merged = brix_pair_find(v, first, second);
        if (merged != BRIX_NO_TOKEN && merged < limit)
            return 0;
        int is_left = first > second;
        for (int tries = 0;; tries++, is_left = !is_left) {
            const brix_halves *halves = &v->halves[is_left ? first : second];
            uint32_t whole = is_left ? first : second, part = is_left ? halves->second : halves->first;
            if (tries == 2)
                return 1;
            limit = is_left ? whole : whole + 1;
            if (part == whole)
                continue;
            *(is_left ? &first : &second) = part;
            break;
        }
    }
}

static uint32_t ring(uint64_t at)
{
    return (uint32_t)(at % BRIX_TOKEN_BYTES);
}

static void settle(brix_merge *merge, uint64_t at, uint32_t token, uint64_t hash, size_t length)
{
    merge->last[ring(at)] = token;
    merge->hash[ring(at)] = hash;
    merge->count[ring(at)] = length == at + 1 ? 1 : merge->count[ring(at - length + BRIX_TOKEN_BYTES)] + 1;
}

static int stands(const brix_vocabulary *v, const brix_merge *merge, uint64_t at, uint32_t token, size_t length)
{
    return length == at + 1 ||
           brix_pair_stays(v, merge->last[ring(at - length + BRIX_TOKEN_BYTES)], token);
}

static const char *ending(const brix_merge *merge, uint64_t at, size_t length)
{
    return merge->byte + ring(at) + BRIX_TOKEN_BYTES + 1 - length;
}

/* Mostly the last token becomes one byte longer. */
static int extend(const brix_vocabulary *v, brix_merge *merge, uint64_t at, char byte)
{
    if (at == 0)
        return 0;
    size_t length = brix_token(v, merge->last[ring(at - 1)]).length + 1;
    uint64_t hash = brix_hash_on(merge->hash[ring(at - 1)], byte);
    if (length > BRIX_TOKEN_BYTES)
        return 0;
    uint32_t token = brix_token_at(v, hash, ending(merge, at, length), length);
    if (token == BRIX_NO_TOKEN || !stands(v, merge, at, token, length))
        return 0;
    settle(merge, at, token, hash, length);
    return 1;
}

/* One more byte: the one token that ends with it and can stand behind what was before it. */
static void push(const brix_vocabulary *v, brix_merge *merge, char byte)
{
    uint32_t token[BRIX_TOKEN_BYTES], found = 0, node = 0;
    uint8_t length[BRIX_TOKEN_BYTES];
    uint64_t at = merge->bytes++;
    merge->byte[ring(at)] = merge->byte[ring(at) + BRIX_TOKEN_BYTES] = byte;
    if (extend(v, merge, at, byte))
        return;
    for (uint32_t i = 0; i < BRIX_TOKEN_BYTES && i <= at; i++) {
        node = brix_branch_find(v, node, (uint8_t)merge->byte[ring(at - i)]);
        if (node == BRIX_NO_TOKEN)
            break;
        token[found] = v->node_token[node];
        length[found] = (uint8_t)(i + 1);
        found += token[found] != BRIX_NO_TOKEN;
    }
    while (found-- > 1)
        if (stands(v, merge, at, token[found], length[found]))
            break;
    uint32_t chosen = found == UINT32_MAX ? 0 : found;
    settle(merge, at, token[chosen], brix_token_hash(ending(merge, at, length[chosen]), length[chosen]),
           length[chosen]);
}

static uint64_t counted(const brix_merge *merge)
{
    return merge->bytes ? merge->count[ring(merge->bytes - 1)] : 0;
}

static void push_all(const brix_vocabulary *v, brix_merge *merge, const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        push(v, merge, bytes[i]);
}

/* --- pieces ---------------------------------------------------------------------------------- */

enum { START, APOSTROPHE, APOSTROPHE_L, APOSTROPHE_E, LONE, LETTERS, DIGITS, OTHERS, LINES, BLANKS };

static void take(brix_count *count, const char *bytes, size_t length)
{
    if (!count->streams && count->length + length > sizeof count->piece) {
        count->streams = 1;
        count->merge.bytes = 0;
        push_all(count->vocabulary, &count->merge, count->piece, count->length);
    }
    if (count->streams)
        push_all(count->vocabulary, &count->merge, bytes, length);
    else
        count->length += (uint16_t)brix_text_copy(count->piece + count->length, length, (brix_text){bytes, length});
}

static void end_piece(brix_count *count)
{
    if (count->streams) {
        count->tokens += counted(&count->merge);
    } else if (count->length > 0) {
        if (brix_token_find(count->vocabulary, count->piece, count->length) != BRIX_NO_TOKEN) {
            count->tokens++;
        } else {
            count->merge.bytes = 0;
            push_all(count->vocabulary, &count->merge, count->piece, count->length);
            count->tokens += counted(&count->merge);
        }
    }
    count->length = count->streams = 0;
    count->state = START;
}

static int class_of(const brix_count *count, uint32_t point)
{
    return count->vocabulary->classes[point / 4] >> point % 4 * 2 & 3;
}

static int is_line_end(uint32_t point)
{
    return point == '\n' || point == '\r';
}

/* The case folds of s too: U+017F. */
static uint32_t folded(uint32_t point)
{
    if (point == 0x17f)
        return 's';
    return point >= 'A' && point <= 'Z' ? point + 32 : point;
}

/* --- blanks: up to the last line end they are one piece, the rest but the last one another -------- */

static void begin_blanks(brix_count *count)
{
    count->state = BLANKS;
    count->merge.bytes = count->tail.bytes = 0;
    count->blank_length = 0;
    count->at_line = 0;
    count->lags = 1;
}

/* Give `merge` what `tail` has: as it is, while nothing came before. */
static void catch_up(brix_count *count)
{
    if (!count->lags)
        return;
    count->lags = 0;
    if (count->merge.bytes == 0)
        count->merge = count->tail;
    else
        push_all(count->vocabulary, &count->merge, count->tail.byte, count->tail.bytes);
}

static void end_blank_line(brix_count *count, const char *bytes, size_t length)
{
    const brix_vocabulary *v = count->vocabulary;
    catch_up(count);
    push_all(v, &count->merge, (const char *)count->blank, count->blank_length);
    push_all(v, &count->merge, bytes, length);
    count->at_line = counted(&count->merge);
    count->tail.bytes = 0;
    count->blank_length = 0;
    count->lags = 1;
}

/* `merge` needs blanks behind a line end only if another line end follows; it waits for them while they can be kept. */
static void take_blank(brix_count *count, uint32_t point, const char *bytes, size_t length)
{
    const brix_vocabulary *v = count->vocabulary;
    if (is_line_end(point)) {
        end_blank_line(count, bytes, length);
        return;
    }
    push_all(v, &count->tail, (const char *)count->blank, count->blank_length);
    if (count->lags && count->merge.bytes > 0 && count->tail.bytes + sizeof count->blank > BRIX_TOKEN_BYTES)
        catch_up(count);
    else if (!count->lags)
        push_all(v, &count->merge, (const char *)count->blank, count->blank_length);
    memcpy(count->blank, bytes, length);
    count->blank_length = (uint8_t)length;
}

static void end_blanks(brix_count *count)
{
    count->tokens += count->at_line + counted(&count->tail);
    count->state = START;
}

/* --- one character ------------------------------------------------------------------------------ */

static void begin_piece(brix_count *count, uint32_t point, const char *bytes, size_t length)
{
    switch (class_of(count, point)) {
    case BRIX_CLASS_LETTER:
        count->state = LETTERS;
        break;
    case BRIX_CLASS_NUMBER:
        count->state = DIGITS;
        count->digits = 1;
        break;
    case BRIX_CLASS_BLANK:
        begin_blanks(count);
        take_blank(count, point, bytes, length);
        return;
    default:
        count->state = point == '\'' ? APOSTROPHE : LONE;
    }
    take(count, bytes, length);
}

/* What follows blanks: the last one belongs to letters, and a space to other characters too. */
static void after_blanks(brix_count *count, uint32_t point, const char *bytes, size_t length)
{
    int class = class_of(count, point), is_space = count->blank_length == 1 && count->blank[0] == ' ';
    end_blanks(count);
    if (count->blank_length > 0) {
        take(count, (const char *)count->blank, count->blank_length);
        count->blank_length = 0;
        if (class == BRIX_CLASS_LETTER || (class == BRIX_CLASS_OTHER && is_space)) {
            count->state = class == BRIX_CLASS_LETTER ? LETTERS : OTHERS;
            take(count, bytes, length);
            return;
        }
        end_piece(count);
    }
    begin_piece(count, point, bytes, length);
}

/* 1 when the character belongs to the piece at work. */
static int goes_on(brix_count *count, uint32_t point)
{
    int class = class_of(count, point);
    switch (count->state) {
    case LETTERS:
        return class == BRIX_CLASS_LETTER;
    case DIGITS:
        return class == BRIX_CLASS_NUMBER && count->digits++ < 3;
    case LINES:
        return is_line_end(point);
    case LONE:
    case APOSTROPHE:
        count->state = class == BRIX_CLASS_LETTER ? LETTERS : is_line_end(point) ? LINES : OTHERS;
        return class == BRIX_CLASS_LETTER || class == BRIX_CLASS_OTHER || is_line_end(point);
    default:
        if (is_line_end(point))
            count->state = LINES;
        return class == BRIX_CLASS_OTHER || is_line_end(point);
    }
}

/* 's 'd 'm 't end at once; 'll 've 're wait for their last letter. 1 when that is all of the character. */
static int contracts(brix_count *count, uint32_t point, const char *bytes, size_t length)
{
    uint32_t letter = folded(point);
    if (count->state == APOSTROPHE && (letter == 'l' || letter == 'v' || letter == 'r')) {
        take(count, bytes, length);
        count->state = letter == 'l' ? APOSTROPHE_L : APOSTROPHE_E;
        return 1;
    }
    int ends = count->state == APOSTROPHE ? letter == 's' || letter == 'd' || letter == 'm' || letter == 't'
                                          : letter == (count->state == APOSTROPHE_L ? 'l' : 'e');
    if (ends) {
        take(count, bytes, length);
        end_piece(count);
    } else if (count->state != APOSTROPHE) {
        count->state = LETTERS;
    }
    return ends;
}

static void take_point(brix_count *count, uint32_t point, const char *bytes, size_t length)
{
    if (count->state == BLANKS) {
        if (class_of(count, point) == BRIX_CLASS_BLANK)
            take_blank(count, point, bytes, length);
        else
            after_blanks(count, point, bytes, length);
        return;
    }
    if (count->state >= APOSTROPHE && count->state <= APOSTROPHE_E && contracts(count, point, bytes, length))
        return;
    if (count->state != START && goes_on(count, point)) {
        take(count, bytes, length);
        return;
    }
    if (count->state != START)
        end_piece(count);
    begin_piece(count, point, bytes, length);
}

/* --- the text -------------------------------------------------------------------------------------- */

void brix_count_begin(brix_count *count, const brix_vocabulary *vocabulary, uint64_t limit)
{
    count->vocabulary = vocabulary;
    count->limit = limit;
    count->tokens = 0;
    count->left = count->blank_length = count->streams = 0;
    count->length = 0;
    count->state = START;
}

static void take_byte(brix_count *count, unsigned char byte)
{
    char bytes[4];
    size_t length = 0;
    if (count->left == 0) {
        count->left = byte < 0xc0 ? 0 : byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
        count->point = byte < 0x80 ? byte : byte & (0x3fu >> count->left);
    } else {
        count->left--;
        count->point = count->point << 6 | (byte & 0x3f);
    }
    if (count->left > 0)
        return;
    uint32_t point = count->point < BRIX_POINTS ? count->point : 0xfffd;
    if (point < 0x80)
        bytes[length++] = (char)point;
    else if (point < 0x800)
        bytes[length++] = (char)(0xc0 | point >> 6);
    else if (point < 0x10000)
        bytes[length++] = (char)(0xe0 | point >> 12);
    else
        bytes[length++] = (char)(0xf0 | point >> 18);
    if (point >= 0x10000)
        bytes[length++] = (char)(0x80 | (point >> 12 & 0x3f));
    if (point >= 0x800)
        bytes[length++] = (char)(0x80 | (point >> 6 & 0x3f));
    if (point >= 0x80)
        bytes[length++] = (char)(0x80 | (point & 0x3f));
    take_point(count, point, bytes, length);
}

void brix_count_feed(brix_count *count, const char *bytes, size_t length)
{
    if (!count->vocabulary)
        return;
    for (size_t i = 0; i < length && count->tokens <= count->limit; i++)
        take_byte(count, (unsigned char)bytes[i]);
}

uint64_t brix_count_end(brix_count *count)
{
    if (!count->vocabulary)
        return 0;
    if (count->state == BLANKS) {
        push_all(count->vocabulary, &count->tail, (const char *)count->blank, count->blank_length);
        count->blank_length = 0;
        end_blanks(count);
    } else {
        end_piece(count);
    }
    return count->tokens <= count->limit ? count->tokens : count->limit + 1;
}
