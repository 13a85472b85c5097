#include "profile.h"

#include "writer.h"

#define IS_DEFAULT 16u

typedef struct {
    brix_span name;
    brix_span strategy;
    uint32_t flags; /* mask of the hints, and IS_DEFAULT */
    uint32_t requests_per_second;
    int64_t hint[BRIX_HINTS];
} profile_row;

/* --- the writer's side ------------------------------------------------------------------ */

static brix_status put_row(brix_writer *writer, const brix_profile *profile, profile_row *row)
{
    memset(row, 0, sizeof *row);
    row->flags = (profile->hints & (IS_DEFAULT - 1)) | (profile->is_default ? IS_DEFAULT : 0);
    row->requests_per_second = profile->requests_per_second;
    memcpy(row->hint, profile->hint, sizeof row->hint);
    brix_status status = brix_put_text(writer, profile->name, &row->name);
    return status == BRIX_OK ? brix_put_text(writer, profile->strategy, &row->strategy) : status;
}

brix_status brix_writer_profiles(brix_writer *writer, brix_text locked, const brix_profile *profiles, uint32_t count)
{
    profile_row rows[BRIX_PROFILES];
    brix_topology *topology = writer->building;
    if (!topology || topology->models == 0 || count > BRIX_PROFILES)
        return BRIX_BAD;
    brix_model_row *model = brix_topology_model(topology, topology->models - 1);
    brix_status status = brix_put_text(writer, locked, &model->locked);
    for (uint32_t i = 0; i < count && status == BRIX_OK; i++)
        status = put_row(writer, &profiles[i], &rows[i]);
    if (status != BRIX_OK)
        return status;
    return brix_put_text(writer, (brix_text){(const char *)rows, count * sizeof rows[0]}, &model->profiles);
}

/* --- the reader's side ------------------------------------------------------------------ */

int brix_profile_is_auto(brix_text wanted)
{
    return brix_text_folds(wanted, BRIX_LITERAL("auto"));
}

/* An unknown feature fulfils no hint. */
static int holds(const profile_row *row, const brix_request *request)
{
    const int64_t features[] = {(int64_t)request->prompt_tokens, request->max_tokens};
    for (uint32_t i = 0; i < BRIX_HINTS; i++) {
        if (!(row->flags >> i & 1))
            continue;
        int64_t feature = features[i / 2];
        if (!(request->knows >> (i / 2) & 1) || (i % 2 ? feature >= row->hint[i] : feature < row->hint[i]))
            return 0;
    }
    return (row->flags & (IS_DEFAULT - 1)) != 0;
}

/* More hints, then larger lower bounds and smaller upper ones, prompt before answer. */
static int is_better(const profile_row *row, const profile_row *best)
{
    int more = __builtin_popcount(row->flags & (IS_DEFAULT - 1)) - __builtin_popcount(best->flags & (IS_DEFAULT - 1));
    if (more != 0)
        return more > 0;
    for (uint32_t i = 0; i < BRIX_HINTS; i++) {
        int64_t absent = i % 2 ? INT64_MAX : 0;
        int64_t mine = row->flags >> i & 1 ? row->hint[i] : absent, other = best->flags >> i & 1 ? best->hint[i] : absent;
        if (mine != other)
            return i % 2 ? mine < other : mine > other;
    }
    return 0;
}

static profile_row row_at(brix_text rows, size_t index)
{
    profile_row row;
    memcpy(&row, rows.at + index * sizeof row, sizeof row);
    return row;
}

/* Index of the one that the request gets, or -1. */
static int64_t choose(const brix_map *map, brix_topology *topology, brix_text rows, const brix_request *request)
{
    int64_t fallback = -1, best = -1;
    profile_row best_row = {0};
    int is_auto = brix_profile_is_auto(request->profile);
    for (size_t i = 0; i < rows.length / sizeof(profile_row); i++) {
        profile_row row = row_at(rows, i);
        if (row.flags & IS_DEFAULT)
            fallback = (int64_t)i;
        int fits = is_auto ? holds(&row, request) && (best < 0 || is_better(&row, &best_row))
                           : request->profile.length > 0 &&
                                 brix_text_is(brix_topology_text(map, topology, row.name), request->profile);
        if (!fits)
            continue;
        best = (int64_t)i;
        best_row = row;
    }
    return best >= 0 ? best : fallback;
}

brix_profile_choice brix_profile_choose(const brix_map *map, brix_topology *topology, const brix_model_row *model,
                                        const brix_request *request)
{
    brix_text rows = brix_topology_text(map, topology, model->profiles);
    brix_profile_choice choice = {.locked = brix_topology_text(map, topology, model->locked)};
    int64_t index = rows.length > 0 ? choose(map, topology, rows, request) : -1;
    if (index < 0)
        return choice;
    profile_row row = row_at(rows, (size_t)index);
    choice.name = brix_topology_text(map, topology, row.name);
    choice.strategy = brix_topology_text(map, topology, row.strategy);
    choice.requests_per_second = row.requests_per_second;
    choice.is_auto = brix_profile_is_auto(request->profile);
    return choice;
}
