/*
 * intake.h: how the body of a request is read, by the kind of its path.
 *
 *   chunk --> JSON scanner (scan.h) --> text for routing | values inside of an embeddings' input (embeddings.h)
 *         '-> multipart form (multipart.h), for audio
 *
 * A flow has one; both hosts feed it as chunks arrive and ask for the fault once the body is over.
 */
#ifndef BRIX_INTAKE_H
#define BRIX_INTAKE_H

#include "bpe.h"
#include "embeddings.h"
#include "endpoint.h"
#include "multipart.h"

#define BRIX_COUNTED_TOKENS 1000000 /* of a text that `auto` looks at; more count as these */

typedef struct {
    const brix_endpoint *endpoint;
    const brix_vocabulary *vocabulary;
    int counts_text; /* for `auto`, all of it; inputs of embeddings are counted one by one */
    uint64_t text_bytes; /* of the prompt, the messages, the inputs, or the documents */
    uint64_t query_bytes; /* of a query, which stands before its documents */
    brix_scan scan;
    brix_form form;
    brix_embedding embedding;
    brix_count count;
    brix_count query; /* apart, since documents may come first; blanks at its end make a token more at most */
} brix_intake;

/* A content-type of the request; the last one counts. */
void brix_intake_type(brix_intake *intake, brix_text content_type);
/* Ready for the first chunk. model takes the model's name, cut at capacity. With a vocabulary the inputs of embeddings
   are counted; with counts_text any text. */
void brix_intake_begin(brix_intake *intake, const brix_endpoint *endpoint, char *model, size_t capacity,
                       const brix_vocabulary *vocabulary, int counts_text);
/* 1 when tokens are counted, so that a byte may cost much more than a look. */
int brix_intake_counts(const brix_intake *intake);
/* How long the text is. */
static inline uint64_t brix_intake_bytes(const brix_intake *intake)
{
    return intake->query_bytes + intake->text_bytes;
}
void brix_intake_feed(brix_intake *intake, brix_text chunk);
/* 1 when nothing that follows can change what was read. */
int brix_intake_is_complete(const brix_intake *intake);
/* The model that the body names, not longer than its capacity; may be empty. */
brix_text brix_intake_model(const brix_intake *intake, size_t capacity);
int brix_intake_streams(const brix_intake *intake);
/* What `auto` profiles look at; once, after the last chunk. */
void brix_intake_features(brix_intake *intake, brix_request *request);
/* 1 and the fault when the body, which is over, is refused. */
int brix_intake_faults(brix_intake *intake, brix_fault *fault);

#endif
