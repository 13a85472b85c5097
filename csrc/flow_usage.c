#include "flow.h"

int brix_flow_wants_edit(const brix_flow *flow, brix_edit *edit)
{
    if (flow->leaves_streams || flow->hides_usage || !flow->endpoint || flow->stage != FLOW_HEADERS)
        return 0;
    return brix_usage_edit(&flow->intake, edit);
}

void brix_flow_edited(brix_flow *flow, const brix_edit *edit)
{
    flow->body_length += edit->insert.length - edit->removed;
    flow->hides_usage = 1;
}

void brix_flow_edit_chunk(brix_flow *flow, brix_text chunk, brix_out *scratch, brix_action *action)
{
    brix_edit edit;
    uint64_t before = flow->body_length - chunk.length;
    if (!brix_flow_wants_edit(flow, &edit) || edit.at < before ||
        scratch->capacity - scratch->length < chunk.length + edit.insert.length)
        return;
    size_t from = scratch->length, at = (size_t)(edit.at - before), rest = at + edit.removed;
    brix_out_bytes(scratch, chunk.at, at);
    brix_out_text(scratch, edit.insert);
    brix_out_bytes(scratch, chunk.at + rest, chunk.length - rest);
    action->body_changed = 1;
    action->body = (brix_text){scratch->at + from, scratch->length - from};
    brix_flow_edited(flow, &edit);
}

int brix_flow_counts(const brix_flow *flow)
{
    return flow->stage == FLOW_HEADERS && flow->endpoint && brix_intake_counts(&flow->intake);
}
