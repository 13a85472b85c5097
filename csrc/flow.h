/*
 * flow.h: one HTTP request from its first header to its last byte, the same for every host.
 *
 *   OPEN --headers--> HEADERS --body, end--> ROUTED --response headers--> ANSWERING --end--> SETTLED
 *     '------------------'---- local reply ----'------------------------------'-----------> SETTLED
 *
 * The host hands in each event and does what the action says. Whatever the order of events, the books are
 * closed once: by the last byte, by a reply of ours, or by brix_flow_end. Nothing is decided before the
 * headers have passed, nothing twice. scratch is memory for texts of the action, of the host's.
 */
#ifndef BRIX_FLOW_H
#define BRIX_FLOW_H

#include "action.h"
#include "intake.h"
#include "names.h"
#include "order.h"
#include "reader.h"
#include "session.h"
#include "stream_usage.h"
#include "usage.h"

#define BRIX_REQUEST_ID 36
#define BRIX_MODEL_LIMIT 1024
#define BRIX_FILTER_LIMIT 2048
#define BRIX_TRY_NS 2000000000ull
#define BRIX_USER_LIMIT 256
#define BRIX_PROFILE_ASKED 128
#define BRIX_ERROR_LIMIT 32768 /* bytes of an engine's error that are kept to be normalised */

typedef enum { FLOW_OPEN, FLOW_HEADERS, FLOW_ROUTED, FLOW_ANSWERING } brix_stage;

struct brix_flow {
    _Atomic uint32_t link; /* of the reader's list of free flows */
    uint32_t index;
    brix_reader *reader;
    brix_view *view;
    brix_stage stage;
    brix_outcome outcome;
    uint32_t code;
    uint32_t status; /* of the upstream's answer */
    const brix_endpoint *endpoint;
    brix_text authorization; /* valid inside the headers event only */
    uint64_t body_length;
    uint64_t announced; /* content-length */
    uint64_t held;      /* bytes of the body that count against the reader's bound */
    uint32_t model_length;
    uint32_t error_length;
    uint16_t strategy_length;
    uint16_t filter_length;
    uint16_t user_length;
    uint16_t profile_length;
    uint16_t session_id_length;
    uint16_t session_key_length;
    uint8_t request_id_length;
    uint8_t has_trace; /* the id came from the caller's span */
    uint8_t is_post;
    uint8_t is_streaming;
    uint8_t is_encoded; /* the answer is compressed: not ours to read */
    uint8_t is_error;   /* the answer's body is being normalised */
    uint8_t passes_error;
    uint8_t leaves_streams; /* nothing is asked for that the client did not */
    uint8_t hides_usage;    /* usage was asked for by us: the client does not see it */
    brix_events events;
    uint8_t too_many;   /* more names to remove than an action holds */
    uint8_t strategy_cut;
    uint8_t filter_cut;
    uint8_t tries;      /* pods that were chosen before and could not be reached */
    uint8_t unanswered; /* the host learned that the pod gave no byte */
    uint8_t skips_body; /* the host was told that the answer's body is not wanted */
    uint8_t is_local;   /* the host learned that the answer is its own */
    uint8_t is_noted;   /* the host has what its log and its spans show of the end */
    uint8_t holders;    /* for the host: how many of its streams still know this flow */
    uint8_t user_cut;   /* the user's name is too long to be anybody's */
    uint8_t is_admitted;
    uint8_t is_whole;   /* the body was, when the request was decided */
    uint8_t asks;       /* a question is with the collector */
    uint8_t waits;      /* for the host: the kind of message that waits for its answer */
    uint8_t update_length;
    uint8_t is_late;    /* for the host: bytes of the body wait to be told */
    uint8_t stands;     /* for the host: the request stands until they are, 1 from its body's end, 2 from trailers */
    uint8_t whole_bodies; /* the host keeps the body back: no decision before its end or its trailers */
    uint32_t tried[BRIX_TRIES];
    brix_names names;   /* for the host: of the headers that the request has */
    uint64_t begun_at;       /* CLOCK_MONOTONIC in nanoseconds, as these: */
    uint64_t decided_at;     /* the first choice */
    uint64_t first_chunk_at; /* the first chunk of a stream that carries content; see times.h */
    uint8_t has_content;     /* one did */
    char request_id[BRIX_REQUEST_ID];
    char content_length[20];
    char update[12]; /* requests of the user in this minute, when they are counted */
    brix_text question;
    brix_text kept; /* for ext_proc: a changed body that waits with its request, in the caller's output */
    uint64_t kept_to; /* bytes of that output that are in use */
    brix_decision decision;
    brix_order order;
    brix_usage usage;
    brix_intake intake;
    char strategy[BRIX_STRATEGY];
    char filter[BRIX_FILTER_LIMIT];
    char user[BRIX_USER_LIMIT];
    char profile[BRIX_PROFILE_ASKED];
    char session_id[BRIX_SESSION_ID]; /* as it came; of the pod that served, once it answers */
    char session_key[BRIX_SESSION_KEY];
    char model[BRIX_MODEL_LIMIT];
    char error[BRIX_ERROR_LIMIT]; /* or the begin of an event */
};

