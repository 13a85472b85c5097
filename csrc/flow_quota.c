#define _POSIX_C_SOURCE 200809L
/*
 * What a request takes of its user and its model: from the segment, or from the collector where the segment cannot
 * know. The question is {"user","model","profile","rps","lacks_usage"}, the answer one letter and maybe a number:
 *
 *   A n   admitted and counted, the user's n-th request of the minute      L, D  decide here; D: the store is away
 *   U     there is no such user     R n, T n, S n   over the limit n of requests, tokens, the model's requests
 *   N     the stream must tell its usage            u r i t s   the store failed, where failing means refusing
 */
#include "counters.h"
#include "flow.h"
#include "gauges.h"
#include "kernel.h"
#include "quota.h"

#define ASK_MS 50

static brix_limit_words words_of(const brix_flow *flow)
{
    brix_limit_words words = {0};
    brix_held held = brix_hold(flow->view);
    if (held.topology)
        words = held.topology->limits;
    brix_release(&held);
    return words;
}

static brix_text user_of(const brix_flow *flow)
{
    return (brix_text){flow->user, flow->user_length};
}

static brix_text model_of(const brix_flow *flow)
{
    return (brix_text){flow->model, flow->model_length < BRIX_MODEL_LIMIT ? flow->model_length : BRIX_MODEL_LIMIT};
}

static brix_text profile_of(const brix_flow *flow)
{
    return (brix_text){flow->decision.profile, flow->decision.profile_length};
}

static int has_user(const brix_flow *flow, brix_limit_words words)
{
    return flow->user_length > 0 && words.users & BRIX_USERS_KNOWN;
}

static brix_more *more_of(const brix_view *view)
{
    const brix_region *slots = &view->map.regions[BRIX_REGION_SLOTS];
    size_t index = ((size_t)((unsigned char *)view->slot - view->map.base) - slots->offset) / slots->stride;
    return brix_map_more(&view->map, (uint32_t)index + 2);
}

/* --- refusals (gateway 3.4, 4.3, 4.9) ---- */

static void refuse(brix_flow *flow, const brix_refusal *refusal, uint64_t wait, brix_out *scratch, brix_action *action)
{
    char digits[20];
    brix_out out = {digits, 0, sizeof digits, 0};
    brix_flow_refuse(flow, refusal, scratch, action);
    if (wait == 0)
        return;
    brix_out_number(&out, wait);
    char *at = scratch->at + scratch->length;
    brix_out_bytes(scratch, digits, out.length);
    brix_action_set(action, BRIX_LITERAL("retry-after"), (brix_text){at, out.length});
}

static void refuse_user(brix_flow *flow, brix_out *scratch, brix_action *action)
{
    brix_refusal refusal = {.status = 401,
                            .marker = BRIX_LITERAL("x-error-user"),
                            .marker_value = BRIX_LITERAL("true"),
                            .before = BRIX_LITERAL("user: "),
                            .subject = user_of(flow),
                            .after = BRIX_LITERAL(" does not exist"),
                            .code = BRIX_LITERAL("invalid_user"),
                            .param = BRIX_LITERAL("user")};
    refuse(flow, &refusal, 0, scratch, action);
}

static uint64_t seconds_left(uint64_t now)
{
    return (BRIX_MINUTE - now % BRIX_MINUTE + BRIX_SECOND - 1) / BRIX_SECOND;
}

/* " has exceeded RPM: 10" and its like. */
static brix_text exceeded(brix_text what, uint64_t limit, brix_out *scratch)
{
    size_t from = scratch->length;
    brix_out_text(scratch, BRIX_LITERAL(" has exceeded "));
    brix_out_text(scratch, what);
    brix_out_text(scratch, BRIX_LITERAL(": "));
    brix_out_number(scratch, limit);
    return (brix_text){scratch->at + from, scratch->length - from};
}

static void refuse_rate(brix_flow *flow, char which, uint64_t limit, brix_out *scratch, brix_action *action)
{
    int is_model = which == 'S', is_requests = which == 'R';
    brix_refusal refusal = {.status = 429,
                            .marker_value = BRIX_LITERAL("true"),
                            .before = is_model ? BRIX_LITERAL("model: ") : BRIX_LITERAL("user: "),
                            .subject = is_model ? model_of(flow) : user_of(flow),
                            .code = BRIX_LITERAL("rate_limit_exceeded")};
    if (is_model)
        refusal.marker = BRIX_LITERAL("x-error-model-rps-exceeded");
    else
        refusal.marker = is_requests ? BRIX_LITERAL("x-error-rpm-exceeded") : BRIX_LITERAL("x-error-tpm-exceeded");
    brix_text what = is_model ? BRIX_LITERAL("RPS") : is_requests ? BRIX_LITERAL("RPM") : BRIX_LITERAL("TPM");
    refusal.after = exceeded(what, limit, scratch);
    refuse(flow, &refusal, is_model ? 1 : seconds_left(brix_clock()), scratch, action);
}

