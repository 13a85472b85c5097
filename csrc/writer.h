/*
 * writer.h: the inside of the one writer.
 *
 *   .-- map: the segment written to            .-- old: what it replaces, until its readers left
 *   |   active ---> topology 2                 |
 *   |   building -> topology 0 (unreachable)   |
 *   '-- places: used | departed | free         '-- its counters are folded into map
 *
 * pods and models are tables from key to place, in the writer's own memory, as is the history of scrapes.
 */
#ifndef BRIX_WRITER_H
#define BRIX_WRITER_H

#include "probe.h"
#include "segment.h"

typedef struct {
    uint32_t *slots; /* place plus one, 0: empty */
    uint32_t mask;
    uint8_t *named; /* by place: named by the topology being built */
} brix_index;

struct brix_writer {
    char *path;
    char *fresh; /* path of a segment not yet published */
    char *aside;
    int lock;
    int unpublished;
    int foreign; /* the file at path is none of ours: it is kept as path + ".foreign" */
    brix_map map;
    brix_map old;
    brix_topology *building;
    uint32_t building_index;
    uint32_t users_stamp; /* of the list of users that is in force */
    brix_index pods;
    brix_index models;
    brix_probe *probes; /* by pod place: what earlier scrapes said */
};

/* Keep a text in the topology that is being written. */
brix_status brix_put_text(brix_writer *writer, brix_text text, brix_span *span);
/* A stable place for this key, a new generation when it is a new one. FULL when none is free. */
brix_status brix_place_pod(brix_writer *writer, brix_text key, uint32_t *place);
brix_status brix_place_model(brix_writer *writer, brix_text name, uint32_t *place);
/* Read the places of the segment into the index anew. */
void brix_index_load(brix_writer *writer);
/* Place of a key in a map, or -1. */
int64_t brix_place_find(const brix_map *map, brix_region_id region, const uint8_t key[BRIX_KEY]);

/* Add what a row of `from` counted, there and at this index of brix_map_more, to the retained row of the writer's
   segment. slot: the row's number when it lies in that segment, -1 otherwise. */
void brix_fold(brix_writer *writer, const brix_map *from, brix_slot *row, uint32_t index, int64_t slot);
/* End a fold that a killed writer left half done. */
void brix_fold_recover(const brix_map *map);
/* 1 when a reader may be looking at this topology. */
int brix_is_pinned(const brix_map *map, uint32_t topology);

#endif
