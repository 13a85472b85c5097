#include "upstream_error.h"

#include "action.h"
#include "scan.h"

enum { MESSAGE, TYPE, PARAM, CODE, ERROR, PARTS };

static const brix_text NAMES[PARTS] = {
    [MESSAGE] = {"message", 7}, [TYPE] = {"type", 4}, [PARAM] = {"param", 5},
    [CODE] = {"code", 4},       [ERROR] = {"error", 5},
};

/* Raw values of the members of one object; at NULL when absent. */
typedef struct {
    brix_text value[PARTS];
} members;

static int is_json_object(brix_text body)
{
    brix_scan scan;
    brix_scan_begin(&scan, BRIX_TEXT_NONE, NULL, 0, NULL, NULL);
    brix_scan_feed(&scan, body.at, body.length);
    return brix_scan_is_complete(&scan);
}

/* What follows assumes valid JSON: is_json_object has said so. */
static size_t string_length(brix_text rest)
{
    size_t i = 1;
    while (i < rest.length && rest.at[i] != '"')
        i += rest.at[i] == '\\' ? 2 : 1;
    return i + 1 < rest.length ? i + 1 : rest.length;
}

static size_t container_length(brix_text rest)
{
    size_t i = 0, depth = 0;
    while (i < rest.length) {
        char byte = rest.at[i];
        if (byte == '"') {
            i += string_length((brix_text){rest.at + i, rest.length - i});
            continue;
        }
        i++;
        if (byte == '{' || byte == '[')
            depth++;
        else if ((byte == '}' || byte == ']') && --depth == 0)
            return i;
    }
    return rest.length;
}

static size_t value_length(brix_text rest)
{
    if (rest.length == 0)
        return 0;
    if (rest.at[0] == '"')
        return string_length(rest);
    if (rest.at[0] == '{' || rest.at[0] == '[')
        return container_length(rest);
    size_t i = 0;
    while (i < rest.length && !brix_is_blank(rest.at[i]) && !memchr(",]}", rest.at[i], 3))
        i++;
    return i;
}

static brix_text take(brix_text *rest, size_t length)
{
    brix_text head = {rest->at, length};
    rest->at += length;
    rest->length -= length;
    return head;
}


static void note(members *members, brix_text key, brix_text value)
{
    for (int i = 0; i < PARTS; i++)
        if (key.length == NAMES[i].length + 2 && memcmp(key.at + 1, NAMES[i].at, NAMES[i].length) == 0)
            members->value[i] = value;
}

static void read_members(brix_text object, members *members)
{
    brix_text rest = object;
    memset(members, 0, sizeof *members);
    take(&rest, 1);
    for (;;) {
        while (rest.length > 0 && (brix_is_blank(rest.at[0]) || rest.at[0] == ','))
            take(&rest, 1);
        if (rest.length == 0 || rest.at[0] != '"')
            return;
        brix_text key = take(&rest, string_length(rest));
        while (rest.length > 0 && (brix_is_blank(rest.at[0]) || rest.at[0] == ':'))
            take(&rest, 1);
        note(members, key, take(&rest, value_length(rest)));
    }
}

static int begins_with(brix_text value, char byte)
{
    return value.length > 0 && value.at[0] == byte;
}

static int is_complete_error(const members *error)
{
    return begins_with(error->value[MESSAGE], '"') && error->value[TYPE].at && error->value[PARAM].at &&
           error->value[CODE].at;
}

static void write_member(brix_out *out, const char *name, brix_text raw, brix_text fallback)
{
    brix_out_bytes(out, name, strlen(name));
    brix_out_text(out, raw.at ? raw : fallback);
}

static brix_text write_error(const members *error, brix_out *scratch)
{
    const brix_text null = BRIX_LITERAL("null"), unknown = BRIX_LITERAL("\"unknown response\"");
    size_t from = scratch->length;
    brix_text message = error->value[MESSAGE];
    if (!begins_with(message, '"') || message.length == 2)
        message = BRIX_NOTHING;
    write_member(scratch, "{\"error\":{\"message\":", message, unknown);
    write_member(scratch, ",\"type\":", error->value[TYPE], null);
    write_member(scratch, ",\"code\":", error->value[CODE], null);
    write_member(scratch, ",\"param\":", error->value[PARAM], null);
    brix_out_text(scratch, BRIX_LITERAL("}}"));
    return (brix_text){scratch->at + from, scratch->length - from};
}

static brix_text wrap(brix_refusal refusal, brix_out *scratch)
{
    brix_action action;
    if (refusal.status == 401)
        refusal.code = BRIX_LITERAL("invalid_api_key");
    if (refusal.status == 503)
        refusal.code = BRIX_LITERAL("service_unavailable");
    brix_action_refuse(&action, scratch, &refusal);
    return action.body;
}

static brix_text wrap_text(brix_text body, uint32_t status, brix_out *scratch)
{
    brix_text text = body.length ? body : BRIX_LITERAL("unknown response");
    return wrap((brix_refusal){.status = status, .subject = text}, scratch);
}

brix_text brix_upstream_unrouted(brix_text body, brix_text problem, uint32_t status, brix_out *scratch)
{
    brix_text between = body.length ? BRIX_LITERAL(". ") : BRIX_NOTHING;
    return wrap((brix_refusal){.status = status, .before = body, .subject = between, .after = problem}, scratch);
}

brix_text brix_upstream_error(brix_text body, uint32_t status, brix_out *scratch)
{
    brix_text text = brix_text_trim(body);
    members top, error;
    if (!is_json_object(text))
        return wrap_text(body, status, scratch);
    read_members(text, &top);
    if (begins_with(top.value[ERROR], '{')) {
        read_members(top.value[ERROR], &error);
        return is_complete_error(&error) ? body : write_error(&error, scratch);
    }
    return top.value[MESSAGE].at ? write_error(&top, scratch) : wrap_text(body, status, scratch);
}
