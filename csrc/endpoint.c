#include "endpoint.h"

#define KIND(kind) (1u << (kind))
#define NONE (KIND(BRIX_ABSENT) | KIND(BRIX_NULL))
#define BOOLEAN (KIND(BRIX_TRUE) | KIND(BRIX_FALSE))
#define UNREADABLE "error processing request body"

#define SAME {NULL, 0}

static const brix_endpoint TABLE[BRIX_ENDPOINTS] = {
    {BRIX_CHAT, {"/v1/chat/completions", 20}, BRIX_TEXT_MESSAGES, 1, 1, 0, SAME},
    {BRIX_MESSAGES, {"/v1/messages", 12}, BRIX_TEXT_MESSAGES, 1, 1, 0, SAME},
    {BRIX_COMPLETIONS, {"/v1/completions", 15}, BRIX_TEXT_PROMPT, 1, 1, 0, SAME},
    {BRIX_RESPONSES, {"/v1/responses", 13}, BRIX_TEXT_ITEMS, 1, 1, 0, SAME},
    {BRIX_EMBEDDINGS, {"/v1/embeddings", 14}, BRIX_TEXT_WATCHED, 0, 1, 0, SAME},
    {BRIX_RERANK, {"/v1/rerank", 10}, BRIX_TEXT_DOCUMENTS, 0, 1, 0, SAME},
    {BRIX_CLASSIFY, {"/v1/classify", 12}, BRIX_TEXT_INPUT, 0, 1, 0, SAME},
    {BRIX_IMAGES, {"/v1/images/generations", 22}, BRIX_TEXT_NONE, 0, 0, 0, {"/generate", 9}},
    {BRIX_VIDEO, {"/v1/video/generations", 21}, BRIX_TEXT_NONE, 0, 0, 0, {"/generatevideo", 14}},
    {BRIX_TRANSCRIPTIONS, {"/v1/audio/transcriptions", 24}, BRIX_TEXT_NONE, 1, 0, 1, SAME},
    {BRIX_TRANSLATIONS, {"/v1/audio/translations", 22}, BRIX_TEXT_NONE, 1, 0, 1, SAME},
};

const brix_endpoint *brix_endpoint_find(brix_text path)
{
    path.length = brix_text_find(path, '?');
    if (path.length > 1 && path.at[path.length - 1] == '/')
        path.length--;
    for (int i = 0; i < BRIX_ENDPOINTS; i++)
        if (brix_text_is(path, TABLE[i].path))
            return &TABLE[i];
    return NULL;
}

static int is_one_of(const brix_scan *scan, brix_field field, unsigned kinds)
{
    return (kinds >> scan->found[field].kind & 1) != 0;
}

static int has_only(const brix_scan *scan, brix_field field, unsigned kinds)
{
    return (scan->found[field].elements & ~kinds) == 0;
}

static int is_filled_string(const brix_scan *scan, brix_field field)
{
    return scan->found[field].kind == BRIX_STRING && scan->found[field].filled;
}

static int refuse(brix_fault *fault, brix_text message, brix_text param)
{
    *fault = (brix_fault){message, param, BRIX_BODY_MARKER};
    return 1;
}

static int unreadable(brix_fault *fault)
{
    return refuse(fault, BRIX_LITERAL(UNREADABLE), BRIX_NOTHING);
}

static int lacks(brix_fault *fault, const brix_scan *scan, brix_field field, brix_text message, brix_text param)
{
    return is_filled_string(scan, field) ? 0 : refuse(fault, message, param);
}

static int lacks_model(const brix_scan *scan, brix_fault *fault)
{
    return lacks(fault, scan, BRIX_FIELD_MODEL, BRIX_LITERAL("'model' is a required property"), BRIX_LITERAL("model"));
}

static int faults_messages(const brix_scan *scan, brix_fault *fault)
{
    if (!is_one_of(scan, BRIX_FIELD_MESSAGES, NONE | KIND(BRIX_ARRAY)) ||
        !has_only(scan, BRIX_FIELD_MESSAGES, KIND(BRIX_OBJECT)))
        return unreadable(fault);
    if (scan->found[BRIX_FIELD_MESSAGES].filled)
        return 0;
    return refuse(fault, BRIX_LITERAL("no messages in the request body"), BRIX_LITERAL("messages"));
}

/* A string, strings, token ids, or lists of token ids; never a mixture. */
static int faults_prompt(const brix_scan *scan, brix_fault *fault)
{
    const brix_found *prompt = &scan->found[BRIX_FIELD_PROMPT];
    if (!is_one_of(scan, BRIX_FIELD_PROMPT, NONE | KIND(BRIX_STRING) | KIND(BRIX_ARRAY)))
        return unreadable(fault);
    int strings = prompt->elements == KIND(BRIX_STRING), numbers = prompt->elements == KIND(BRIX_NUMBER);
    int lists = prompt->elements == KIND(BRIX_ARRAY) && (prompt->inner & ~KIND(BRIX_NUMBER)) == 0;
    return prompt->elements == 0 || strings || numbers || lists ? 0 : unreadable(fault);
}

