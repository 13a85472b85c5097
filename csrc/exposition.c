/*
 * Prometheus text, read for just the families that routing needs.
 *
 *   vllm:num_requests_running{engine="0",model_name="m"} 2.0 1700000000000
 *   '---- name -------------' '------- labels ---------' 'value' 'time, ignored'
 *
 * Series of one family are added up, usages averaged. Where a page has series of the model asked for, those of
 * other models are left out. Of two names of one thing the better one counts and never both.
 */
#include <math.h>
#include <stdlib.h>

#include "text.h"

typedef struct {
    brix_text name;
    brix_metric metric;
    brix_text stage; /* value of the label stage; empty: whatever */
} family;

#define NAME(words) {(words), sizeof(words) - 1}
#define FAMILY(words, metric) {NAME(words), BRIX_METRIC_##metric, {NULL, 0}}
#define STAGE(words, metric, stage) {NAME(words), BRIX_METRIC_##metric, NAME(stage)}

/* For each metric the best name first: by engine, then the newer one, then one without a prefix. */
static const family FAMILIES[] = {
    FAMILY("vllm:num_requests_running", RUNNING),
    FAMILY("sglang:num_running_reqs", RUNNING),
    FAMILY("trtllm_num_requests_running", RUNNING),
    FAMILY("vllm:num_requests_waiting", WAITING),
    FAMILY("sglang:num_queue_reqs", WAITING),
    FAMILY("trtllm_num_requests_waiting", WAITING),
    FAMILY("vllm:kv_cache_usage_perc", KV_CACHE),
    FAMILY("sglang:token_usage", KV_CACHE),
    FAMILY("trtllm_kv_cache_utilization", KV_CACHE),
    FAMILY("kv_cache_utilization", KV_CACHE),
    FAMILY("vllm:gpu_cache_usage_perc", GPU_CACHE),
    FAMILY("vllm:cpu_cache_usage_perc", CPU_CACHE),
    FAMILY("engine_utilization", UTILIZATION),
    FAMILY("sglang:gen_throughput", GENERATION_RATE),
    FAMILY("vllm:avg_generation_throughput_toks_per_s", GENERATION_RATE),
    FAMILY("vllm:prompt_tokens_total", PROMPT_TOKENS),
    FAMILY("sglang:prompt_tokens_total", PROMPT_TOKENS),
    FAMILY("vllm:generation_tokens_total", GENERATION_TOKENS),
    FAMILY("sglang:generation_tokens_total", GENERATION_TOKENS),
    FAMILY("vllm:request_success_total", FINISHED),
    FAMILY("vllm:num_requests_success_total", FINISHED),
    FAMILY("sglang:num_requests_total", FINISHED),
    FAMILY("trtllm_request_success_total", FINISHED),
    FAMILY("request_success_total", FINISHED),
    FAMILY("vllm:request_queue_time_seconds", QUEUE_TIME),
    STAGE("sglang:per_stage_req_latency_seconds", QUEUE_TIME, "prefill_waiting"),
    FAMILY("trtllm_request_queue_time_seconds", QUEUE_TIME),
    FAMILY("request_queue_time_seconds", QUEUE_TIME),
    FAMILY("vllm:request_prefill_time_seconds", PREFILL_TIME),
    STAGE("sglang:per_stage_req_latency_seconds", PREFILL_TIME, "prefill_forward"),
    FAMILY("vllm:request_decode_time_seconds", DECODE_TIME),
    FAMILY("vllm:request_prompt_tokens", PROMPT_LENGTH),
    FAMILY("vllm:request_generation_tokens", GENERATION_LENGTH),
    FAMILY("vllm:time_to_first_token_seconds", FIRST_TOKEN_TIME),
    FAMILY("sglang:time_to_first_token_seconds", FIRST_TOKEN_TIME),
    FAMILY("trtllm_time_to_first_token_seconds", FIRST_TOKEN_TIME),
    FAMILY("time_to_first_token_seconds", FIRST_TOKEN_TIME),
    FAMILY("vllm:inter_token_latency_seconds", TOKEN_TIME),
    FAMILY("vllm:time_per_output_token_seconds", TOKEN_TIME),
    FAMILY("sglang:inter_token_latency_seconds", TOKEN_TIME),
    FAMILY("sglang:time_per_output_token_seconds", TOKEN_TIME),
    FAMILY("trtllm_time_per_output_token_seconds", TOKEN_TIME),
    FAMILY("time_per_output_token_seconds", TOKEN_TIME),
    FAMILY("vllm:e2e_request_latency_seconds", REQUEST_TIME),
    FAMILY("sglang:e2e_request_latency_seconds", REQUEST_TIME),
    FAMILY("trtllm_e2e_request_latency_seconds", REQUEST_TIME),
    FAMILY("e2e_request_latency_seconds", REQUEST_TIME),
};
#define COUNT (sizeof FAMILIES / sizeof FAMILIES[0])

enum { SUM, TALLY, PARTS }; /* of a histogram; a plain value is its sum */

