#include "embeddings.h"

enum { NO_FAULT, EMPTY, TOO_LONG, NO_TOKENS, TOO_MANY_TOKENS, TOO_MANY_DIMENSIONS, LACKS_MEMBER, NOTHING_SET, UNKNOWN };
enum { TEXTS = 1, INTEGERS = 2, LISTS = 4, PARTS = 8 };
enum { TEXT, IMAGE_URL, IMAGE, VIDEO_URL, VIDEO, MEMBERS };

static const brix_text NAMES[MEMBERS] = {
    [TEXT] = {"text", 4},           [IMAGE_URL] = {"image_url", 9}, [IMAGE] = {"image", 5},
    [VIDEO_URL] = {"video_url", 9}, [VIDEO] = {"video", 5},
};

void brix_embedding_begin(brix_embedding *embedding)
{
    *embedding = (brix_embedding){.count = embedding->count};
}

/* The first one counts; the element at work is the last one that was begun. */
static void note(brix_embedding *embedding, uint8_t what, uint64_t number)
{
    if (embedding->fault.what == NO_FAULT)
        embedding->fault = (brix_input_fault){
            .what = what, .index = embedding->elements ? embedding->elements - 1 : 0, .number = number};
}

/* --- texts ---------------------------------------------------------------------------- */

static void begin_text(brix_embedding *embedding)
{
    embedding->is_text = 1;
    embedding->bytes = embedding->tokens = 0;
    brix_count_begin(embedding->count, embedding->count->vocabulary, BRIX_EMBEDDING_TOKENS);
}

/* What is refused anyhow is not counted. */
static int counts(const brix_embedding *embedding)
{
    return embedding->fault.what == NO_FAULT && embedding->total <= BRIX_EMBEDDING_TOTAL && !embedding->unreadable;
}

static void end_text(brix_embedding *embedding)
{
    embedding->is_text = 0;
    embedding->tokens = counts(embedding) ? brix_count_end(embedding->count) : 0;
    embedding->total += embedding->tokens;
    if (embedding->bytes == 0)
        note(embedding, EMPTY, 0);
    else if (embedding->tokens > BRIX_EMBEDDING_TOKENS)
        note(embedding, TOO_LONG, embedding->tokens);
}

void brix_embedding_bytes(brix_embedding *embedding, const char *bytes, size_t length)
{
    if (embedding->is_type) {
        size_t room = sizeof embedding->type - embedding->type_length;
        embedding->type_length += (uint8_t)brix_text_copy(embedding->type + embedding->type_length, room,
                                                          (brix_text){bytes, length});
    }
    if (!embedding->is_text)
        return;
    embedding->bytes += length;
    if (counts(embedding))
        brix_count_feed(embedding->count, bytes, length);
}

/* --- token arrays ----------------------------------------------------------------------- */

static void check_tokens(brix_embedding *embedding, uint32_t count)
{
    embedding->total += count;
    if (count == 0)
        note(embedding, NO_TOKENS, 0);
    else if (count > BRIX_EMBEDDING_TOKENS)
        note(embedding, TOO_MANY_TOKENS, count);
    else if (count > BRIX_EMBEDDING_DIMENSIONS)
        note(embedding, TOO_MANY_DIMENSIONS, count);
}

/* --- parts ------------------------------------------------------------------------------ */

static int member_of(brix_text name)
{
    for (int i = 0; i < MEMBERS; i++)
        if (brix_text_is(NAMES[i], name))
            return i;
    return MEMBERS;
}

/* What a part is: its type, or what is set in it. */
static int kind_of_part(const brix_embedding *embedding)
{
    if (embedding->type_length > 0)
        return member_of((brix_text){embedding->type, embedding->type_length});
    return embedding->set >> TEXT & 1 ? TEXT : embedding->set >> IMAGE & 1 ? IMAGE : VIDEO;
}

static void end_part(brix_embedding *embedding)
{
    int kind = kind_of_part(embedding);
    unsigned inferred = 1u << TEXT | 1u << IMAGE | 1u << VIDEO;
    if (embedding->elements == 1 && !embedding->has_type && embedding->set == 0)
        embedding->unreadable = 1;
    else if (embedding->type_length == 0 && (embedding->set & inferred) == 0)
        note(embedding, NOTHING_SET, 0);
    else if (kind == MEMBERS) {
        note(embedding, UNKNOWN, 0);
        memcpy(embedding->fault.type, embedding->type, sizeof embedding->type);
        embedding->fault.type_length = embedding->type_length;
    } else if (kind == TEXT && !(embedding->set >> TEXT & 1)) {
        note(embedding, EMPTY, 0);
    } else if (!(embedding->set >> kind & 1)) {
        note(embedding, LACKS_MEMBER, 0);
        embedding->fault.field = (uint8_t)kind;
    }
}

static void begin_member(brix_embedding *embedding, brix_text name, brix_kind kind)
{
    int member = member_of(name);
    if (kind == BRIX_NULL)
        return;
    if (brix_text_is(name, BRIX_LITERAL("type"))) {
        embedding->has_type = 1;
        embedding->type_length = 0;
        embedding->is_type = kind == BRIX_STRING;
        embedding->unreadable |= kind != BRIX_STRING;
        return;
    }
    if (member == MEMBERS)
        return;
    embedding->set |= (uint16_t)(1u << member);
    embedding->unreadable |= kind != BRIX_STRING && (member == TEXT || kind != BRIX_OBJECT);
    if (member == TEXT && kind == BRIX_STRING)
        begin_text(embedding);
}

/* --- the three levels --------------------------------------------------------------------- */