static int faults_items(const brix_scan *scan, brix_fault *fault)
{
    const brix_text input = BRIX_LITERAL("input");
    if (lacks_model(scan, fault))
        return 1;
    if (is_one_of(scan, BRIX_FIELD_INPUT, NONE))
        return refuse(fault, BRIX_LITERAL("'input' is a required property"), input);
    if (is_one_of(scan, BRIX_FIELD_INPUT, KIND(BRIX_STRING)))
        return 0;
    if (!is_one_of(scan, BRIX_FIELD_INPUT, KIND(BRIX_ARRAY)) || !has_only(scan, BRIX_FIELD_INPUT, KIND(BRIX_OBJECT)))
        return refuse(fault, BRIX_LITERAL("'input' must be a string or an array of input items"), input);
    return scan->found[BRIX_FIELD_INPUT].filled ? 0 : refuse(fault, BRIX_LITERAL("'input' array cannot be empty"), input);
}

/* The shape of the input is looked at while it passes: embeddings.h. */
static int faults_embeddings(const brix_scan *scan, brix_fault *fault)
{
    if (is_one_of(scan, BRIX_FIELD_STREAM, KIND(BRIX_ABSENT) | KIND(BRIX_FALSE)))
        return 0;
    return refuse(fault, BRIX_LITERAL("stream not supported for embeddings"), BRIX_LITERAL("stream"));
}

static int faults_rerank(const brix_scan *scan, brix_fault *fault)
{
    if (!is_one_of(scan, BRIX_FIELD_QUERY, NONE | KIND(BRIX_STRING)) ||
        !is_one_of(scan, BRIX_FIELD_DOCUMENTS, NONE | KIND(BRIX_ARRAY)) ||
        !has_only(scan, BRIX_FIELD_DOCUMENTS, KIND(BRIX_STRING) | KIND(BRIX_OBJECT)))
        return unreadable(fault);
    if (lacks_model(scan, fault))
        return 1;
    if (lacks(fault, scan, BRIX_FIELD_QUERY, BRIX_LITERAL("'query' is a required property"), BRIX_LITERAL("query")))
        return 1;
    if (scan->found[BRIX_FIELD_DOCUMENTS].filled)
        return 0;
    return refuse(fault, BRIX_LITERAL("'documents' is a required property and cannot be empty"),
                  BRIX_LITERAL("documents"));
}

static int faults_classify(const brix_scan *scan, brix_fault *fault)
{
    const brix_text input = BRIX_LITERAL("input");
    if (lacks_model(scan, fault))
        return 1;
    if (is_one_of(scan, BRIX_FIELD_INPUT, NONE))
        return refuse(fault, BRIX_LITERAL("'input' is a required property"), input);
    if (!is_one_of(scan, BRIX_FIELD_INPUT, KIND(BRIX_STRING) | KIND(BRIX_ARRAY)) ||
        !has_only(scan, BRIX_FIELD_INPUT, KIND(BRIX_STRING)))
        return refuse(fault, BRIX_LITERAL("'input' must be a string or array of strings"), input);
    if (scan->found[BRIX_FIELD_INPUT].filled)
        return 0;
    if (is_one_of(scan, BRIX_FIELD_INPUT, KIND(BRIX_STRING)))
        return refuse(fault, BRIX_LITERAL("'input' cannot be an empty string"), input);
    return refuse(fault, BRIX_LITERAL("'input' array cannot be empty"), input);
}

int brix_endpoint_faults(const brix_endpoint *endpoint, const brix_scan *scan, brix_fault *fault)
{
    if (!brix_scan_is_complete(scan) || !is_one_of(scan, BRIX_FIELD_MODEL, NONE | KIND(BRIX_STRING)))
        return unreadable(fault);
    if (endpoint->streams && !is_one_of(scan, BRIX_FIELD_STREAM, NONE | BOOLEAN))
        return unreadable(fault);
    switch (endpoint->id) {
    case BRIX_CHAT:
    case BRIX_MESSAGES:
        return faults_messages(scan, fault);
    case BRIX_COMPLETIONS:
        return faults_prompt(scan, fault);
    case BRIX_RESPONSES:
        return faults_items(scan, fault);
    case BRIX_EMBEDDINGS:
        return faults_embeddings(scan, fault);
    case BRIX_RERANK:
        return faults_rerank(scan, fault);
    case BRIX_CLASSIFY:
        return faults_classify(scan, fault);
    default:
        return 0;
    }
}

int brix_endpoint_streams(const brix_endpoint *endpoint, const brix_scan *scan)
{
    return endpoint->streams && scan->found[BRIX_FIELD_STREAM].kind == BRIX_TRUE;
}
