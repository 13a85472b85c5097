#define _GNU_SOURCE
#include "writer.h"

#include "quota.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char *joined(const char *path, const char *ending)
{
    size_t length = strlen(path) + strlen(ending) + 1;
    char *both = malloc(length);
    if (both)
        snprintf(both, length, "%s%s", path, ending);
    return both;
}

static brix_status take_lock(brix_writer *writer)
{
    char *path = joined(writer->path, ".lock");
    if (!path)
        return BRIX_SYSTEM;
    writer->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, BRIX_FILE_MODE);
    free(path);
    if (writer->lock < 0)
        return BRIX_SYSTEM;
    fchmod(writer->lock, BRIX_FILE_MODE);
    return brix_lock(writer->lock, 0);
}

static int same_limits(const brix_limits *a, const brix_limits *b)
{
    return a->models == b->models && a->pods == b->pods && a->members == b->members &&
           a->text_bytes == b->text_bytes && a->readers == b->readers;
}

static int is_live(const brix_map *map)
{
    return atomic_load_explicit(&brix_map_header(map)->state, memory_order_acquire) == BRIX_SEGMENT_LIVE;
}

/* Adopt what stands at the path, or prepare what will replace it. */
static brix_status find_segment(brix_writer *writer, const brix_limits *limits, brix_origin *origin)
{
    brix_status status = brix_map_open(writer->path, &writer->map);
    if (status == BRIX_SYSTEM)
        return status;
    if (status == BRIX_OK && same_limits(&writer->map.limits, limits) && is_live(&writer->map) &&
        brix_map_header(&writer->map)->minor >= BRIX_MINOR) {
        brix_fold_recover(&writer->map);
        brix_quota_recover(&writer->map);
        *origin = BRIX_ADOPTED;
        return BRIX_OK;
    }
    *origin = status == BRIX_MISSING ? BRIX_CREATED : BRIX_REPLACED;
    writer->foreign = status == BRIX_FOREIGN;
    if (status == BRIX_OK)
        writer->old = writer->map;
    writer->map.file = -1;
    writer->unpublished = 1;
    unlink(writer->fresh);
    return brix_map_create(writer->fresh, limits, &writer->map);
}

static brix_status make_index(brix_index *index, uint64_t places)
{
    uint32_t size = 16;
    while (size < 4 * places)
        size *= 2;
    index->mask = size - 1;
    index->slots = calloc(size, sizeof index->slots[0]);
    index->named = calloc(places, 1);
    return index->slots && index->named ? BRIX_OK : BRIX_SYSTEM;
}

static brix_status set_up(brix_writer *writer, const brix_limits *limits, brix_origin *origin)
{
    if (!writer->path || !writer->fresh || !writer->aside)
        return BRIX_SYSTEM;
    brix_status status = take_lock(writer);
    if (status == BRIX_OK)
        status = find_segment(writer, limits, origin);
    if (status == BRIX_OK)
        status = make_index(&writer->pods, writer->map.regions[BRIX_REGION_POD_PLACES].count);
    if (status == BRIX_OK)
        status = make_index(&writer->models, writer->map.regions[BRIX_REGION_MODEL_PLACES].count);
    if (status == BRIX_OK)
        brix_index_load(writer);
    if (status == BRIX_OK && !(writer->probes = brix_probes_make(writer->map.limits.pods)))
        status = BRIX_SYSTEM;
    return status;
}

brix_status brix_writer_open(const char *path, const brix_limits *limits, brix_writer **result, brix_origin *origin)
{
    if (!brix_limits_sane(limits))
        return BRIX_BAD;
    brix_writer *writer = calloc(1, sizeof *writer);
    if (!writer)
        return BRIX_SYSTEM;
    writer->lock = writer->map.file = writer->old.file = -1;
    writer->path = joined(path, "");
    writer->fresh = joined(path, ".new");
    writer->aside = joined(path, ".foreign");
    brix_status status = set_up(writer, limits, origin);
    if (status == BRIX_OK) {
        *result = writer;
        return status;
    }
    int reason = errno;
    brix_writer_close(writer);
    errno = reason;
    return status;
}

static void free_index(brix_index *index)
{
    free(index->slots);
    free(index->named);
}

void brix_writer_close(brix_writer *writer)
{
    if (writer->unpublished && writer->map.file >= 0)
        unlink(writer->fresh);
    brix_map_close(&writer->map);
    brix_map_close(&writer->old);
    free_index(&writer->pods);
    free_index(&writer->models);
    free(writer->probes);
    if (writer->lock >= 0)
        close(writer->lock);
    free(writer->path);
    free(writer->fresh);
    free(writer->aside);
    free(writer);
}
