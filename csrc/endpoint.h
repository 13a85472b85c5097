/*
 * endpoint.h: the paths that are routed by model, and what their bodies must hold.
 *
 *   ":path" -> [ /v1/chat/completions ][?query] -> endpoint -> faults of a scanned body
 *
 * A query and one trailing slash do not matter. Texts of the faults are part of the public contract.
 */
#ifndef BRIX_ENDPOINT_H
#define BRIX_ENDPOINT_H

#include "scan.h"

typedef enum {
    BRIX_CHAT,
    BRIX_MESSAGES,
    BRIX_COMPLETIONS,
    BRIX_RESPONSES,
    BRIX_EMBEDDINGS,
    BRIX_RERANK,
    BRIX_CLASSIFY,
    BRIX_IMAGES,
    BRIX_VIDEO,
    BRIX_TRANSCRIPTIONS,
    BRIX_TRANSLATIONS,
    BRIX_ENDPOINTS,
} brix_endpoint_id;

typedef struct {
    brix_endpoint_id id;
    brix_text path;
    brix_text_source text;
    int streams;      /* its member stream counts */
    int has_usage;    /* its answers are JSON with usage */
    int is_form;      /* its body is multipart/form-data */
    brix_text xdit;   /* the path that an xdit engine has for it; at NULL: the same */
} brix_endpoint;

#define BRIX_BODY_MARKER BRIX_LITERAL("x-error-request-body-processing")

typedef struct {
    brix_text message;
    brix_text param; /* at NULL: none */
    brix_text marker; /* the header that says so */
} brix_fault;

/* The endpoint of a :path, or NULL. */
const brix_endpoint *brix_endpoint_find(brix_text path);
/* 1 and the fault when the body is refused. */
int brix_endpoint_faults(const brix_endpoint *endpoint, const brix_scan *scan, brix_fault *fault);
/* 1 when the scanned body asks for a stream. */
int brix_endpoint_streams(const brix_endpoint *endpoint, const brix_scan *scan);

#endif
