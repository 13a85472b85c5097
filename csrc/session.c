#include "session.h"

static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t brix_session_id(brix_text address, char *target)
{
    size_t at = 0;
    for (size_t i = 0; i < address.length && i < BRIX_ADDRESS; i += 3) {
        uint32_t left = (uint32_t)(address.length - i), bits = 0;
        for (uint32_t byte = 0; byte < 3; byte++)
            bits = bits << 8 | (byte < left ? (unsigned char)address.at[i + byte] : 0);
        for (uint32_t digit = 0; digit < 4; digit++)
            target[at++] = digit <= left ? DIGITS[bits >> (18 - 6 * digit) & 63] : '=';
    }
    return at;
}

/* Length of what was decoded, 0 when text is no padded base64 of at most capacity bytes. */
static size_t decode(brix_text text, char *target, size_t capacity)
{
    size_t length = 0, padding = 0;
    uint32_t bits = 0;
    if (text.length == 0 || text.length % 4 != 0 || text.length / 4 * 3 > capacity + 2)
        return 0;
    while (padding < 2 && text.at[text.length - 1 - padding] == '=')
        padding++;
    for (size_t i = 0; i < text.length; i++) {
        const char *digit = i < text.length - padding ? memchr(DIGITS, text.at[i], 64) : DIGITS;
        if (!digit)
            return 0;
        bits = bits << 6 | (uint32_t)(digit - DIGITS);
        for (int byte = 2; i % 4 == 3 && byte >= 0; byte--)
            if (length < capacity)
                target[length++] = (char)(bits >> (8 * byte));
    }
    return text.length / 4 * 3 - padding <= capacity ? text.length / 4 * 3 - padding : 0;
}

uint64_t brix_session_weight(brix_text key, brix_text address)
{
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < key.length; i++)
        hash = (hash ^ (unsigned char)key.at[i]) * 1099511628211u;
    hash *= 1099511628211u; /* the zero byte between them */
    for (size_t i = 0; i < address.length; i++)
        hash = (hash ^ (unsigned char)address.at[i]) * 1099511628211u;
    return hash;
}

void brix_session_begin(brix_session *session, brix_text id, brix_text key)
{
    session->by_id = session->by_key = BRIX_NOWHERE;
    session->weight = 0;
    session->best = BRIX_NOTHING;
    session->key = key.length <= BRIX_SESSION_KEY ? key : BRIX_NOTHING;
    session->wanted_length = decode(brix_text_trim(id), session->wanted, sizeof session->wanted);
}

static int is_lesser(brix_text a, brix_text b)
{
    size_t common = a.length < b.length ? a.length : b.length;
    int order = common ? memcmp(a.at, b.at, common) : 0;
    return order ? order < 0 : a.length < b.length;
}

void brix_session_consider(brix_session *session, brix_text address, uint32_t place)
{
    if (session->wanted_length && brix_text_is((brix_text){session->wanted, session->wanted_length}, address))
        session->by_id = place;
    if (session->key.length == 0)
        return;
    uint64_t weight = brix_session_weight(session->key, address);
    if (session->by_key != BRIX_NOWHERE && (weight < session->weight ||
                                            (weight == session->weight && !is_lesser(address, session->best))))
        return;
    session->by_key = place;
    session->weight = weight;
    session->best = address;
}

uint32_t brix_session_place(const brix_session *session)
{
    return session->by_id != BRIX_NOWHERE ? session->by_id : session->by_key;
}
