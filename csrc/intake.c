#include "intake.h"

static void take_text(void *context, const char *bytes, size_t length)
{
    brix_intake *intake = context;
    int is_query = brix_scan_is_query(&intake->scan);
    uint64_t *sum = is_query ? &intake->query_bytes : &intake->text_bytes;
    brix_count *count = is_query ? &intake->query : &intake->count;
    *sum = bytes ? *sum + length : 0;
    if (intake->scan.watch)
        brix_embedding_bytes(&intake->embedding, bytes, length);
    if (!intake->counts_text)
        return;
    if (bytes)
        brix_count_feed(count, bytes, length);
    else
        brix_count_begin(count, intake->vocabulary, BRIX_COUNTED_TOKENS);
}

static void watch_input(void *context, const brix_scan *scan, uint32_t level, brix_kind kind, int ends)
{
    brix_embedding_watch(&((brix_intake *)context)->embedding, scan, level, kind, ends);
}

void brix_intake_type(brix_intake *intake, brix_text content_type)
{
    brix_form_type_of(&intake->form, content_type);
}

void brix_intake_begin(brix_intake *intake, const brix_endpoint *endpoint, char *model, size_t capacity,
                       const brix_vocabulary *vocabulary, int counts_text)
{
    int is_watched = endpoint->text == BRIX_TEXT_WATCHED;
    intake->endpoint = endpoint;
    intake->vocabulary = vocabulary;
    intake->counts_text = counts_text && !is_watched && endpoint->text != BRIX_TEXT_NONE;
    intake->text_bytes = intake->query_bytes = 0;
    brix_count_begin(&intake->count, vocabulary, BRIX_COUNTED_TOKENS);
    if (endpoint->text == BRIX_TEXT_DOCUMENTS)
        brix_count_begin(&intake->query, vocabulary, BRIX_COUNTED_TOKENS);
    if (endpoint->is_form) {
        brix_form_begin(&intake->form, model, capacity);
        return;
    }
    brix_scan_begin(&intake->scan, endpoint->text, model, capacity, take_text, intake);
    if (!is_watched)
        return;
    intake->scan.watch = watch_input;
    intake->embedding.count = &intake->count;
    brix_embedding_begin(&intake->embedding);
}

int brix_intake_counts(const brix_intake *intake)
{
    return intake->vocabulary && (intake->counts_text || intake->endpoint->text == BRIX_TEXT_WATCHED);
}

void brix_intake_feed(brix_intake *intake, brix_text chunk)
{
    if (intake->endpoint->is_form)
        brix_form_feed(&intake->form, chunk.at, chunk.length);
    else
        brix_scan_feed(&intake->scan, chunk.at, chunk.length);
}

int brix_intake_is_complete(const brix_intake *intake)
{
    return intake->endpoint->is_form ? brix_form_is_complete(&intake->form) : brix_scan_is_complete(&intake->scan);
}

brix_text brix_intake_model(const brix_intake *intake, size_t capacity)
{
    if (intake->endpoint->is_form)
        return brix_form_model(&intake->form);
    size_t length = intake->scan.model_length;
    if (intake->scan.found[BRIX_FIELD_MODEL].kind != BRIX_STRING)
        length = 0;
    return (brix_text){intake->scan.model, length < capacity ? length : capacity};
}

int brix_intake_streams(const brix_intake *intake)
{
    if (intake->endpoint->is_form)
        return brix_form_streams(&intake->form);
    return brix_endpoint_streams(intake->endpoint, &intake->scan);
}

void brix_intake_features(brix_intake *intake, brix_request *request)
{
    if (brix_intake_counts(intake)) {
        request->prompt_tokens = intake->scan.watch ? intake->embedding.total : brix_count_end(&intake->count);
        if (intake->endpoint->text == BRIX_TEXT_DOCUMENTS)
            request->prompt_tokens += brix_count_end(&intake->query);
        request->knows |= 1;
    }
    if (!intake->endpoint->is_form && brix_scan_max_tokens(&intake->scan, &request->max_tokens))
        request->knows |= 2;
}

static int refuse_form(brix_fault *fault, brix_text message, brix_text param)
{
    *fault = (brix_fault){message, param, BRIX_LITERAL("x-error-multipart-parsing")};
    return 1;
}

static int faults_form(const brix_intake *intake, brix_fault *fault)
{
    const brix_form *form = &intake->form;
    const brix_text model = BRIX_LITERAL("model");
    if (form->type == BRIX_FORM_OTHER) {
        *fault = (brix_fault){BRIX_LITERAL("audio requests must use multipart/form-data content-type"), BRIX_NOTHING,
                              BRIX_BODY_MARKER};
        return 1;
    }
    if (form->type == BRIX_FORM_UNREADABLE)
        return refuse_form(fault, BRIX_LITERAL("invalid content-type header"), BRIX_NOTHING);
    if (form->type == BRIX_FORM_NO_BOUNDARY)
        return refuse_form(fault, BRIX_LITERAL("missing boundary in content-type"), BRIX_NOTHING);
    if (brix_form_broke_in_model(form))
        return refuse_form(fault, BRIX_LITERAL("failed to read model field"), model);
    if (!brix_form_is_complete(form))
        return refuse_form(fault, BRIX_LITERAL("failed to parse multipart form"), BRIX_NOTHING);
    if (brix_form_model(form).length == 0)
        return refuse_form(fault, BRIX_LITERAL("'model' is a required property"), model);
    return 0;
}

int brix_intake_faults(brix_intake *intake, brix_fault *fault)
{
    brix_text message;
    int of_input = 0;
    if (intake->endpoint->is_form)
        return faults_form(intake, fault);
    if (brix_endpoint_faults(intake->endpoint, &intake->scan, fault))
        return 1;
    if (!intake->scan.watch || !brix_embedding_faults(&intake->embedding, &message, &of_input))
        return 0;
    *fault = (brix_fault){message, of_input ? BRIX_LITERAL("input") : BRIX_NOTHING, BRIX_BODY_MARKER};
    return 1;
}
