/*
 * text.h: pieces of bytes with a length, compared and trimmed without copying.
 *
 *     brix_text = { at -> [h e a d e r][...], length = 6 }
 *
 * Nothing here owns memory. Folding is ASCII only, as HTTP asks.
 */
#ifndef BRIX_TEXT_H
#define BRIX_TEXT_H

#include <string.h>

#include "brixflow.h"

#define BRIX_LITERAL(words) ((brix_text){(words), sizeof(words) - 1})
#define BRIX_NOTHING ((brix_text){NULL, 0})

static inline int brix_text_is(brix_text a, brix_text b)
{
    return a.length == b.length && (a.length == 0 || memcmp(a.at, b.at, a.length) == 0);
}

static inline char brix_lower(char byte)
{
    return byte >= 'A' && byte <= 'Z' ? (char)(byte + 32) : byte;
}

/* Equal but for ASCII case. */
static inline int brix_text_folds(brix_text a, brix_text b)
{
    if (a.length != b.length)
        return 0;
    for (size_t i = 0; i < a.length; i++)
        if (brix_lower(a.at[i]) != brix_lower(b.at[i]))
            return 0;
    return 1;
}

static inline int brix_text_starts(brix_text text, brix_text head)
{
    return text.length >= head.length && brix_text_folds((brix_text){text.at, head.length}, head);
}

static inline int brix_is_blank(char byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

/* Without blanks at both ends. */
static inline brix_text brix_text_trim(brix_text text)
{
    while (text.length > 0 && brix_is_blank(text.at[0])) {
        text.at++;
        text.length--;
    }
    while (text.length > 0 && brix_is_blank(text.at[text.length - 1]))
        text.length--;
    return text;
}

/* Where byte first stands, or the length. */
static inline size_t brix_text_find(brix_text text, char byte)
{
    const char *found = text.length ? memchr(text.at, byte, text.length) : NULL;
    return found ? (size_t)(found - text.at) : text.length;
}

/* The part before the first byte; *rest is what follows it. Returns 0 when nothing was left. */
static inline int brix_text_cut(brix_text *rest, char byte, brix_text *head)
{
    if (rest->at == NULL)
        return 0;
    size_t stop = brix_text_find(*rest, byte);
    *head = (brix_text){rest->at, stop};
    if (stop == rest->length)
        *rest = BRIX_NOTHING;
    else
        *rest = (brix_text){rest->at + stop + 1, rest->length - stop - 1};
    return 1;
}

/* 1 when part, which is not empty, stands somewhere in it. */
static inline int brix_text_holds(brix_text text, brix_text part)
{
    for (size_t i = 0; i + part.length <= text.length; i++)
        if (memcmp(text.at + i, part.at, part.length) == 0)
            return 1;
    return 0;
}

/* 1 for one to 18 decimal digits. */
static inline int brix_text_is_number(brix_text text)
{
    for (size_t i = 0; i < text.length; i++)
        if (text.at[i] < '0' || text.at[i] > '9')
            return 0;
    return text.length > 0 && text.length <= 18;
}

/* Its value, 0 for what is none. */
static inline uint64_t brix_text_number(brix_text text)
{
    uint64_t value = 0;
    for (size_t i = 0; brix_text_is_number(text) && i < text.length; i++)
        value = value * 10 + (uint64_t)(text.at[i] - '0');
    return value;
}

/* Copy at most capacity bytes; returns how many. */
static inline size_t brix_text_copy(char *target, size_t capacity, brix_text text)
{
    size_t length = text.length < capacity ? text.length : capacity;
    if (length > 0)
        memcpy(target, text.at, length);
    return length;
}

#endif
