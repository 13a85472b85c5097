/*
 * session.h: the pod that a client's session sticks to, without any state of ours.
 *
 *   x-session-id: base64("ip:port")           -> the candidate at that address
 *   x-aibrix-session-key: 1 to 256 bytes      -> the candidate with the highest FNV-1a(key, 0, address);
 *                                                of equals the lesser address
 * The id wins over the key. What cannot be read, or names no candidate, is as absent.
 */
#ifndef BRIX_SESSION_H
#define BRIX_SESSION_H

#include "text.h"

#define BRIX_SESSION_ID 108 /* base64 of BRIX_ADDRESS bytes */
#define BRIX_SESSION_KEY 256
#define BRIX_NOWHERE UINT32_MAX

typedef struct {
    brix_text key;
    uint32_t by_id; /* place of the pod, BRIX_NOWHERE: none */
    uint32_t by_key;
    uint64_t weight;
    brix_text best; /* address of by_key */
    size_t wanted_length;
    char wanted[BRIX_ADDRESS];
} brix_session;

void brix_session_begin(brix_session *session, brix_text id, brix_text key);
/* Show a candidate; addresses must live as long as the session is shown others. */
void brix_session_consider(brix_session *session, brix_text address, uint32_t place);
/* The place that the session sticks to, or BRIX_NOWHERE. */
uint32_t brix_session_place(const brix_session *session);

uint64_t brix_session_weight(brix_text key, brix_text address);
/* Standard base64 of an address; target holds BRIX_SESSION_ID bytes. Returns the length. */
size_t brix_session_id(brix_text address, char *target);

#endif
