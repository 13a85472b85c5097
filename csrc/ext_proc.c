#include "ext_proc.h"

/* HttpHeaders or HttpBody: both hold their content in field 1. */
typedef struct {
    brix_text content;
    int end;
} event;

static int read_event(brix_text message, uint32_t end_field, event *event)
{
    brix_wire wire = brix_wire_of(message);
    event->content = BRIX_LITERAL("");
    event->end = 0;
    while (brix_wire_next(&wire)) {
        if (wire.field == 1 && wire.kind == BRIX_WIRE_BYTES)
            event->content = wire.bytes;
        else if (wire.field == end_field && wire.kind == BRIX_WIRE_VARINT)
            event->end = wire.number != 0;
    }
    return !wire.bad;
}

/* HeaderValue: key 1, value 2, raw_value 3; the raw one counts when it is there. */
static int read_header(brix_text message, brix_header_line *line)
{
    brix_wire wire = brix_wire_of(message);
    brix_text raw = BRIX_NOTHING;
    line->name = line->value = BRIX_LITERAL("");
    while (brix_wire_next(&wire)) {
        if (wire.kind != BRIX_WIRE_BYTES)
            continue;
        if (wire.field == 1)
            line->name = wire.bytes;
        else if (wire.field == 2)
            line->value = wire.bytes;
        else if (wire.field == 3)
            raw = wire.bytes;
    }
    if (raw.length)
        line->value = raw;
    return !wire.bad;
}

typedef void (*visit)(brix_flow *flow, brix_header_line line, brix_action *action);

static int each_header(brix_flow *flow, brix_text map, visit visit, brix_action *action)
{
    brix_wire wire = brix_wire_of(map);
    brix_header_line line;
    while (brix_wire_next(&wire)) {
        if (wire.field != 1 || wire.kind != BRIX_WIRE_BYTES)
            continue;
        if (!read_header(wire.bytes, &line))
            return 0;
        visit(flow, line, action);
    }
    return !wire.bad;
}

static void visit_request(brix_flow *flow, brix_header_line line, brix_action *action)
{
    brix_flow_request_header(flow, line.name, line.value, action);
}

static void visit_response(brix_flow *flow, brix_header_line line, brix_action *action)
{
    (void)action;
    brix_flow_response_header(flow, line.name, line.value);
}

static int headers(brix_flow *flow, uint32_t kind, brix_text message, brix_out *scratch, brix_action *action)
{
    event event;
    int is_request = kind == EXT_REQUEST_HEADERS;
    if (!read_event(message, 3, &event))
        return 0;
    if (!each_header(flow, event.content, is_request ? visit_request : visit_response, action))
        return 0;
    if (is_request)
        brix_flow_request_headers_done(flow, event.end, scratch, action);
    else
        brix_flow_response_headers_done(flow, event.end, scratch, action);
    return 1;
}

static int body(brix_flow *flow, uint32_t kind, brix_text message, brix_out *scratch, brix_action *action)
{
    event event;
    if (!read_event(message, 2, &event))
        return 0;
    if (kind == EXT_REQUEST_BODY)
        brix_flow_request_body(flow, event.content, event.end, scratch, action);
    else
        brix_flow_response_body(flow, event.content, event.end, scratch, action);
    return 1;
}

static int dispatch(brix_flow *flow, uint32_t kind, brix_text message, brix_out *scratch, brix_action *action)
{
    switch (kind) {
    case EXT_REQUEST_HEADERS:
    case EXT_RESPONSE_HEADERS:
        return headers(flow, kind, message, scratch, action);
    case EXT_REQUEST_BODY:
    case EXT_RESPONSE_BODY:
        return body(flow, kind, message, scratch, action);
    case EXT_REQUEST_TRAILERS:
        brix_flow_request_trailers(flow, scratch, action);
        return 1;
    case EXT_RESPONSE_TRAILERS:
        brix_flow_response_trailers(flow, action);
        return 1;
    default:
        return 0;
    }
}

/* An entry of a map: key 1, value 2. */
static int read_entry(brix_text entry, brix_header_line *line)
{
    brix_wire wire = brix_wire_of(entry);
    line->name = line->value = BRIX_LITERAL("");
    while (brix_wire_next(&wire)) {
        if (wire.field == 1 && wire.kind == BRIX_WIRE_BYTES)
            line->name = wire.bytes;
        else if (wire.field == 2 && wire.kind == BRIX_WIRE_BYTES)
            line->value = wire.bytes;
    }
    return !wire.bad;
}

