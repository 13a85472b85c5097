#include "multipart.h"

enum { VALUE, DELIMITER, CLOSING, HEADERS, DONE, FAILED };
enum { PART_OTHER, PART_MODEL, PART_STREAM };

/* --- content types and dispositions ------------------------------------------------- */

/* The value of one parameter, quoted or not, to target; -1 when it breaks the grammar. */
static int read_value(brix_text *rest, char *target, size_t capacity)
{
    size_t length = 0, at = 0;
    int quoted = rest->length > 0 && rest->at[0] == '"', closed = !quoted;
    for (at = (size_t)quoted; at < rest->length; at++) {
        char byte = rest->at[at];
        if (quoted ? byte == '"' : byte == ';' || brix_is_blank(byte))
            break;
        if (quoted && byte == '\\' && at + 1 < rest->length)
            byte = rest->at[++at];
        if (length < capacity)
            target[length] = byte;
        length++;
    }
    if (quoted && at < rest->length)
        closed = (int)++at;
    *rest = (brix_text){rest->at + at, rest->length - at};
    return !closed || length > capacity || (!quoted && length == 0) ? -1 : (int)length;
}

/* Find a parameter in `; name=value; ...`. Its length, 0 when it is not there, -1 when the text breaks the grammar. */
static int find_parameter(brix_text rest, brix_text wanted, char *target, size_t capacity)
{
    char other[BRIX_BOUNDARY];
    int found = 0;
    for (rest = brix_text_trim(rest); rest.length > 0; rest = brix_text_trim(rest)) {
        if (rest.at[0] != ';')
            return -1;
        rest = brix_text_trim((brix_text){rest.at + 1, rest.length - 1});
        if (rest.length == 0)
            break;
        size_t stop = brix_text_find(rest, '=');
        brix_text name = {rest.at, stop};
        if (stop == rest.length || brix_text_find(name, ';') < stop)
            return -1;
        int is_wanted = brix_text_folds(brix_text_trim(name), wanted);
        rest = (brix_text){rest.at + stop + 1, rest.length - stop - 1};
        int length = read_value(&rest, is_wanted ? target : other, is_wanted ? capacity : sizeof other);
        if (length < 0)
            return -1;
        found = is_wanted ? length : found;
    }
    return found;
}

static brix_text media_type(brix_text content_type)
{
    return brix_text_trim((brix_text){content_type.at, brix_text_find(content_type, ';')});
}

void brix_form_type_of(brix_form *form, brix_text content_type)
{
    static const char head[] = "\n--";
    size_t capacity = BRIX_BOUNDARY - (sizeof head - 1), stop = brix_text_find(content_type, ';');
    form->type = BRIX_FORM_OTHER;
    if (!brix_text_starts(media_type(content_type), BRIX_LITERAL("multipart/")))
        return;
    memcpy(form->boundary, head, sizeof head - 1);
    int length = find_parameter((brix_text){content_type.at + stop, content_type.length - stop},
                                BRIX_LITERAL("boundary"), form->boundary + sizeof head - 1, capacity);
    form->type = length < 0 ? BRIX_FORM_UNREADABLE : length == 0 ? BRIX_FORM_NO_BOUNDARY : BRIX_FORM_FITS;
    form->boundary_length = (uint16_t)(length > 0 ? (size_t)length + sizeof head - 1 : 0);
}

static uint8_t part_of(brix_text value)
{
    char name[32];
    size_t stop = brix_text_find(value, ';');
    brix_text rest = {value.at + stop, value.length - stop};
    if (!brix_text_folds(media_type(value), BRIX_LITERAL("form-data")))
        return PART_OTHER;
    int length = find_parameter(rest, BRIX_LITERAL("name"), name, sizeof name);
    brix_text found = {name, length > 0 ? (size_t)length : 0};
    return brix_text_is(found, BRIX_LITERAL("model"))    ? PART_MODEL
           : brix_text_is(found, BRIX_LITERAL("stream")) ? PART_STREAM
                                                         : PART_OTHER;
}

/* --- the body ------------------------------------------------------------------------ */

