#include "action.h"

void brix_action_begin(brix_action *action)
{
    action->kind = BRIX_CONTINUE;
    action->status = 0;
    action->sets = action->removes = 0;
    action->clear_route_cache = action->body_changed = action->skips_body = 0;
    action->body = BRIX_NOTHING;
}

void brix_action_set(brix_action *action, brix_text name, brix_text value)
{
    if (action->sets < BRIX_SETS)
        action->set[action->sets++] = (brix_header_line){name, value};
}

int brix_action_remove(brix_action *action, brix_text name)
{
    if (action->removes == BRIX_REMOVES)
        return 0;
    action->remove[action->removes++] = name;
    return 1;
}

brix_text brix_error_type(uint32_t status)
{
    switch (status) {
    case 400:
    case 404:
        return BRIX_LITERAL("invalid_request_error");
    case 401:
        return BRIX_LITERAL("authentication_error");
    case 429:
        return BRIX_LITERAL("rate_limit_error");
    case 503:
        return BRIX_LITERAL("overloaded_error");
    default:
        return BRIX_LITERAL("api_error");
    }
}

static void write_envelope(brix_out *out, const brix_refusal *refusal)
{
    brix_out_text(out, BRIX_LITERAL("{\"error\":{\"message\":\""));
    brix_out_json(out, refusal->before);
    brix_out_json(out, refusal->subject);
    brix_out_json(out, refusal->after);
    brix_out_text(out, BRIX_LITERAL("\",\"type\":"));
    brix_out_json_or_null(out, brix_error_type(refusal->status));
    brix_out_text(out, BRIX_LITERAL(",\"code\":"));
    brix_out_json_or_null(out, refusal->code);
    brix_out_text(out, BRIX_LITERAL(",\"param\":"));
    brix_out_json_or_null(out, refusal->param);
    brix_out_text(out, BRIX_LITERAL("}}"));
}

/* A header value holds no control bytes; they would split the header or have it refused. */
static brix_text header_value(brix_out *scratch, brix_text value)
{
    char *at = scratch->at + scratch->length;
    brix_out_text(scratch, value);
    size_t length = (size_t)(scratch->at + scratch->length - at);
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)at[i] < 0x20 || at[i] == 0x7f)
            at[i] = '?';
    return (brix_text){at, length};
}

void brix_action_refuse(brix_action *action, brix_out *scratch, const brix_refusal *refusal)
{
    brix_action_begin(action);
    action->kind = BRIX_REPLY;
    action->status = refusal->status;
    if (refusal->marker.length)
        brix_action_set(action, refusal->marker, header_value(scratch, refusal->marker_value));
    brix_action_set(action, BRIX_LITERAL("content-type"), BRIX_LITERAL("application/json"));
    size_t from = scratch->length;
    write_envelope(scratch, refusal);
    action->body = (brix_text){scratch->at + from, scratch->length - from};
}