static void refuse_hidden_usage(brix_flow *flow, brix_out *scratch, brix_action *action)
{
    static const char words[] = "include usage for stream options not set";
    brix_text text = {words, sizeof words - 1};
    brix_refusal refusal = {.status = 400,
                            .marker = BRIX_LITERAL("x-error-no-stream-options-include-usage"),
                            .marker_value = text,
                            .before = text,
                            .param = BRIX_LITERAL("stream_options")};
    refuse(flow, &refusal, 0, scratch, action);
}

/* The store failed, and the setting says that this means no. */
static void refuse_blindly(brix_flow *flow, char which, brix_out *scratch, brix_action *action)
{
    static const struct {
        char which;
        brix_text marker, before;
    } FAILURES[] = {
        {'u', {"x-error-user", 12}, {"fail to get user: ", 18}},
        {'r', {"x-error-rpm-exceeded", 20}, {"fail to get RPM for user: ", 26}},
        {'i', {"x-error-incr-rpm", 16}, {"fail to increment RPM for user: ", 32}},
        {'t', {"x-error-tpm-exceeded", 20}, {"fail to get TPM for user: ", 26}},
        {'s', {"x-error-incr-model-rps", 22}, {"fail to increment RPS for model: ", 33}},
    };
    size_t i = 0;
    while (i + 1 < sizeof FAILURES / sizeof FAILURES[0] && FAILURES[i].which != which)
        i++;
    brix_refusal refusal = {.status = 500,
                            .marker = FAILURES[i].marker,
                            .marker_value = BRIX_LITERAL("true"),
                            .before = FAILURES[i].before,
                            .subject = FAILURES[i].which == 's' ? model_of(flow) : user_of(flow)};
    refuse(flow, &refusal, 0, scratch, action);
}

/* --- from the segment ---- */

static int refuse_by(brix_flow *flow, brix_allowance found, brix_out *scratch, brix_action *action)
{
    switch (found.admission) {
    case BRIX_USER_ABSENT:
        refuse_user(flow, scratch, action);
        return 1;
    case BRIX_OVER_RPM:
        refuse_rate(flow, 'R', found.rpm, scratch, action);
        return 1;
    case BRIX_OVER_TPM:
        refuse_rate(flow, 'T', found.tpm, scratch, action);
        return 1;
    default:
        return 0;
    }
}

int brix_flow_peek(brix_flow *flow, brix_out *scratch, brix_action *action)
{
    if ((flow->user_length == 0 && !flow->user_cut) || flow->is_admitted)
        return 1;
    brix_limit_words words = words_of(flow);
    if (!(words.users & BRIX_USERS_KNOWN))
        return 1;
    brix_allowance found = {.admission = BRIX_USER_ABSENT};
    if (!flow->user_cut)
        found = brix_user_peek(&flow->view->map, user_of(flow), brix_clock());
    if (found.admission == BRIX_USER_UNKNOWN && words.users & BRIX_USERS_COMPLETE)
        found.admission = BRIX_USER_ABSENT;
    return !refuse_by(flow, found, scratch, action);
}

static void tell_count(brix_flow *flow, uint64_t count)
{
    brix_out out = {flow->update, 0, sizeof flow->update, 0};
    brix_out_number(&out, count);
    flow->update_length = (uint8_t)out.length;
}

/* The model first: who is refused for it has taken nothing of his own. */
static int admit_here(brix_flow *flow, brix_limit_words words, brix_out *scratch, brix_action *action)
{
    uint64_t now = brix_clock();
    const brix_map *map = &flow->view->map;
    uint32_t rps = flow->decision.requests_per_second;
    if (rps && !brix_model_take(map, model_of(flow), profile_of(flow), rps, now)) {
        refuse_rate(flow, 'S', rps, scratch, action);
        return 0;
    }
    if (!has_user(flow, words))
        return 1;
    brix_allowance found = brix_user_take(map, user_of(flow), now);
    if (refuse_by(flow, found, scratch, action)) {
        if (rps)
            brix_model_give(map, model_of(flow), profile_of(flow), now);
        return 0;
    }
    if (found.admission == BRIX_ADMITTED)
        tell_count(flow, found.requests);
    return 1;
}

/* --- from the collector ---- */

