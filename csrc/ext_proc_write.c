#include "ext_proc.h"

#define OVERWRITE_IF_EXISTS_OR_ADD 2

/* The field of ProcessingResponse that answers each kind of request. */
static uint32_t answer_field(uint32_t kind)
{
    static const uint8_t fields[] = {
        [EXT_REQUEST_HEADERS] = 1, [EXT_RESPONSE_HEADERS] = 2, [EXT_REQUEST_BODY] = 3,
        [EXT_RESPONSE_BODY] = 4,   [EXT_REQUEST_TRAILERS] = 5, [EXT_RESPONSE_TRAILERS] = 6,
    };
    return fields[kind];
}

/* HeaderValueOption: header 1 { key 1, raw_value 3 }, append_action 3. */
static void write_set(brix_back *back, const brix_header_line *line)
{
    const char *mark = back->at;
    brix_back_varint(back, 3, OVERWRITE_IF_EXISTS_OR_ADD);
    const char *inner = back->at;
    brix_back_bytes(back, 3, line->value);
    brix_back_bytes(back, 1, line->name);
    brix_back_nest(back, 1, inner);
    brix_back_nest(back, 1, mark);
}

/* HeaderMutation: set_headers 1, remove_headers 2; nothing when there is nothing to do. */
static void write_headers(brix_back *back, uint32_t field, const brix_action *action)
{
    const char *mark = back->at;
    for (uint32_t i = action->removes; i > 0; i--)
        brix_back_bytes(back, 2, action->remove[i - 1]);
    for (uint32_t i = action->sets; i > 0; i--)
        write_set(back, &action->set[i - 1]);
    if (back->at != mark)
        brix_back_nest(back, field, mark);
}

/* BodyMutation: body 1, or clear_body 2. */
static void write_body(brix_back *back, const brix_action *action)
{
    const char *mark = back->at;
    if (!action->body_changed)
        return;
    if (action->body.length > 0)
        brix_back_bytes(back, 1, action->body);
    else
        brix_back_varint(back, 2, 1);
    brix_back_nest(back, 3, mark);
}

/* HeadersResponse and BodyResponse: response 1 = CommonResponse { mutation 2, body 3, clear_route_cache 5 }. */
static void write_common(brix_back *back, const brix_action *action)
{
    const char *mark = back->at;
    if (action->clear_route_cache)
        brix_back_varint(back, 5, 1);
    write_body(back, action);
    write_headers(back, 2, action);
    brix_back_nest(back, 1, mark);
}

/* ImmediateResponse: status 1 { code 1 }, headers 2, body 3. */
static void write_reply(brix_back *back, const brix_action *action)
{
    const char *mark = back->at;
    brix_back_bytes(back, 3, action->body);
    write_headers(back, 2, action);
    const char *status = back->at;
    brix_back_varint(back, 1, action->status);
    brix_back_nest(back, 1, status);
    brix_back_nest(back, 7, mark);
}

/* An entry of a Struct: key 1, value 2, whose fields were written since mark. */
static void write_entry(brix_back *back, brix_text key, const char *mark)
{
    brix_back_nest(back, 2, mark);
    brix_back_bytes(back, 1, key);
    brix_back_nest(back, 1, mark);
}

/* Value: string_value 3, struct_value 5. */
static void note_text(brix_back *back, brix_text key, brix_text value)
{
    const char *mark = back->at;
    if (value.length == 0 || !brix_is_utf8(value))
        return;
    brix_back_bytes(back, 3, value);
    write_entry(back, key, mark);
}

/* As text, like all that the module's filter state can hold. */
static void note_number(brix_back *back, brix_text key, uint64_t value)
{
    char digits[20];
    brix_out out = {digits, 0, sizeof digits, 0};
    brix_out_number(&out, value);
    note_text(back, key, (brix_text){digits, out.length});
}

/* dynamic_metadata 8: { "brixflow": { what the module notes as well } }. */
void brix_ext_proc_note(brix_back *back, const brix_flow *flow)
{
    brix_record record;
    const char *mark = back->at;
    brix_flow_record(flow, &record);
    if (flow->usage.seen) {
        note_number(back, BRIX_LITERAL("prompt_tokens"), record.prompt_tokens);
        note_number(back, BRIX_LITERAL("completion_tokens"), record.completion_tokens);
    }
    note_text(back, BRIX_LITERAL("model"), record.model);
    note_text(back, BRIX_LITERAL("outcome"), brix_outcome_name(record.outcome));
    brix_back_nest(back, 5, mark);
    write_entry(back, BRIX_LITERAL("brixflow"), mark);
    brix_back_nest(back, 8, mark);
}

/* ProcessingMode in mode_override 9: all modes are named. Headers SEND 1, request body BUFFERED 2, answer's body NONE 0,
   request trailers SKIP 2, and the answer's trailers SEND 1, which keeps the stream open to the last byte. */
static void write_override(brix_back *back)
{
    static const uint8_t modes[] = {1, 1, 2, 0, 2, 1};
    const char *mark = back->at;
    for (uint32_t field = sizeof modes; field > 0; field--)
        brix_back_varint(back, field, modes[field - 1]);
    brix_back_nest(back, 9, mark);
}

void brix_ext_proc_write(brix_back *back, uint32_t kind, const brix_action *action)
{
    if (action->kind == BRIX_REPLY) {
        write_reply(back, action);
        return;
    }
    if (action->skips_body)
        write_override(back);
    const char *mark = back->at;
    if (kind == EXT_REQUEST_TRAILERS || kind == EXT_RESPONSE_TRAILERS)
        write_headers(back, 1, action);
    else
        write_common(back, action);
    brix_back_nest(back, answer_field(kind), mark);
}
