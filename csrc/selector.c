#include "selector.h"

#define NAME_LIMIT 63
#define PREFIX_LIMIT 253

static int is_alnum(char byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
}

/* Letters and digits at both ends, and - _ . between. */
static int is_name(brix_text text, size_t limit)
{
    if (text.length == 0 || text.length > limit)
        return 0;
    if (!is_alnum(text.at[0]) || !is_alnum(text.at[text.length - 1]))
        return 0;
    for (size_t i = 0; i < text.length; i++)
        if (!is_alnum(text.at[i]) && text.at[i] != '-' && text.at[i] != '_' && text.at[i] != '.')
            return 0;
    return 1;
}

static int is_key(brix_text text)
{
    size_t slash = brix_text_find(text, '/');
    if (slash == text.length)
        return is_name(text, NAME_LIMIT);
    return is_name((brix_text){text.at, slash}, PREFIX_LIMIT) &&
           is_name((brix_text){text.at + slash + 1, text.length - slash - 1}, NAME_LIMIT);
}

static int is_value(brix_text text)
{
    return text.length == 0 || is_name(text, NAME_LIMIT);
}

static void skip_blanks(brix_text *rest)
{
    while (rest->length > 0 && brix_is_blank(rest->at[0])) {
        rest->at++;
        rest->length--;
    }
}

static int takes(brix_text *rest, const char *mark)
{
    size_t length = strlen(mark);
    skip_blanks(rest);
    if (rest->length < length || memcmp(rest->at, mark, length) != 0)
        return 0;
    rest->at += length;
    rest->length -= length;
    return 1;
}

static brix_text take_word(brix_text *rest)
{
    skip_blanks(rest);
    brix_text word = {rest->at, 0};
    while (rest->length > 0 && !brix_is_blank(rest->at[0]) && !memchr("(),!=", rest->at[0], 5)) {
        rest->at++;
        rest->length--;
        word.length++;
    }
    return word;
}

static int add_value(brix_selector *selector, brix_requirement *requirement, brix_text value)
{
    if (selector->values == BRIX_SELECTOR_VALUES || !is_value(value))
        return 0;
    selector->value[selector->values++] = value;
    requirement->count++;
    return 1;
}

static int parse_set(brix_selector *selector, brix_requirement *requirement, brix_text *rest)
{
    if (!takes(rest, "("))
        return 0;
    do {
        if (!add_value(selector, requirement, take_word(rest)))
            return 0;
    } while (takes(rest, ","));
    return takes(rest, ")");
}

static int parse_after_key(brix_selector *selector, brix_requirement *requirement, brix_text *rest)
{
    if (takes(rest, "!=")) {
        requirement->operator= BRIX_SELECT_NOT_IN;
        return add_value(selector, requirement, take_word(rest));
    }
    if (takes(rest, "==") || takes(rest, "=")) {
        requirement->operator= BRIX_SELECT_IN;
        return add_value(selector, requirement, take_word(rest));
    }
    brix_text word = take_word(rest);
    if (word.length == 0) {
        requirement->operator= BRIX_SELECT_EXISTS;
        return 1;
    }
    int outside = brix_text_is(word, BRIX_LITERAL("notin"));
    if (!outside && !brix_text_is(word, BRIX_LITERAL("in")))
        return 0;
    requirement->operator= outside ? BRIX_SELECT_NOT_IN : BRIX_SELECT_IN;
    return parse_set(selector, requirement, rest);
}

static int parse_requirement(brix_selector *selector, brix_text *rest)
{
    if (selector->requirements == BRIX_SELECTOR_REQUIREMENTS)
        return 0;
    brix_requirement *requirement = &selector->requirement[selector->requirements++];
    *requirement = (brix_requirement){.first = (uint16_t)selector->values};
    int absent = takes(rest, "!");
    requirement->key = take_word(rest);
    if (!is_key(requirement->key))
        return 0;
    if (!absent)
        return parse_after_key(selector, requirement, rest);
    requirement->operator= BRIX_SELECT_ABSENT;
    return 1;
}

int brix_selector_parse(brix_text text, brix_selector *selector)
{
    brix_text rest = brix_text_trim(text);
    selector->requirements = selector->values = 0;
    if (rest.length == 0)
        return 1;
    do {
        if (!parse_requirement(selector, &rest))
            return 0;
    } while (takes(&rest, ","));
    return rest.length == 0;
}

/* The value of a label, at NULL when the pod lacks it. */
static brix_text label_value(brix_text labels, brix_text key)
{
    brix_text rest = labels, name, value;
    while (brix_text_cut(&rest, 0, &name) && brix_text_cut(&rest, 0, &value))
        if (brix_text_is(name, key))
            return value;
    return BRIX_NOTHING;
}

static int is_among(const brix_selector *selector, const brix_requirement *requirement, brix_text value)
{
    for (uint32_t i = 0; i < requirement->count; i++)
        if (brix_text_is(selector->value[requirement->first + i], value))
            return 1;
    return 0;
}

static int holds(const brix_selector *selector, const brix_requirement *requirement, brix_text labels)
{
    brix_text value = label_value(labels, requirement->key);
    switch (requirement->operator) {
    case BRIX_SELECT_EXISTS:
        return value.at != NULL;
    case BRIX_SELECT_ABSENT:
        return value.at == NULL;
    case BRIX_SELECT_IN:
        return value.at != NULL && is_among(selector, requirement, value);
    default:
        return value.at == NULL || !is_among(selector, requirement, value);
    }
}

int brix_selector_matches(const brix_selector *selector, brix_text labels)
{
    for (uint32_t i = 0; i < selector->requirements; i++)
        if (!holds(selector, &selector->requirement[i], labels))
            return 0;
    return 1;
}