typedef struct {
    double sum[PARTS];
    uint32_t series[PARTS];
} heap;

typedef struct {
    const brix_scrape *scrape;
    uint32_t samples; /* lines that were samples, of any family */
    heap all[COUNT];
    heap own[COUNT]; /* of the model asked for */
} page;

typedef struct {
    int is_own;
    int is_other_rank;
    brix_text stage;
} labels;

static int is_histogram(brix_metric metric)
{
    return metric >= BRIX_METRIC_QUEUE_TIME;
}

static int is_name_start(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || byte == '_' || byte == ':';
}

static int is_name(char byte)
{
    return is_name_start(byte) || (byte >= '0' && byte <= '9');
}

static brix_text after_blanks(brix_text rest)
{
    while (rest.length > 0 && (rest.at[0] == ' ' || rest.at[0] == '\t')) {
        rest.at++;
        rest.length--;
    }
    return rest;
}

static brix_text from(brix_text rest, size_t count)
{
    return (brix_text){rest.at + count, rest.length - count};
}

/* The next word; rest is what follows it. */
static brix_text word(brix_text *rest)
{
    *rest = after_blanks(*rest);
    size_t length = 0;
    while (length < rest->length && rest->at[length] != ' ' && rest->at[length] != '\t')
        length++;
    brix_text found = {rest->at, length};
    *rest = from(*rest, length);
    return found;
}

static int is_word_number(brix_text text)
{
    if (text.length && (text.at[0] == '+' || text.at[0] == '-'))
        text = from(text, 1);
    return brix_text_folds(text, BRIX_LITERAL("nan")) || brix_text_folds(text, BRIX_LITERAL("inf")) ||
           brix_text_folds(text, BRIX_LITERAL("infinity"));
}

/* 1 and the value when text is a number as Prometheus writes them. */
static int number(brix_text text, double *value)
{
    char copy[64], *end;
    if (text.length == 0 || text.length >= sizeof copy)
        return 0;
    for (size_t i = 0; i < text.length && !is_word_number(text); i++)
        if (!strchr("0123456789+-.eE", text.at[i]) || text.at[i] == 0)
            return 0;
    memcpy(copy, text.at, text.length);
    copy[text.length] = 0;
    *value = strtod(copy, &end);
    return end == copy + text.length;
}

/* Value and, maybe, a time or an exemplar. */
static int value_of(brix_text rest, double *value)
{
    double time;
    if (!number(word(&rest), value))
        return 0;
    brix_text last = word(&rest);
    return last.length == 0 || last.at[0] == '#' || (number(last, &time) && word(&rest).length == 0);
}

/* Length of a quoted value with its closing quote, text beginning behind the opening one; 0: it has none. */
static size_t quoted(brix_text text)
{
    for (size_t i = 0; i < text.length; i++) {
        if (text.at[i] == '"')
            return i + 1;
        if (text.at[i] == '\\')
            i++;
    }
    return 0;
}

/* A label's value, escaped, against a plain text. */
static int means(brix_text escaped, brix_text plain)
{
    size_t at = 0, i = 0;
    for (; i < escaped.length && at < plain.length; i++, at++) {
        char byte = escaped.at[i];
        if (byte == '\\' && i + 1 < escaped.length && strchr("\\\"n", escaped.at[i + 1]))
            byte = escaped.at[++i] == 'n' ? '\n' : escaped.at[i];
        if (byte != plain.at[at])
            return 0;
    }
    return i == escaped.length && at == plain.length;
}

static int64_t whole_number(brix_text text)
{
    int64_t value = 0;
    if (text.length == 0 || text.length > 9)
        return -1;
    for (size_t i = 0; i < text.length; i++) {
        if (text.at[i] < '0' || text.at[i] > '9')
            return -1;
        value = value * 10 + (text.at[i] - '0');
    }
    return value;
}

static void note(const brix_scrape *scrape, brix_text name, brix_text value, labels *found)
{
    if (brix_text_is(name, BRIX_LITERAL("model_name"))) {
        found->is_own = scrape->model.length > 0 && means(value, scrape->model);
    } else if (brix_text_is(name, BRIX_LITERAL("engine")) || brix_text_is(name, BRIX_LITERAL("dp_rank"))) {
        int64_t rank = whole_number(value);
        found->is_other_rank |= scrape->rank >= 0 && rank >= 0 && rank != scrape->rank;
    } else if (brix_text_is(name, BRIX_LITERAL("stage"))) {
        found->stage = value;
    }
}

