#define _GNU_SOURCE
#include "users.h"

#include "gauges.h"
#include "reader.h"
#include "writer.h"

#define MILLISECOND 1000000u

static brix_user *row_at(const brix_map *map, uint32_t index)
{
    return brix_map_row(map, BRIX_REGION_USERS, index);
}

static double configured(uint32_t thousandths)
{
    return thousandths / 1000.0;
}

brix_fair brix_fair_of(const brix_topology *topology)
{
    const brix_fair_words *words = &topology->fair;
    return (brix_fair){
        .window = (uint64_t)(words->window_ms ? words->window_ms : 300000u) * MILLISECOND,
        .least_tokens = words->least_tokens,
        .most_tokens = words->most_tokens,
        .full_load = words->full_load ? words->full_load : 1,
        .input_weight = configured(words->input_weight),
        .output_weight = configured(words->output_weight),
        .fairness_weight = configured(words->fairness_weight),
        .utilization_weight = configured(words->utilization_weight),
    };
}

static uint32_t part_of(const brix_fair *fair, uint64_t now)
{
    uint64_t length = fair->window / BRIX_USER_PARTS;
    return (uint32_t)(now / (length ? length : 1));
}

/* Hash of a name, never 0. Cut from the mixed hash, so that names of one pattern spread over the sets. */
static uint64_t name_of(brix_text user)
{
    uint64_t hash = brix_name_hash(user) * 0x9e3779b97f4a7c15u;
    hash ^= hash >> 29;
    return hash ? hash : 1;
}

static brix_user *first_of(const brix_map *map, uint64_t name)
{
    return row_at(map, 1 + (uint32_t)(name % BRIX_USER_SETS) * BRIX_USER_WAYS);
}

