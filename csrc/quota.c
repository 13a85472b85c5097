#include "quota.h"

#include "sha256.h"

#define CHANGING 1u /* in place of a name while a row gets another owner */
#define COUNT_BITS 40u
#define COUNT_MASK ((1ull << COUNT_BITS) - 1)

static uint64_t word(_Atomic uint64_t *at)
{
    return atomic_load_explicit(at, memory_order_relaxed);
}

static void set(_Atomic uint64_t *at, uint64_t value)
{
    atomic_store_explicit(at, value, memory_order_relaxed);
}

/* A cut of a digest, so that nobody can make up a name that stands for another. */
static uint64_t name_of(char kind, brix_text first, brix_text second)
{
    char bytes[1 + 8 + BRIX_DIGEST];
    uint8_t digest[BRIX_DIGEST];
    uint64_t name, length = second.length;
    brix_sha256(first.at, first.length, digest);
    bytes[0] = kind;
    memcpy(bytes + 1, &length, sizeof length);
    memcpy(bytes + 9, digest, sizeof digest);
    if (second.length > 0) {
        brix_sha256(second.at, second.length, digest);
        for (size_t i = 0; i < sizeof digest; i++)
            bytes[9 + i] ^= (char)(digest[i] << 1 | digest[i] >> 7);
    }
    brix_sha256(bytes, sizeof bytes, digest);
    memcpy(&name, digest, sizeof name);
    return name > CHANGING ? name : CHANGING + 1;
}

uint64_t brix_user_name(brix_text user)
{
    return name_of('u', user, BRIX_NOTHING);
}

uint64_t brix_model_name(brix_text model, brix_text profile)
{
    return name_of('m', model, profile);
}

static brix_limit *set_of(const brix_map *map, uint64_t name, int second)
{
    uint64_t mixed = second ? name >> 32 : name;
    return brix_map_row(map, BRIX_REGION_LIMITS, (uint32_t)(mixed % BRIX_LIMIT_SETS) * BRIX_LIMIT_WAYS);
}

brix_limit *brix_limit_find(const brix_map *map, uint64_t name)
{
    for (int second = 0; second < 2; second++) {
        brix_limit *rows = set_of(map, name, second);
        for (uint32_t i = 0; i < BRIX_LIMIT_WAYS; i++)
            if (atomic_load_explicit(&rows[i].name, memory_order_acquire) == name)
                return &rows[i];
    }
    return NULL;
}

static brix_limit_kind kind_of(brix_limit *row)
{
    return (brix_limit_kind)(uint32_t)word(&row->kind);
}

/* 1 when nothing counts in the row now, so that forgetting it changes no answer. */
static int is_idle(brix_limit *row, uint64_t now)
{
    uint64_t unit = kind_of(row) == BRIX_LIMIT_MODEL ? BRIX_SECOND : BRIX_MINUTE;
    uint32_t window = (uint32_t)(now / unit);
    int counts_requests = (uint32_t)(word(&row->requests) >> 32) == window && (uint32_t)word(&row->requests) > 0;
    int counts_tokens = word(&row->tokens) >> COUNT_BITS == now / BRIX_MINUTE && (word(&row->tokens) & COUNT_MASK) > 0;
    return !counts_requests && !counts_tokens && (word(&row->owed) & COUNT_MASK) == 0;
}

static int may_go(brix_limit *row, brix_limit_kind kind, int replaces, uint64_t now)
{
    if (kind_of(row) == BRIX_LIMIT_ABSENT)
        return 1;
    return replaces && kind != BRIX_LIMIT_ABSENT && kind_of(row) == kind && is_idle(row, now);
}

/* A free row, else the oldest that may go: those without a limit first. */
static brix_limit *room_for(const brix_map *map, uint64_t name, brix_limit_kind kind, int replaces, uint64_t now)
{
    brix_limit *oldest = NULL;
    int oldest_has_limit = 0;
    for (uint32_t i = 0; i < 2 * BRIX_LIMIT_WAYS; i++) {
        brix_limit *row = set_of(map, name, i >= BRIX_LIMIT_WAYS) + i % BRIX_LIMIT_WAYS;
        uint64_t owner = word(&row->name);
        if (owner == 0)
            return row;
        if (owner == CHANGING || !may_go(row, kind, replaces, now))
            continue;
        int has_limit = kind_of(row) != BRIX_LIMIT_ABSENT;
        if (!oldest || has_limit < oldest_has_limit ||
            (has_limit == oldest_has_limit && word(&row->touched) < word(&oldest->touched))) {
            oldest = row;
            oldest_has_limit = has_limit;
        }
    }
    return oldest;
}

