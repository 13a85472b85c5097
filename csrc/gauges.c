#define _GNU_SOURCE
#include "gauges.h"

#include <math.h>

#include "writer.h"

void brix_gauge_write(const brix_map *map, uint32_t place, uint32_t generation, uint64_t taken,
                      const double values[BRIX_GAUGES])
{
    _Atomic uint64_t *stamp = brix_gauge_row(map, BRIX_GAUGE_TAKEN) + place;
    if (brix_gauge_bits(map, BRIX_GAUGE_OWNER, place) != generation)
        atomic_store_explicit(stamp, 0, memory_order_seq_cst);
    for (uint32_t gauge = BRIX_GAUGE_LOCAL; gauge < BRIX_GAUGES; gauge++) {
        uint64_t bits;
        memcpy(&bits, &values[gauge], sizeof bits);
        atomic_store_explicit(brix_gauge_row(map, gauge) + place, bits, memory_order_relaxed);
    }
    atomic_store_explicit(brix_gauge_row(map, BRIX_GAUGE_OWNER) + place, generation, memory_order_relaxed);
    atomic_store_explicit(stamp, taken, memory_order_release);
}

static const brix_pod_row *published_pod(const brix_writer *writer, uint32_t index)
{
    uint32_t active = atomic_load_explicit(&brix_map_header(&writer->map)->active, memory_order_relaxed);
    if (active == 0)
        return NULL;
    brix_topology *topology = brix_map_topology(&writer->map, active - 1);
    return index < topology->pods ? brix_topology_pod(&writer->map, topology, index) : NULL;
}

brix_status brix_writer_gauges(brix_writer *writer, uint32_t index, const brix_sample *sample)
{
    const brix_pod_row *pod = published_pod(writer, index);
    if (!pod)
        return BRIX_MISSING;
    uint64_t taken = (uint64_t)(sample->values[BRIX_GAUGE_TAKEN] * 1e9);
    brix_gauge_write(&writer->map, pod->place, pod->generation, taken, sample->values);
    return BRIX_OK;
}

brix_status brix_writer_scrape(brix_writer *writer, uint32_t index, const brix_scrape *scrape)
{
    const brix_pod_row *pod = published_pod(writer, index);
    double values[BRIX_GAUGES];
    brix_reading reading;
    if (!pod)
        return BRIX_MISSING;
    brix_status status = brix_metrics_read(scrape, &reading);
    if (status != BRIX_OK)
        return status;
    brix_probe_take(&writer->probes[pod->place], pod->generation, &reading, scrape, values);
    brix_gauge_write(&writer->map, pod->place, pod->generation, scrape->now, values);
    return BRIX_OK;
}

brix_status brix_writer_sample(brix_writer *writer, uint32_t index, uint64_t now, brix_sample *sample)
{
    const brix_pod_row *pod = published_pod(writer, index);
    if (!pod)
        return BRIX_MISSING;
    const brix_map *map = &writer->map;
    int fresh = brix_gauge_is_fresh(map, pod->place, pod->generation, brix_gauge_oldest(now));
    for (uint32_t gauge = 0; gauge < BRIX_GAUGES; gauge++)
        sample->values[gauge] = fresh ? brix_gauge_read(map, gauge, pod->place) : NAN;
    if (!fresh)
        return BRIX_OK;
    sample->values[BRIX_GAUGE_TAKEN] = (double)brix_gauge_bits(map, BRIX_GAUGE_TAKEN, pod->place) / 1e9;
    sample->values[BRIX_GAUGE_OWNER] = pod->generation;
    return BRIX_OK;
}