void brix_form_begin(brix_form *form, char *model, size_t capacity)
{
    form->model = model;
    form->model_capacity = capacity;
    form->model_length = form->length = 0;
    form->stream_length = form->part = 0;
    form->matched = 1; /* the first boundary may stand at the very begin */
    form->state = form->type == BRIX_FORM_FITS ? VALUE : FAILED;
}

static void keep(brix_form *form, char byte)
{
    if (form->part == PART_MODEL && form->length < form->model_capacity)
        form->model[form->length] = byte;
    if (form->part == PART_STREAM && form->length < sizeof form->stream)
        form->stream[form->length] = byte;
    form->length++;
}

/* What was taken for value since the delimiter began is none. */
static void end_part(brix_form *form)
{
    size_t beyond = form->boundary_length;
    size_t length = form->length > beyond ? form->length - beyond : 0;
    if (form->part == PART_MODEL)
        form->model_length = length;
    if (form->part == PART_STREAM)
        form->stream_length = (uint8_t)(length <= sizeof form->stream ? length : 0);
    form->part = PART_OTHER;
    form->length = 0;
}

static const char *in_value(brix_form *form, const char *at, const char *end)
{
    if (form->matched == 0 && form->part == PART_OTHER) {
        at = memchr(at, '\n', (size_t)(end - at));
        if (!at)
            return end;
    }
    if (form->part != PART_OTHER)
        keep(form, *at);
    if (*at == form->boundary[form->matched])
        form->matched++;
    else
        form->matched = *at == '\n';
    if (form->matched == form->boundary_length)
        form->state = DELIMITER;
    return at + 1;
}

/* Behind a boundary stands a line's end, or two dashes; anything else was part of the value. */
static void behind_boundary(brix_form *form, char byte)
{
    if (byte == '-' && form->state == CLOSING) {
        end_part(form);
        form->state = DONE;
    } else if (byte == '-' && form->state == DELIMITER) {
        form->state = CLOSING;
    } else if (byte == '\n' && form->state == DELIMITER) {
        end_part(form);
        form->state = HEADERS;
        form->line_length = 0;
        form->header_bytes = 0;
    } else if (form->state != DELIMITER || (byte != ' ' && byte != '\t' && byte != '\r')) {
        form->state = VALUE;
        form->matched = byte == '\n';
    }
}

static void end_line(brix_form *form)
{
    brix_text line = brix_text_trim((brix_text){form->line, form->line_length});
    form->line_length = 0;
    if (line.length == 0) {
        form->state = VALUE;
        form->matched = 1; /* an empty value: the boundary follows at once */
        form->length = 0;
        return;
    }
    size_t colon = brix_text_find(line, ':');
    if (colon == line.length)
        form->state = FAILED;
    else if (brix_text_folds(brix_text_trim((brix_text){line.at, colon}), BRIX_LITERAL("content-disposition")))
        form->part = part_of(brix_text_trim((brix_text){line.at + colon + 1, line.length - colon - 1}));
}

static void in_headers(brix_form *form, char byte)
{
    if (++form->header_bytes > BRIX_PART_HEADERS)
        form->state = FAILED;
    else if (byte == '\n')
        end_line(form);
    else if (form->line_length < BRIX_PART_LINE)
        form->line[form->line_length++] = byte;
}

void brix_form_feed(brix_form *form, const char *bytes, size_t length)
{
    const char *at = bytes, *end = bytes + length;
    while (at < end && form->state != FAILED && form->state != DONE) {
        if (form->state == VALUE)
            at = in_value(form, at, end);
        else if (form->state == HEADERS)
            in_headers(form, *at++);
        else
            behind_boundary(form, *at++);
    }
}

int brix_form_is_complete(const brix_form *form)
{
    return form->state == DONE;
}

int brix_form_broke_in_model(const brix_form *form)
{
    return form->state <= CLOSING && form->part == PART_MODEL;
}

static brix_text kept(const char *at, size_t length, size_t capacity)
{
    return brix_text_trim((brix_text){at, length < capacity ? length : capacity});
}

brix_text brix_form_model(const brix_form *form)
{
    return kept(form->model, form->model_length, form->model_capacity);
}

int brix_form_streams(const brix_form *form)
{
    brix_text value = kept(form->stream, form->stream_length, sizeof form->stream);
    return brix_text_folds(value, BRIX_LITERAL("true")) || brix_text_is(value, BRIX_LITERAL("1"));
}