static void begin_row(brix_limit *row, uint64_t name, brix_limit_kind kind, uint64_t now)
{
    set(&row->kind, kind);
    set(&row->rpm, 0);
    set(&row->tpm, 0);
    set(&row->touched, now);
    set(&row->requests, 0);
    set(&row->tokens, 0);
    set(&row->owed, 0);
    atomic_store_explicit(&row->name, name, memory_order_release);
}

/* Two that claim one name at once may both win a row: the one that is found first stays, the other gives its back. */
static brix_limit *settle(const brix_map *map, brix_limit *mine, uint64_t name)
{
    brix_limit *first = brix_limit_find(map, name);
    if (first && first != mine) {
        uint64_t own = name;
        atomic_compare_exchange_strong(&mine->name, &own, 0);
    }
    return first;
}

brix_limit *brix_limit_claim(const brix_map *map, uint64_t name, brix_limit_kind kind, int replaces, uint64_t now)
{
    if (!brix_map_has(map, BRIX_REGION_LIMITS))
        return NULL;
    for (uint32_t tries = 0; tries < 2 * BRIX_LIMIT_WAYS; tries++) {
        brix_limit *row = brix_limit_find(map, name);
        if (row)
            return row;
        row = room_for(map, name, kind, replaces, now);
        if (!row)
            return NULL;
        uint64_t before = word(&row->name);
        if (before == CHANGING || !atomic_compare_exchange_strong(&row->name, &before, CHANGING))
            continue;
        begin_row(row, name, kind, now);
        if ((row = settle(map, row, name)))
            return row;
    }
    return NULL;
}

void brix_quota_recover(const brix_map *map)
{
    for (uint32_t i = 0; i < map->regions[BRIX_REGION_LIMITS].count; i++) {
        brix_limit *row = brix_map_row(map, BRIX_REGION_LIMITS, i);
        uint64_t changing = CHANGING;
        atomic_compare_exchange_strong(&row->name, &changing, 0);
    }
}

/* --- windows ---- */

static uint32_t taken_in(_Atomic uint64_t *at, uint32_t window)
{
    uint64_t now = word(at);
    return (uint32_t)(now >> 32) == window ? (uint32_t)now : 0;
}

/* One more in this window unless `limit` are taken; the new count, or 0. */
static uint32_t take(_Atomic uint64_t *at, uint32_t window, uint64_t limit)
{
    uint64_t before = word(at), after;
    do {
        uint64_t count = (uint32_t)(before >> 32) == window ? (uint32_t)before : 0;
        if (count >= limit || count == UINT32_MAX)
            return 0;
        after = (uint64_t)window << 32 | (count + 1);
    } while (!atomic_compare_exchange_weak_explicit(at, &before, after, memory_order_acq_rel, memory_order_relaxed));
    return (uint32_t)after;
}

static void give(_Atomic uint64_t *at, uint32_t window)
{
    uint64_t before = word(at);
    do {
        if ((uint32_t)(before >> 32) != window || (uint32_t)before == 0)
            return;
    } while (
        !atomic_compare_exchange_weak_explicit(at, &before, before - 1, memory_order_acq_rel, memory_order_relaxed));
}

static uint64_t tokens_in(_Atomic uint64_t *at, uint64_t minute)
{
    uint64_t now = word(at);
    return now >> COUNT_BITS == minute ? now & COUNT_MASK : 0;
}

static void add_tokens(_Atomic uint64_t *at, uint64_t minute, uint64_t tokens)
{
    uint64_t before = word(at), after;
    do {
        uint64_t sum = (before >> COUNT_BITS == minute ? before & COUNT_MASK : 0) + tokens;
        after = minute << COUNT_BITS | (sum < COUNT_MASK ? sum : COUNT_MASK);
    } while (!atomic_compare_exchange_weak_explicit(at, &before, after, memory_order_acq_rel, memory_order_relaxed));
}