static int ask(brix_flow *flow, brix_limit_words words, brix_out *scratch, brix_action *action)
{
    size_t from = scratch->length;
    brix_out_text(scratch, BRIX_LITERAL("{\"user\":\""));
    brix_out_json(scratch, has_user(flow, words) ? user_of(flow) : BRIX_LITERAL(""));
    brix_out_text(scratch, BRIX_LITERAL("\",\"model\":\""));
    brix_out_json(scratch, model_of(flow));
    brix_out_text(scratch, BRIX_LITERAL("\",\"profile\":\""));
    brix_out_json(scratch, profile_of(flow));
    brix_out_text(scratch, BRIX_LITERAL("\",\"rps\":"));
    brix_out_number(scratch, flow->decision.requests_per_second);
    brix_out_text(scratch, BRIX_LITERAL(",\"lacks_usage\":"));
    brix_out_number(scratch, (uint64_t)brix_flow_lacks_usage(flow));
    brix_out_text(scratch, BRIX_LITERAL("}"));
    action->kind = BRIX_ASK;
    action->ask_ms = words.ask_ms ? words.ask_ms : ASK_MS;
    action->question = (brix_text){scratch->at + from, scratch->length - from};
    flow->asks = 1;
    brix_more *more = more_of(flow->view);
    if (more)
        brix_add(&more->asked, 1);
    return 0;
}

int brix_flow_admit(brix_flow *flow, brix_out *scratch, brix_action *action)
{
    if (flow->is_admitted || (flow->user_length == 0 && flow->decision.requests_per_second == 0))
        return 1;
    brix_limit_words words = words_of(flow);
    brix_allowance found = {.admission = BRIX_ADMITTED};
    if (has_user(flow, words))
        found = brix_user_peek(&flow->view->map, user_of(flow), brix_clock());
    if (found.recorded_tpm > 0 && brix_flow_lacks_usage(flow)) {
        refuse_hidden_usage(flow, scratch, action);
        return 0;
    }
    if (found.admission == BRIX_USER_UNKNOWN && words.users & BRIX_USERS_COMPLETE) {
        refuse_user(flow, scratch, action);
        return 0;
    }
    int is_shared = words.users & BRIX_USERS_SHARED && (has_user(flow, words) || flow->decision.requests_per_second);
    if (is_shared || found.admission == BRIX_USER_UNKNOWN)
        return ask(flow, words, scratch, action);
    return admit_here(flow, words, scratch, action);
}

static uint64_t number_in(brix_text answer)
{
    uint64_t number = 0;
    for (size_t i = 1; i < answer.length && i < 20; i++)
        if (answer.at[i] >= '0' && answer.at[i] <= '9')
            number = number * 10 + (uint64_t)(answer.at[i] - '0');
    return number;
}

/* 1 when the request goes on. */
static int heed(brix_flow *flow, brix_text answer, brix_limit_words words, brix_out *scratch, brix_action *action)
{
    char word = answer.length ? answer.at[0] : 0;
    switch (word) {
    case 'A':
        brix_user_count(&flow->view->map, user_of(flow), brix_clock());
        if (has_user(flow, words))
            tell_count(flow, number_in(answer));
        return 1;
    case 'U':
        refuse_user(flow, scratch, action);
        return 0;
    case 'R':
    case 'T':
    case 'S':
        refuse_rate(flow, word, number_in(answer), scratch, action);
        return 0;
    case 'N':
        refuse_hidden_usage(flow, scratch, action);
        return 0;
    case 'u':
    case 'r':
    case 'i':
    case 't':
    case 's':
        refuse_blindly(flow, word, scratch, action);
        return 0;
    default:
        return admit_here(flow, words, scratch, action);
    }
}

void brix_flow_answered(brix_flow *flow, brix_text answer, brix_out *scratch, brix_action *action)
{
    if (!flow->asks || flow->stage != FLOW_HEADERS || brix_flow_is_complete(flow))
        return;
    flow->asks = 0;
    brix_limit_words words = words_of(flow);
    brix_more *more = more_of(flow->view);
    if (more && answer.length == 0)
        brix_add(&more->unanswered, 1);
    if (more && answer.length > 0 && (answer.at[0] == 'D' || (answer.at[0] >= 'a' && answer.at[0] <= 'z')))
        brix_add(&more->degraded, 1);
    if (answer.length == 0 && words.users & BRIX_USERS_CLOSED)
        answer = has_user(flow, words) ? BRIX_LITERAL("r") : BRIX_LITERAL("s");
    if (heed(flow, answer, words, scratch, action))
        brix_flow_send(flow, action);
}

void brix_flow_charge(const brix_flow *flow)
{
    if (flow->user_length == 0 || !flow->is_admitted || flow->usage.seen == 0)
        return;
    brix_limit_words words = words_of(flow);
    if (has_user(flow, words))
        brix_user_charge(&flow->view->map, user_of(flow), brix_usage_total(&flow->usage),
                         (words.users & BRIX_USERS_SHARED) != 0, brix_clock());
}
