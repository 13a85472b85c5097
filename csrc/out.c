#include "out.h"

void brix_out_bytes(brix_out *out, const char *bytes, size_t length)
{
    size_t room = out->capacity - out->length;
    if (length > room) {
        length = room;
        out->cut = 1;
    }
    if (length > 0)
        memcpy(out->at + out->length, bytes, length);
    out->length += length;
}

void brix_out_text(brix_out *out, brix_text text)
{
    brix_out_bytes(out, text.at, text.length);
}

static int is_tail(unsigned char byte)
{
    return (byte & 0xc0) == 0x80;
}

static size_t utf8_three(const unsigned char *b)
{
    if (!is_tail(b[1]) || !is_tail(b[2]))
        return 0;
    if (b[0] == 0xe0 && b[1] < 0xa0)
        return 0;
    return b[0] == 0xed && b[1] > 0x9f ? 0 : 3;
}

static size_t utf8_four(const unsigned char *b)
{
    if (!is_tail(b[1]) || !is_tail(b[2]) || !is_tail(b[3]))
        return 0;
    if (b[0] == 0xf0 && b[1] < 0x90)
        return 0;
    return b[0] == 0xf4 && b[1] > 0x8f ? 0 : 4;
}

size_t brix_utf8_length(const unsigned char *bytes, size_t available)
{
    unsigned char lead = bytes[0];
    if (lead < 0x80)
        return 1;
    if (lead >= 0xc2 && lead <= 0xdf)
        return available >= 2 && is_tail(bytes[1]) ? 2 : 0;
    if (lead >= 0xe0 && lead <= 0xef)
        return available >= 3 ? utf8_three(bytes) : 0;
    if (lead >= 0xf0 && lead <= 0xf4)
        return available >= 4 ? utf8_four(bytes) : 0;
    return 0;
}

static void json_control(brix_out *out, unsigned char byte)
{
    static const char digits[] = "0123456789abcdef";
    switch (byte) {
    case '\n':
        brix_out_bytes(out, "\\n", 2);
        return;
    case '\r':
        brix_out_bytes(out, "\\r", 2);
        return;
    case '\t':
        brix_out_bytes(out, "\\t", 2);
        return;
    default: {
        char escaped[6] = {'\\', 'u', '0', '0', digits[byte >> 4], digits[byte & 15]};
        brix_out_bytes(out, escaped, sizeof escaped);
    }
    }
}

void brix_out_json(brix_out *out, brix_text text)
{
    const unsigned char *bytes = (const unsigned char *)text.at;
    for (size_t i = 0; i < text.length;) {
        unsigned char byte = bytes[i];
        size_t width = brix_utf8_length(bytes + i, text.length - i);
        if (byte == '"' || byte == '\\') {
            char escaped[2] = {'\\', (char)byte};
            brix_out_bytes(out, escaped, 2);
        } else if (byte < 0x20) {
            json_control(out, byte);
        } else if (width == 0) {
            brix_out_bytes(out, "\xef\xbf\xbd", 3);
        } else {
            brix_out_bytes(out, text.at + i, width);
        }
        i += width ? width : 1;
    }
}

void brix_out_json_or_null(brix_out *out, brix_text text)
{
    if (text.at == NULL) {
        brix_out_bytes(out, "null", 4);
        return;
    }
    brix_out_bytes(out, "\"", 1);
    brix_out_json(out, text);
    brix_out_bytes(out, "\"", 1);
}

void brix_out_number(brix_out *out, uint64_t number)
{
    char digits[20];
    size_t first = sizeof digits;
    do {
        digits[--first] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    brix_out_bytes(out, digits + first, sizeof digits - first);
}

int brix_is_utf8(brix_text text)
{
    for (size_t i = 0, length; i < text.length; i += length)
        if ((length = brix_utf8_length((const unsigned char *)text.at + i, text.length - i)) == 0)
            return 0;
    return 1;
}
