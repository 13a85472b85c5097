#define _GNU_SOURCE
#include "segment.h"

#include "quota.h"
#include "times.h"
#include "users.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096u
#define BRIX_USER_ROWS (1 + BRIX_USER_WAYS * BRIX_USER_SETS)

static uint64_t round_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

static int within(uint32_t value, uint32_t least, uint32_t most)
{
    return value >= least && value <= most;
}

int brix_limits_sane(const brix_limits *limits)
{
    return within(limits->models, 1, 1u << 16) && within(limits->pods, 1, 1u << 18) &&
           within(limits->members, 1, 1u << 20) && within(limits->text_bytes, 1024, 1u << 30) &&
           within(limits->readers, 1, BRIX_READERS_LIMIT);
}

static uint32_t table_size(uint32_t models)
{
    uint32_t size = 16;
    while (size < 2 * models)
        size *= 2;
    return size;
}

static uint64_t lay_topology(brix_map *map, const brix_limits *limits)
{
    map->names = table_size(limits->models);
    map->pods_at = sizeof(brix_topology) + (uint64_t)limits->models * sizeof(brix_model_row);
    map->members_at = map->pods_at + (uint64_t)limits->pods * sizeof(brix_pod_row);
    map->names_at = map->members_at + (uint64_t)limits->members * sizeof(uint32_t);
    map->text_at = map->names_at + (uint64_t)map->names * sizeof(uint32_t);
    return round_up(map->text_at + limits->text_bytes, PAGE);
}

static uint64_t slot_stride(const brix_limits *limits)
{
    return round_up(sizeof(brix_slot) + (uint64_t)(limits->models + 1) * sizeof(brix_model_cells) +
                        (uint64_t)limits->pods * sizeof(brix_pod_cells),
                    PAGE);
}

/* Fill map->regions from the limits with what this minor version has; returns the size of the whole. */
static uint64_t lay_out(brix_map *map, const brix_limits *limits, uint32_t minor)
{
    uint64_t slot = slot_stride(limits), topology = lay_topology(map, limits), offset = PAGE;
    uint64_t gauge = round_up((uint64_t)limits->pods * sizeof(uint64_t), 64);
    const brix_region wanted[] = {
        [BRIX_REGION_POD_PLACES] = {0, sizeof(brix_place), limits->pods},
        [BRIX_REGION_MODEL_PLACES] = {0, sizeof(brix_place), limits->models + 1},
        [BRIX_REGION_RETAINED] = {0, slot, 2},
        [BRIX_REGION_TOPOLOGY] = {0, topology, BRIX_TOPOLOGIES},
        [BRIX_REGION_SLOTS] = {0, slot, limits->readers},
        [BRIX_REGION_GAUGES] = {0, gauge, BRIX_GAUGES_LAID_OUT},
        [BRIX_REGION_MORE] = {0, sizeof(brix_more), limits->readers + 2},
        [BRIX_REGION_USERS] = {0, sizeof(brix_user), BRIX_USER_ROWS},
        [BRIX_REGION_LIMITS] = {0, sizeof(brix_limit), BRIX_LIMIT_ROWS},
        [BRIX_REGION_TIMES] = {0, (uint64_t)(limits->models + 1) * sizeof(brix_times), limits->readers + 2},
    };
    static const size_t first_unknown[] = {BRIX_REGION_GAUGES, BRIX_REGION_USERS, BRIX_REGION_LIMITS,
                                           BRIX_REGION_TIMES};
    size_t known = minor < BRIX_MINOR ? first_unknown[minor] : sizeof wanted / sizeof wanted[0];
    memset(map->regions, 0, sizeof map->regions);
    for (size_t i = 0; i < known; i++) {
        map->regions[i] = wanted[i];
        map->regions[i].offset = offset;
        offset = round_up(offset + wanted[i].stride * wanted[i].count, PAGE);
    }
    map->limits = *limits;
    map->bytes = offset;
    return offset;
}

static brix_status map_file(brix_map *map)
{
    void *base = mmap(NULL, map->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, map->file, 0);
    if (base == MAP_FAILED)
        return BRIX_SYSTEM;
    map->base = base;
    return BRIX_OK;
}

static void give_up(brix_map *map)
{
    int reason = errno;
    close(map->file);
    map->file = -1;
    errno = reason;
}