static uint64_t minute_of(uint64_t now)
{
    return now / BRIX_MINUTE & ((1ull << (64 - COUNT_BITS)) - 1);
}

/* --- users ---- */

static brix_allowance allowance_of(brix_limit *row, uint64_t now)
{
    brix_allowance found = {.admission = BRIX_USER_UNKNOWN};
    if (!row)
        return found;
    if (kind_of(row) == BRIX_LIMIT_ABSENT) {
        if (now - word(&row->touched) < BRIX_ABSENT_NS)
            found.admission = BRIX_USER_ABSENT;
        return found;
    }
    uint64_t rpm = word(&row->rpm), tpm = word(&row->tpm);
    found.rpm = rpm ? rpm : BRIX_DEFAULT_RPM;
    found.tpm = tpm ? tpm : found.rpm * BRIX_TPM_OF_RPM;
    found.recorded_tpm = tpm;
    found.requests = taken_in(&row->requests, (uint32_t)minute_of(now));
    found.admission = BRIX_ADMITTED;
    if (found.requests >= found.rpm)
        found.admission = BRIX_OVER_RPM;
    else if (tokens_in(&row->tokens, minute_of(now)) >= found.tpm)
        found.admission = BRIX_OVER_TPM;
    return found;
}

static brix_limit *user_row(const brix_map *map, uint64_t name)
{
    return brix_map_has(map, BRIX_REGION_LIMITS) ? brix_limit_find(map, name) : NULL;
}

brix_allowance brix_user_peek(const brix_map *map, brix_text user, uint64_t now)
{
    return allowance_of(user_row(map, brix_user_name(user)), now);
}

brix_allowance brix_user_take(const brix_map *map, brix_text user, uint64_t now)
{
    uint64_t name = brix_user_name(user);
    brix_limit *row = user_row(map, name);
    brix_allowance found = allowance_of(row, now);
    if (found.admission != BRIX_ADMITTED)
        return found;
    found.requests = take(&row->requests, (uint32_t)minute_of(now), found.rpm);
    if (found.requests == 0)
        found.admission = BRIX_OVER_RPM;
    set(&row->touched, now);
    if (atomic_load_explicit(&row->name, memory_order_acquire) == name)
        return found;
    give(&row->requests, (uint32_t)minute_of(now)); /* the row went to another name meanwhile */
    return (brix_allowance){.admission = BRIX_USER_UNKNOWN};
}

void brix_user_count(const brix_map *map, brix_text user, uint64_t now)
{
    brix_limit *row = user_row(map, brix_user_name(user));
    if (!row || kind_of(row) != BRIX_LIMIT_USER)
        return;
    take(&row->requests, (uint32_t)minute_of(now), UINT32_MAX);
    set(&row->touched, now);
}

void brix_user_charge(const brix_map *map, brix_text user, uint64_t tokens, int owed, uint64_t now)
{
    brix_limit *row = user_row(map, brix_user_name(user));
    if (!row || tokens == 0 || kind_of(row) != BRIX_LIMIT_USER)
        return;
    add_tokens(&row->tokens, minute_of(now), tokens);
    if (owed)
        add_tokens(&row->owed, minute_of(now), tokens);
}

/* --- models ---- */

int brix_model_take(const brix_map *map, brix_text model, brix_text profile, uint32_t limit, uint64_t now)
{
    brix_limit *row = brix_limit_claim(map, brix_model_name(model, profile), BRIX_LIMIT_MODEL, 1, now);
    if (!row)
        return 1;
    set(&row->rpm, limit);
    set(&row->touched, now);
    return take(&row->requests, (uint32_t)(now / BRIX_SECOND), limit) > 0;
}

void brix_model_give(const brix_map *map, brix_text model, brix_text profile, uint64_t now)
{
    brix_limit *row = brix_limit_find(map, brix_model_name(model, profile));
    if (row)
        give(&row->requests, (uint32_t)(now / BRIX_SECOND));
}
