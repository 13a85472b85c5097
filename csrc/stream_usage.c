#define _GNU_SOURCE
#include "stream_usage.h"

#define WHOLE "\"stream_options\":{\"include_usage\":true}"
#define OPTIONS "{\"include_usage\":true}"
#define MEMBER "\"include_usage\":true"

/* --- the request ------------------------------------------------------------------------- */

static int put(brix_edit *edit, uint64_t at, uint32_t removed, brix_text insert)
{
    *edit = (brix_edit){at, removed, insert};
    return 1;
}

int brix_usage_edit(const brix_intake *intake, brix_edit *edit)
{
    const brix_scan *scan = &intake->scan;
    brix_endpoint_id id = intake->endpoint->id;
    if ((id != BRIX_CHAT && id != BRIX_COMPLETIONS) || !brix_intake_is_complete(intake) ||
        !brix_intake_streams(intake))
        return 0;
    const brix_found *options = &scan->found[BRIX_FIELD_STREAM_OPTIONS];
    switch (options->kind) {
    case BRIX_ABSENT:
        return put(edit, scan->close_at, 0, BRIX_LITERAL("," WHOLE));
    case BRIX_NULL:
        return put(edit, scan->options_at, 4, BRIX_LITERAL(OPTIONS));
    case BRIX_OBJECT:
        break;
    default:
        return 0;
    }
    switch (scan->found[BRIX_FIELD_INCLUDE_USAGE].kind) {
    case BRIX_ABSENT:
        return put(edit, scan->options_at + 1, 0, options->filled ? BRIX_LITERAL(MEMBER ",") : BRIX_LITERAL(MEMBER));
    case BRIX_NULL:
        return put(edit, scan->usage_at, 4, BRIX_LITERAL("true"));
    case BRIX_FALSE:
        return put(edit, scan->usage_at, 5, BRIX_LITERAL("true"));
    default:
        return 0;
    }
}

/* --- the answer -------------------------------------------------------------------------- */

/* What follows the first `"name" :`, without blanks; nothing when it is not there. */
static brix_text value_of(brix_text event, brix_text name)
{
    const char *found = memmem(event.at, event.length, name.at, name.length);
    if (!found)
        return BRIX_NOTHING;
    size_t at = (size_t)(found - event.at) + name.length;
    brix_text rest = brix_text_trim((brix_text){event.at + at, event.length - at});
    if (rest.length == 0 || rest.at[0] != ':')
        return BRIX_NOTHING;
    return brix_text_trim((brix_text){rest.at + 1, rest.length - 1});
}

/* Inside of a JSON string quotes are escaped, so generated text never looks like these members. */
static int is_usage_alone(brix_text event)
{
    brix_text usage = value_of(event, BRIX_LITERAL("\"usage\""));
    if (usage.length == 0 || usage.at[0] != '{')
        return 0;
    brix_text choices = value_of(event, BRIX_LITERAL("\"choices\""));
    if (choices.length == 0 || choices.at[0] != '[')
        return 0;
    choices = brix_text_trim((brix_text){choices.at + 1, choices.length - 1});
    return choices.length > 0 && choices.at[0] == ']';
}

/* Bytes of rest up to the empty line that ends the event; 0: it ends later. */
static size_t end_of_event(brix_events *events, brix_text rest)
{
    for (size_t i = 0; i < rest.length;) {
        if (!events->in_line && rest.at[i] == '\n')
            return i + 1;
        if (!events->in_line && rest.at[i] == '\r') {
            i++;
            continue;
        }
        const char *line = memchr(rest.at + i, '\n', rest.length - i);
        events->in_line = line == NULL;
        if (!line)
            return 0;
        i = (size_t)(line - rest.at) + 1;
    }
    return 0;
}

/* What goes on of a chunk: its begin as it is, then, once something differs, copies in scratch. */
typedef struct {
    brix_text chunk;
    brix_out *scratch;
    size_t from; /* in scratch */
    size_t same;
    int copies;
    int cuts; /* the end of the chunk is held */
} passage;

static void differ(passage *passage)
{
    if (passage->copies)
        return;
    passage->copies = 1;
    passage->from = passage->scratch->length;
    brix_out_bytes(passage->scratch, passage->chunk.at, passage->same);
}

static void let_pass(passage *passage, brix_text text)
{
    if (passage->copies)
        brix_out_text(passage->scratch, text);
    else
        passage->same += text.length;
}

static void release(brix_events *events, const char *held, passage *passage)
{
    differ(passage);
    brix_out_bytes(passage->scratch, held, events->held);
    events->held = 0;
}

/* The begin of an event whose end is not here yet. */
static void hold(brix_events *events, char *held, size_t capacity, brix_text rest, passage *passage)
{
    if (!events->passes && events->held + rest.length <= capacity) {
        passage->cuts = 1;
        events->held += (uint32_t)brix_text_copy(held + events->held, rest.length, rest);
        return;
    }
    events->passes = 1;
    if (events->held > 0)
        release(events, held, passage);
    let_pass(passage, rest);
}

static void end_event(brix_events *events, char *held, size_t capacity, brix_text part, passage *passage)
{
    brix_text event = part;
    events->in_line = 0;
    if (events->held > 0) {
        size_t more = brix_text_copy(held + events->held, capacity - events->held, part);
        event = (brix_text){held, events->held + more};
    }
    int drops = !events->passes && is_usage_alone(event);
    events->passes = 0;
    if (drops) {
        differ(passage);
        events->held = 0;
        return;
    }
    if (events->held > 0)
        release(events, held, passage);
    let_pass(passage, part);
}

void brix_events_filter(brix_events *events, char *held, size_t capacity, brix_text chunk, int end, brix_out *scratch,
                        brix_action *action)
{
    passage passage = {.chunk = chunk, .scratch = scratch};
    brix_text rest = chunk;
    for (size_t length; rest.length > 0 && (length = end_of_event(events, rest)) > 0;) {
        end_event(events, held, capacity, (brix_text){rest.at, length}, &passage);
        rest = (brix_text){rest.at + length, rest.length - length};
    }
    if (rest.length > 0)
        hold(events, held, capacity, rest, &passage);
    if (end && events->held > 0)
        release(events, held, &passage);
    if (!passage.copies && !passage.cuts)
        return;
    action->body_changed = 1;
    action->body = passage.copies ? (brix_text){scratch->at + passage.from, scratch->length - passage.from}
                                  : (brix_text){chunk.at, passage.same};
}