static uint64_t word(_Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

static brix_user *find(const brix_map *map, uint64_t name)
{
    brix_user *set = first_of(map, name);
    for (uint32_t i = 0; i < BRIX_USER_WAYS; i++)
        if (word(&set[i].name) == name)
            return &set[i];
    return NULL;
}

static brix_user *oldest_of(brix_user *set)
{
    brix_user *oldest = set;
    for (uint32_t i = 0; i < BRIX_USER_WAYS; i++) {
        if (word(&set[i].name) == 0)
            return &set[i];
        if (word(&set[i].touched) < word(&oldest->touched))
            oldest = &set[i];
    }
    return oldest;
}

/* The row of this name, taken from another when it has none. Two that claim at once may both win a row of their
   own: the first one found counts, and the other grows old. */
static brix_user *claim(const brix_map *map, uint64_t name, uint64_t now)
{
    brix_user *user = find(map, name);
    while (!user) {
        brix_user *oldest = oldest_of(first_of(map, name));
        uint64_t before = word(&oldest->name);
        if (!atomic_compare_exchange_strong(&oldest->name, &before, name)) {
            user = find(map, name);
            continue;
        }
        for (uint32_t i = 0; i < BRIX_USER_RING; i++)
            atomic_store_explicit(&oldest->window[i], 0, memory_order_relaxed);
        user = oldest;
    }
    atomic_store_explicit(&user->touched, now, memory_order_relaxed);
    return user;
}

static double total_of(brix_user *user, uint32_t part)
{
    double total = 0;
    for (uint32_t i = 0; i < BRIX_USER_RING; i++) {
        uint64_t entry = word(&user->window[i]);
        if (part - (uint32_t)(entry >> 32) < BRIX_USER_PARTS)
            total += (uint32_t)entry;
    }
    return total;
}

double brix_user_total(const brix_map *map, const brix_fair *fair, brix_text user, uint64_t now)
{
    if (user.length == 0 || !brix_map_has(map, BRIX_REGION_USERS))
        return 0;
    brix_user *row = find(map, name_of(user));
    return row ? total_of(row, part_of(fair, now)) : 0;
}

static void add_tokens(_Atomic uint64_t *entry, uint32_t part, uint64_t tokens)
{
    uint64_t before = word(entry), after;
    do {
        uint64_t had = (uint32_t)(before >> 32) == part ? (uint32_t)before : 0, sum = had + tokens;
        after = (uint64_t)part << 32 | (sum < UINT32_MAX ? sum : UINT32_MAX);
    } while (!atomic_compare_exchange_weak_explicit(entry, &before, after, memory_order_relaxed, memory_order_relaxed));
}

brix_status brix_user_add(const brix_map *map, const brix_fair *fair, brix_text user, uint64_t input, uint64_t output,
                          uint64_t now)
{
    if (user.length == 0)
        return BRIX_BAD;
    double tokens = (double)input * fair->input_weight + (double)output * fair->output_weight;
    if (!brix_map_has(map, BRIX_REGION_USERS) || tokens < 0.5)
        return BRIX_OK;
    uint32_t part = part_of(fair, now);
    brix_user *row = claim(map, name_of(user), now);
    add_tokens(&row->window[part % BRIX_USER_RING], part, tokens < UINT32_MAX ? (uint64_t)(tokens + 0.5) : UINT32_MAX);
    return BRIX_OK;
}

void brix_users_refresh(const brix_map *map, const brix_fair *fair, uint64_t now)
{
    uint32_t part = part_of(fair, now);
    double least = 0, most = 0;
    if (!brix_map_has(map, BRIX_REGION_USERS))
        return;
    for (uint32_t i = 1; i <= BRIX_USER_WAYS * BRIX_USER_SETS; i++) {
        double total = word(&row_at(map, i)->name) ? total_of(row_at(map, i), part) : 0;
        if (total > 0 && (least == 0 || total < least))
            least = total;
        most = total > most ? total : most;
    }
    brix_user *head = row_at(map, 0);
    atomic_store_explicit(&head->name, (uint64_t)least, memory_order_relaxed);
    atomic_store_explicit(&head->touched, (uint64_t)most, memory_order_relaxed);
}

void brix_users_range(const brix_map *map, const brix_fair *fair, double *least, double *most)
{
    int has = brix_map_has(map, BRIX_REGION_USERS);
    *least = has ? (double)word(&row_at(map, 0)->name) : 0;
    *most = has ? (double)word(&row_at(map, 0)->touched) : 0;
    if (*most > 0)
        return;
    *least = fair->least_tokens;
    *most = fair->most_tokens;
}

double brix_user_bucket(const brix_map *map, const brix_fair *fair)
{
    double least, most;
    brix_users_range(map, fair, &least, &most);
    double middle = (least + most) / 2;
    double bucket = middle > fair->least_tokens ? middle : fair->least_tokens;
    return bucket > 0 ? bucket : 1;
}

/* --- for the collector, explanations and tests ---- */

static const brix_topology *active_topology(const brix_writer *writer)
{
    uint32_t active = atomic_load_explicit(&brix_map_header(&writer->map)->active, memory_order_relaxed);
    return active ? brix_map_topology(&writer->map, active - 1) : NULL;
}

brix_status brix_writer_users(brix_writer *writer, uint64_t now, brix_users *users)
{
    const brix_topology *topology = active_topology(writer);
    if (!topology)
        return BRIX_MISSING;
    brix_fair fair = brix_fair_of(topology);
    brix_users_refresh(&writer->map, &fair, now);
    brix_users_range(&writer->map, &fair, &users->least, &users->most);
    users->bucket = brix_user_bucket(&writer->map, &fair);
    return BRIX_OK;
}

brix_status brix_writer_user(brix_writer *writer, brix_text user, uint64_t now, double *total)
{
    const brix_topology *topology = active_topology(writer);
    if (!topology)
        return BRIX_MISSING;
    brix_fair fair = brix_fair_of(topology);
    *total = brix_user_total(&writer->map, &fair, user, now);
    return BRIX_OK;
}

brix_status brix_writer_user_add(brix_writer *writer, brix_text user, uint64_t input, uint64_t output, uint64_t now)
{
    const brix_topology *topology = active_topology(writer);
    if (!topology)
        return BRIX_MISSING;
    brix_fair fair = brix_fair_of(topology);
    return brix_user_add(&writer->map, &fair, user, input, output, now);
}