static void begin_element(brix_embedding *embedding, brix_kind kind)
{
    embedding->elements++;
    embedding->inner = 0;
    if (kind == BRIX_STRING || kind == BRIX_NULL) {
        embedding->shapes |= TEXTS;
        begin_text(embedding);
    } else if (kind == BRIX_NUMBER) {
        embedding->shapes |= INTEGERS;
    } else if (kind == BRIX_ARRAY) {
        embedding->shapes |= LISTS;
    } else if (kind == BRIX_OBJECT) {
        embedding->shapes |= PARTS;
        embedding->set = embedding->has_type = embedding->type_length = 0;
    } else {
        embedding->unreadable = 1;
    }
}

static void end_element(brix_embedding *embedding, const brix_scan *scan)
{
    if (embedding->shapes == TEXTS)
        end_text(embedding);
    else if (embedding->shapes == INTEGERS)
        embedding->unreadable |= !brix_scan_is_integer(scan);
    else if (embedding->shapes == LISTS)
        check_tokens(embedding, embedding->inner);
    else if (embedding->shapes == PARTS)
        end_part(embedding);
}

static void begin_whole(brix_embedding *embedding, brix_kind kind)
{
    brix_embedding_begin(embedding);
    embedding->kind = (uint8_t)kind;
    if (kind == BRIX_STRING)
        begin_text(embedding);
    else if (kind != BRIX_NULL && kind != BRIX_ARRAY)
        embedding->unreadable = 1;
}

static void end_whole(brix_embedding *embedding)
{
    unsigned shapes = embedding->shapes;
    if (embedding->kind == BRIX_STRING)
        end_text(embedding);
    else if ((shapes & (shapes - 1)) != 0)
        embedding->unreadable = 1;
    else if (shapes == INTEGERS)
        check_tokens(embedding, embedding->elements);
}

static void in_element(brix_embedding *embedding, const brix_scan *scan, brix_kind kind, int ends)
{
    int is_list = embedding->shapes == LISTS;
    if (is_list && ends) {
        embedding->unreadable |= !brix_scan_is_integer(scan);
    } else if (is_list) {
        embedding->inner++;
        embedding->unreadable |= kind != BRIX_NUMBER;
    } else if (!ends) {
        begin_member(embedding, brix_scan_key(scan), kind);
    } else {
        embedding->is_type = 0;
        if (embedding->is_text)
            end_text(embedding);
    }
}

void brix_embedding_watch(brix_embedding *embedding, const brix_scan *scan, uint32_t level, brix_kind kind, int ends)
{
    if (level == 1 && !ends)
        begin_whole(embedding, kind);
    else if (level == 1)
        end_whole(embedding);
    else if (embedding->kind != BRIX_ARRAY)
        return;
    else if (level == 2 && !ends)
        begin_element(embedding, kind);
    else if (level == 2)
        end_element(embedding, scan);
    else
        in_element(embedding, scan, kind, ends);
}

/* --- what is said of it -------------------------------------------------------------------- */

static void say(brix_out *out, const char *words)
{
    brix_out_bytes(out, words, strlen(words));
}

/* "input at index 3", or the plain word where there is but one. */
static void say_which(brix_out *out, const brix_embedding *embedding, const char *word)
{
    int alone = embedding->kind == BRIX_STRING || embedding->shapes == INTEGERS ||
                (embedding->shapes == TEXTS && embedding->elements == 1);
    say(out, word);
    if (alone)
        return;
    say(out, " at index ");
    brix_out_number(out, embedding->fault.index);
}

static void say_number(brix_out *out, const char *words, uint64_t number)
{
    say(out, words);
    brix_out_number(out, number);
}

static void say_fault(brix_out *out, const brix_embedding *embedding)
{
    const brix_input_fault *fault = &embedding->fault;
    int of_tokens = fault->what == NO_TOKENS || fault->what == TOO_MANY_TOKENS || fault->what == TOO_MANY_DIMENSIONS;
    say_which(out, embedding, of_tokens ? "token array" : "input");
    switch (fault->what) {
    case EMPTY:
        return say(out, " cannot be an empty string");
    case TOO_LONG:
        return say_number(out, " exceeds max tokens per model (8192), estimated tokens: ", fault->number);
    case NO_TOKENS:
        return say(out, " cannot be empty");
    case TOO_MANY_TOKENS:
        return say_number(out, " exceeds max tokens per model (8192), actual tokens: ", fault->number);
    case TOO_MANY_DIMENSIONS:
        return say_number(out, " exceeds max dimensions (2048), actual dimensions: ", fault->number);
    case LACKS_MEMBER:
        say(out, " is missing ");
        return brix_out_text(out, NAMES[fault->field]);
    case NOTHING_SET:
        return say(out, " must set one of text, image, or video");
    default:
        say(out, " has unsupported content type \"");
        brix_out_text(out, (brix_text){fault->type, fault->type_length});
        say(out, "\"");
    }
}

int brix_embedding_faults(brix_embedding *embedding, brix_text *message, int *of_input)
{
    brix_out out = {embedding->message, 0, sizeof embedding->message, 0};
    *of_input = !embedding->unreadable;
    if (embedding->unreadable)
        say(&out, "error processing request body");
    else if (embedding->kind == BRIX_ARRAY && embedding->elements == 0)
        say(&out, "input array cannot be empty");
    else if (embedding->fault.what != NO_FAULT)
        say_fault(&out, embedding);
    else if (embedding->total > BRIX_EMBEDDING_TOTAL)
        say_number(&out, embedding->shapes == LISTS || embedding->shapes == INTEGERS
                             ? "total tokens across all inputs exceeds maximum (300000), actual total: "
                             : "total tokens across all inputs exceeds maximum (300000), estimated total: ",
                   embedding->total);
    *message = (brix_text){out.at, out.length};
    return out.length > 0;
}