static void write_header(brix_map *map)
{
    brix_header *header = brix_map_header(map);
    header->major = BRIX_MAJOR;
    header->minor = BRIX_MINOR;
    header->bytes = map->bytes;
    header->limits = map->limits;
    memcpy(header->regions, map->regions, sizeof map->regions);
    atomic_store_explicit(&header->state, BRIX_SEGMENT_LIVE, memory_order_relaxed);
    header->magic = BRIX_MAGIC;
}

brix_status brix_map_create(const char *path, const brix_limits *limits, brix_map *map)
{
    if (!brix_limits_sane(limits))
        return BRIX_BAD;
    lay_out(map, limits, BRIX_MINOR);
    map->file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, BRIX_FILE_MODE);
    if (map->file < 0)
        return BRIX_SYSTEM;
    int refused = posix_fallocate(map->file, 0, (off_t)map->bytes);
    if (refused)
        errno = refused;
    if (refused || fchmod(map->file, BRIX_FILE_MODE) != 0 || map_file(map) != BRIX_OK) {
        give_up(map);
        refused = errno;
        unlink(path);
        errno = refused;
        return BRIX_SYSTEM;
    }
    write_header(map);
    return BRIX_OK;
}

/* The facts of the file when it is one that this code can read. */
static brix_status read_facts(int file, uint64_t *bytes, brix_limits *limits, uint32_t *minor)
{
    brix_header header;
    struct stat facts;
    if (fstat(file, &facts) < 0)
        return BRIX_SYSTEM;
    if (pread(file, &header, sizeof header, 0) != (ssize_t)sizeof header)
        return BRIX_FOREIGN;
    if (header.magic != BRIX_MAGIC || header.major != BRIX_MAJOR || !brix_limits_sane(&header.limits))
        return BRIX_FOREIGN;
    if (header.bytes != (uint64_t)facts.st_size)
        return BRIX_FOREIGN;
    *bytes = header.bytes;
    *limits = header.limits;
    *minor = header.minor;
    return BRIX_OK;
}

/* A segment of this major lies as its limits and its minor say; later minors may only be longer. */
static brix_status adopt_layout(brix_map *map)
{
    uint64_t bytes = 0;
    uint32_t minor = 0;
    brix_limits limits;
    brix_status status = read_facts(map->file, &bytes, &limits, &minor);
    if (status != BRIX_OK)
        return status;
    if (lay_out(map, &limits, minor) > bytes)
        return BRIX_FOREIGN;
    map->bytes = bytes;
    return map_file(map);
}

brix_status brix_map_open(const char *path, brix_map *map)
{
    map->file = open(path, O_RDWR | O_CLOEXEC);
    if (map->file < 0)
        return errno == ENOENT ? BRIX_MISSING : BRIX_SYSTEM;
    brix_status status = adopt_layout(map);
    if (status != BRIX_OK)
        give_up(map);
    return status;
}

void brix_map_close(brix_map *map)
{
    if (map->file < 0)
        return;
    munmap(map->base, map->bytes);
    close(map->file);
    map->file = -1;
}

static int byte_lock(int file, uint64_t offset, short kind)
{
    struct flock lock = {.l_type = kind, .l_whence = SEEK_SET, .l_start = (off_t)offset, .l_len = 1};
    return fcntl(file, F_OFD_SETLK, &lock);
}

brix_status brix_lock(int file, uint64_t offset)
{
    return byte_lock(file, offset, F_WRLCK) == 0 ? BRIX_OK : BRIX_BUSY;
}

void brix_unlock(int file, uint64_t offset)
{
    byte_lock(file, offset, F_UNLCK);
}

int64_t brix_topology_find(const brix_map *map, brix_topology *topology, brix_text name)
{
    uint32_t *names = brix_topology_names(map, topology), mask = map->names - 1;
    uint32_t at = (uint32_t)brix_name_hash(name) & mask;
    for (uint32_t tries = 0; tries < map->names; tries++, at = (at + 1) & mask) {
        uint32_t entry = names[at];
        if (entry == 0 || entry > map->limits.models)
            return -1;
        brix_model_row *row = brix_topology_model(topology, entry - 1);
        if (brix_text_is(brix_topology_text(map, topology, row->name), name))
            return entry - 1;
    }
    return -1;
}
