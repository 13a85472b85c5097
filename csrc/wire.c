#include "wire.h"

static uint64_t take_varint(brix_wire *wire)
{
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && wire->at < wire->end; shift += 7) {
        unsigned char byte = (unsigned char)*wire->at++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return value;
    }
    wire->bad = 1;
    return 0;
}

static void skip(brix_wire *wire, uint64_t length)
{
    if (length > (uint64_t)(wire->end - wire->at))
        wire->bad = 1;
    else
        wire->at += length;
}

static void take_value(brix_wire *wire)
{
    switch (wire->kind) {
    case BRIX_WIRE_VARINT:
        wire->number = take_varint(wire);
        break;
    case BRIX_WIRE_BYTES:
        wire->bytes.length = take_varint(wire);
        wire->bytes.at = wire->at;
        skip(wire, wire->bytes.length);
        break;
    case BRIX_WIRE_FIXED64:
        skip(wire, 8);
        break;
    case BRIX_WIRE_FIXED32:
        skip(wire, 4);
        break;
    default:
        wire->bad = 1;
    }
}

int brix_wire_next(brix_wire *wire)
{
    if (wire->bad || wire->at >= wire->end)
        return 0;
    uint64_t tag = take_varint(wire);
    if (wire->bad || tag >> 3 == 0 || tag >> 3 > 0x1fffffff) {
        wire->bad = 1;
        return 0;
    }
    wire->field = (uint32_t)(tag >> 3);
    wire->kind = (uint32_t)(tag & 7);
    wire->number = 0;
    wire->bytes = BRIX_NOTHING;
    take_value(wire);
    return !wire->bad;
}

static void put(brix_back *back, const char *bytes, size_t length)
{
    if (length > (size_t)(back->at - back->start)) {
        back->cut = 1;
        return;
    }
    back->at -= length;
    if (length > 0)
        memmove(back->at, bytes, length);
}

static void put_varint(brix_back *back, uint64_t value)
{
    char bytes[10];
    size_t length = 0;
    do {
        bytes[length++] = (char)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        value >>= 7;
    } while (value > 0);
    put(back, bytes, length);
}

static void put_tag(brix_back *back, uint32_t field, uint32_t kind)
{
    put_varint(back, (uint64_t)field << 3 | kind);
}

void brix_back_varint(brix_back *back, uint32_t field, uint64_t number)
{
    put_varint(back, number);
    put_tag(back, field, BRIX_WIRE_VARINT);
}

void brix_back_bytes(brix_back *back, uint32_t field, brix_text bytes)
{
    put(back, bytes.at, bytes.length);
    put_varint(back, bytes.length);
    put_tag(back, field, BRIX_WIRE_BYTES);
}

void brix_back_nest(brix_back *back, uint32_t field, const char *mark)
{
    put_varint(back, (uint64_t)(mark - back->at));
    put_tag(back, field, BRIX_WIRE_BYTES);
}