size_t brix_flow_bytes(void);

/* Each header of the request, then headers_done once. end: no body follows. */
void brix_flow_request_header(brix_flow *flow, brix_text name, brix_text value, brix_action *action);
void brix_flow_request_headers_done(brix_flow *flow, int end, brix_out *scratch, brix_action *action);
/* A chunk of the request's body. The pod is chosen with end, or as soon as the object is complete (a body that
   trailers follow never says end), unless the host asked for whole bodies. */
void brix_flow_request_body(brix_flow *flow, brix_text chunk, int end, brix_out *scratch, brix_action *action);
/* The collector answered the question of an action ASK; empty: not in time. The action is that of the event which
   had to wait. */
void brix_flow_answered(brix_flow *flow, brix_text answer, brix_out *scratch, brix_action *action);
/* Trailers end the body: what is no complete object is refused. */
void brix_flow_request_trailers(brix_flow *flow, brix_out *scratch, brix_action *action);

/* 1 when the body that comes is counted by tokens: its bytes may cost much more than a look. */
int brix_flow_counts(const brix_flow *flow);
/* 1 when the body, whose last byte was told, should ask for usage; the host changes it and says so. */
int brix_flow_wants_edit(const brix_flow *flow, brix_edit *edit);
void brix_flow_edited(brix_flow *flow, const brix_edit *edit);
/* The same for a host that hands on chunks: the edit is made in this one, which was told, if it lies there. */
void brix_flow_edit_chunk(brix_flow *flow, brix_text chunk, brix_out *scratch, brix_action *action);

/* The chosen pod could not be connected, or broke off before any byte of an answer. 1: the flow is open again, for
   the same request from its first header on, and will choose another pod (at most BRIX_TRIES pods within
   BRIX_TRY_NS); 0: it stays as it is. */
int brix_flow_try_again(brix_flow *flow);

/* Envoy's words for an upstream that was lost before its answer began; an overflow is Envoy's own limit. */
int brix_means_unanswered(brix_text details);
/* Before the answer's headers: what the host knows of where they come from, by Envoy's name of the attribute. */
void brix_flow_attribute(brix_flow *flow, brix_text name, brix_text value);
void brix_flow_response_header(brix_flow *flow, brix_text name, brix_text value);
void brix_flow_response_headers_done(brix_flow *flow, int end, brix_out *scratch, brix_action *action);
void brix_flow_response_body(brix_flow *flow, brix_text chunk, int end, brix_out *scratch, brix_action *action);
void brix_flow_response_trailers(brix_flow *flow, brix_action *action);

/* 1: `bytes` of this request's body may be held from here on, until the flow ends. 0: that would be too many. */
int brix_flow_hold(brix_flow *flow, uint64_t bytes);

/* The word for an outcome in logs; empty while there is none. */
brix_text brix_outcome_name(brix_outcome outcome);

/* Close the books with this outcome; the first call counts, later ones change nothing. */
void brix_flow_settle(brix_flow *flow, brix_outcome outcome, uint32_t code);
/* Reply to the client and close the books as rejected. */
void brix_flow_refuse(brix_flow *flow, const brix_refusal *refusal, brix_out *scratch, brix_action *action);

/* Refuse a request whose model a claim is to bring up (claim.c). */
void brix_flow_refuse_claimed(brix_flow *flow, brix_text model, brix_out *scratch, brix_action *action);

/* --- what users and models may take (flow_quota.c) ---- */

/* What the headers tell of the user's limits; nothing is taken. 0: refused. */
int brix_flow_peek(brix_flow *flow, brix_out *scratch, brix_action *action);
/* Take what the decided request takes of its user and its model. 0: refused, or it has to wait for the collector. */
int brix_flow_admit(brix_flow *flow, brix_out *scratch, brix_action *action);
/* Charge the user with what the answer used. */
void brix_flow_charge(const brix_flow *flow);
/* 1 when the stream that the client asks for would not tell it the usage. */
int brix_flow_lacks_usage(const brix_flow *flow);
/* The action of a request that was decided and admitted. */
void brix_flow_send(brix_flow *flow, brix_action *action);

#endif