/* name="value", ... } ; rest is what follows the brace. 0 when it is malformed. */
static int read_labels(const brix_scrape *scrape, brix_text *rest, labels *found)
{
    for (;;) {
        *rest = after_blanks(*rest);
        if (rest->length && rest->at[0] == '}') {
            *rest = from(*rest, 1);
            return 1;
        }
        size_t length = 0;
        while (length < rest->length && is_name(rest->at[length]))
            length++;
        brix_text name = {rest->at, length};
        *rest = after_blanks(from(*rest, length));
        if (length == 0 || rest->length == 0 || rest->at[0] != '=')
            return 0;
        *rest = after_blanks(from(*rest, 1));
        size_t ends = rest->length && rest->at[0] == '"' ? quoted(from(*rest, 1)) : 0;
        if (ends == 0)
            return 0;
        note(scrape, name, (brix_text){rest->at + 1, ends - 1}, found);
        *rest = after_blanks(from(*rest, ends + 1));
        if (rest->length && rest->at[0] == ',')
            *rest = from(*rest, 1);
        else if (rest->length == 0 || rest->at[0] != '}')
            return 0;
    }
}

static int ends_with(brix_text name, brix_text ending)
{
    return name.length > ending.length &&
           memcmp(name.at + name.length - ending.length, ending.at, ending.length) == 0;
}

static void pile(heap *heap, int part, double value)
{
    heap->sum[part] += value;
    heap->series[part]++;
}

static void add(page *page, brix_text name, const labels *found, double value)
{
    int part = ends_with(name, BRIX_LITERAL("_count")) ? TALLY : SUM;
    int is_part = part == TALLY || ends_with(name, BRIX_LITERAL("_sum"));
    brix_text base = {name.at, name.length - (part == TALLY ? 6 : is_part ? 4 : 0)};
    if (found->is_other_rank)
        return;
    for (size_t i = 0; i < COUNT; i++) {
        if (is_histogram(FAMILIES[i].metric) != is_part || !brix_text_is(FAMILIES[i].name, base) ||
            (FAMILIES[i].stage.length && !brix_text_is(FAMILIES[i].stage, found->stage)))
            continue;
        pile(&page->all[i], part, value);
        if (found->is_own)
            pile(&page->own[i], part, value);
    }
}

/* Names that nothing is read of; most lines of a page are such. */
static int is_wanted(brix_text name)
{
    if (ends_with(name, BRIX_LITERAL("_bucket")) || ends_with(name, BRIX_LITERAL("_created")))
        return 0;
    for (size_t i = 0; i < COUNT; i++) {
        size_t length = FAMILIES[i].name.length;
        if (name.length >= length && (name.length - length <= 6) && memcmp(name.at, FAMILIES[i].name.at, length) == 0)
            return 1;
    }
    return 0;
}

/* One line; 0 when it is no line of such a page. */
static int read_line(page *page, brix_text line)
{
    size_t length = 0;
    labels found = {0};
    double value;
    line = brix_text_trim(line);
    if (line.length == 0 || line.at[0] == '#')
        return 1;
    if (!is_name_start(line.at[0]))
        return 0;
    while (length < line.length && is_name(line.at[length]))
        length++;
    brix_text name = {line.at, length}, rest = after_blanks(from(line, length));
    page->samples++;
    int is_labelled = rest.length && rest.at[0] == '{';
    if (is_labelled && !is_wanted(name))
        return 1;
    rest = from(rest, (size_t)is_labelled);
    if ((is_labelled && !read_labels(page->scrape, &rest, &found)) || !value_of(rest, &value))
        return 0;
    add(page, name, &found, value);
    return 1;
}

static int is_mean(brix_metric metric)
{
    return metric >= BRIX_METRIC_KV_CACHE && metric <= BRIX_METRIC_UTILIZATION;
}

static int is_there(const heap *heap, brix_metric metric)
{
    return heap->series[SUM] > 0 && (!is_histogram(metric) || heap->series[TALLY] > 0);
}

static void sum_up(const page *page, brix_reading *reading)
{
    for (size_t i = 0; i < COUNT; i++) {
        brix_metric metric = FAMILIES[i].metric;
        const heap *heap = is_there(&page->own[i], metric) ? &page->own[i] : &page->all[i];
        if (!isnan(reading->value[metric]) || !is_there(heap, metric))
            continue;
        reading->value[metric] = heap->sum[SUM] / (is_mean(metric) ? heap->series[SUM] : 1);
        reading->count[metric] = heap->sum[TALLY];
    }
}

brix_status brix_metrics_read(const brix_scrape *scrape, brix_reading *reading)
{
    page page = {.scrape = scrape};
    brix_text rest = scrape->page, line;
    for (int i = 0; i < BRIX_METRICS; i++) {
        reading->value[i] = NAN;
        reading->count[i] = 0;
    }
    if (rest.length == 0)
        return BRIX_BAD;
    while (brix_text_cut(&rest, '\n', &line))
        if (!read_line(&page, line))
            return BRIX_BAD;
    sum_up(&page, reading);
    return page.samples ? BRIX_OK : BRIX_BAD;
}

brix_text brix_metric_alias(brix_metric metric, uint32_t index)
{
    for (size_t i = 0; i < COUNT; i++)
        if (FAMILIES[i].metric == metric && index-- == 0)
            return FAMILIES[i].name;
    return BRIX_NOTHING;
}