/* What Envoy tells of an answer, in a map from the filter's name to a Struct (fields 1) of Values (string 3). */
static void read_attributes(brix_flow *flow, brix_text message)
{
    brix_header_line filter, attribute;
    if (!read_entry(message, &filter))
        return;
    for (brix_wire wire = brix_wire_of(filter.value); brix_wire_next(&wire);) {
        if (wire.field != 1 || wire.kind != BRIX_WIRE_BYTES || !read_entry(wire.bytes, &attribute))
            continue;
        for (brix_wire value = brix_wire_of(attribute.value); brix_wire_next(&value);)
            if (value.field == 3 && value.kind == BRIX_WIRE_BYTES)
                brix_flow_attribute(flow, attribute.name, value.bytes);
    }
}

/* Which of the kinds the message is: the last one given, as protobuf reads a oneof. */
static int read_request(brix_flow *flow, brix_text message, uint32_t *kind, brix_text *content)
{
    brix_wire wire = brix_wire_of(message);
    *kind = 0;
    while (brix_wire_next(&wire)) {
        if (wire.kind == BRIX_WIRE_BYTES && wire.field == EXT_ATTRIBUTES)
            read_attributes(flow, wire.bytes);
        if (wire.kind != BRIX_WIRE_BYTES || wire.field < EXT_REQUEST_HEADERS || wire.field > EXT_RESPONSE_TRAILERS)
            continue;
        *kind = wire.field;
        *content = wire.bytes;
    }
    return !wire.bad && *kind != 0;
}

/* The note goes along once routed, too, since a request that its client leaves gets no further answer. */
static brix_status put_answer(const brix_flow *flow, uint32_t kind, int is_noteworthy, const brix_action *action,
                              brix_back *back, char *output, size_t *written)
{
    if (is_noteworthy)
        brix_ext_proc_note(back, flow);
    brix_ext_proc_write(back, kind, action);
    if (back->cut)
        return BRIX_FULL;
    *written = (size_t)(back->end - back->at);
    memmove(output, back->at, *written);
    return BRIX_OK;
}

/* What is in scratch by then stays there: the question, and a body that was changed before it. */
static brix_status put_question(brix_flow *flow, uint32_t kind, const brix_action *action, size_t used)
{
    flow->waits = (uint8_t)kind;
    flow->question = action->question;
    flow->kept = action->body_changed ? action->body : BRIX_NOTHING;
    flow->kept_to = used;
    return BRIX_ASKS;
}

brix_text brix_flow_question(const brix_flow *flow)
{
    return flow->asks ? flow->question : BRIX_NOTHING;
}

/* Scratch takes what is beyond the least output by half. */
static size_t scratch_of(size_t capacity)
{
    return capacity < BRIX_OUTPUT_BYTES ? 0 : BRIX_SCRATCH_BYTES + (capacity - BRIX_OUTPUT_BYTES) / 2;
}

brix_status brix_flow_message(brix_flow *flow, const char *message, size_t length, char *output, size_t capacity,
                              size_t *written)
{
    size_t room = scratch_of(capacity);
    brix_out scratch = {output, 0, room, 0};
    brix_back back = {output + room, output + capacity, output + capacity, 0};
    brix_action action;
    brix_text content = BRIX_NOTHING;
    uint32_t kind = 0;
    if (capacity < BRIX_OUTPUT_BYTES || !read_request(flow, (brix_text){message, length}, &kind, &content))
        return BRIX_BAD;
    if (kind == EXT_REQUEST_HEADERS)
        flow->order.is_wanted = 1;
    int was_complete = brix_flow_is_complete(flow), was_routed = flow->stage >= FLOW_ROUTED;
    brix_action_begin(&action);
    if (!dispatch(flow, kind, content, &scratch, &action))
        return BRIX_BAD;
    if (action.kind == BRIX_ASK)
        return put_question(flow, kind, &action, scratch.length);
    int is_noteworthy = (!was_complete && brix_flow_is_complete(flow)) || (!was_routed && flow->stage == FLOW_ROUTED);
    return put_answer(flow, kind, is_noteworthy, &action, &back, output, written);
}

brix_status brix_flow_answer(brix_flow *flow, const char *answer, size_t length, char *output, size_t capacity,
                             size_t *written)
{
    size_t room = scratch_of(capacity);
    brix_out scratch = {output, flow->kept_to, room, 0};
    brix_back back = {output + room, output + capacity, output + capacity, 0};
    brix_action action;
    if (capacity < BRIX_OUTPUT_BYTES || !flow->asks || brix_flow_is_complete(flow) || flow->kept_to > room)
        return BRIX_BAD;
    brix_action_begin(&action);
    action.body_changed = flow->kept.at != NULL;
    action.body = flow->kept;
    brix_flow_answered(flow, (brix_text){answer, length}, &scratch, &action);
    int is_noteworthy = brix_flow_is_complete(flow) || flow->stage == FLOW_ROUTED;
    return put_answer(flow, flow->waits, is_noteworthy, &action, &back, output, written);
}
