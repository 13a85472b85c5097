/*
 * action.h: what a host has to do after it told the flow something.
 *
 *   CONTINUE  set headers, remove headers, maybe put `body` in place of the one it has
 *   REPLY     answer the client itself: status, set headers, body
 *   ASK       put `question` to the collector, keep the request back, and tell the flow the answer
 *
 * Texts point into the flow, the message just given, static memory or the scratch: they hold until the
 * next call.
 */
#ifndef BRIX_ACTION_H
#define BRIX_ACTION_H

#include "out.h"

#define BRIX_SETS 12
#define BRIX_REMOVES 40

typedef enum { BRIX_CONTINUE, BRIX_REPLY, BRIX_ASK } brix_action_kind;

typedef struct {
    brix_text name;
    brix_text value;
} brix_header_line;

typedef struct {
    brix_action_kind kind;
    uint32_t status;
    uint32_t sets;
    uint32_t removes;
    uint32_t ask_ms; /* of ASK: how long the answer may take */
    int clear_route_cache;
    int body_changed;
    int skips_body; /* nothing of the answer's body is needed: the host may keep it to itself */
    brix_text body;
    brix_text question;
    brix_header_line set[BRIX_SETS];
    brix_text remove[BRIX_REMOVES];
} brix_action;

/* An error of ours in the OpenAI envelope. message is before + subject + after, subject as it came. */
typedef struct {
    uint32_t status;
    brix_text marker; /* header name, length 0: none */
    brix_text marker_value;
    brix_text before;
    brix_text subject;
    brix_text after;
    brix_text code; /* at NULL: null */
    brix_text param;
} brix_refusal;

void brix_action_begin(brix_action *action);
void brix_action_set(brix_action *action, brix_text name, brix_text value);
/* 0 when there is no room for another name. */
int brix_action_remove(brix_action *action, brix_text name);
/* Turn the action into the reply; its body is written to scratch. */
void brix_action_refuse(brix_action *action, brix_out *scratch, const brix_refusal *refusal);
/* The type of an error with this status (gateway 7). */
brix_text brix_error_type(uint32_t status);

#endif
