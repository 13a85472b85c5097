/*
 * module_abi.h: what Envoy's dynamic module ABI v0.2.0 and this module say to each other, declared anew.
 *
 *      Envoy worker                                module
 *      filter chain made  -- on_..._new -------->  stream (a flow of ours, or none)
 *      headers, body      -- on_..._request_* -->  status: go on, stop, stop and buffer
 *                         <- callback_http_* ----  read and change headers and bodies, reply, decide again
 *      stream over        -- on_..._stream_complete, on_..._destroy -->
 *
 * Names and meaning are those of source/extensions/dynamic_modules/abi/abi.h in Envoy; only what an HTTP
 * filter needs stands here. tests/csrc/test_module_abi.py compares it with the pinned Envoy. Pointers named
 * host and config belong to Envoy, stream and made to us. Texts of Envoy hold until the hook returns.
 */
#ifndef BRIX_MODULE_ABI_H
#define BRIX_MODULE_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ENVOY_ABI_VERSION "v0.2.0"

typedef struct {
    const char *at;
    size_t length;
} envoy_text;

typedef struct {
    const char *name;
    size_t name_length;
    const char *value;
    size_t value_length;
} envoy_header;

typedef enum { ENVOY_REQUEST_HEADERS, ENVOY_REQUEST_TRAILERS, ENVOY_RESPONSE_HEADERS } envoy_header_map;
typedef enum { ENVOY_RECEIVED_REQUEST, ENVOY_BUFFERED_REQUEST, ENVOY_RECEIVED_RESPONSE } envoy_body;
typedef enum { ENVOY_LOG_INFO = 2, ENVOY_LOG_WARN = 3 } envoy_log_level;

/* What a hook answers: the same numbers for headers, bodies and trailers where they have them. */
enum {
    ENVOY_CONTINUE = 0,
    ENVOY_STOP = 1,            /* headers and trailers */
    ENVOY_STOP_AND_BUFFER = 1, /* bodies */
    ENVOY_STOP_NO_BUFFER = 3,  /* bodies */
};

bool envoy_dynamic_module_callback_http_get_header(void *host, int map, envoy_text name, envoy_text *value,
                                                   size_t index, size_t *count);
size_t envoy_dynamic_module_callback_http_get_headers_size(void *host, int map);
bool envoy_dynamic_module_callback_http_get_headers(void *host, int map, envoy_header *headers);
/* One more of this name. */
bool envoy_dynamic_module_callback_http_add_header(void *host, int map, envoy_text name, envoy_text value);
/* Replaces all of this name; an empty value removes them. */
bool envoy_dynamic_module_callback_http_set_header(void *host, int map, envoy_text name, envoy_text value);
size_t envoy_dynamic_module_callback_http_get_body_size(void *host, int body);
size_t envoy_dynamic_module_callback_http_get_body_chunks_size(void *host, int body);
bool envoy_dynamic_module_callback_http_get_body_chunks(void *host, int body, envoy_text *chunks);
bool envoy_dynamic_module_callback_http_append_body(void *host, int body, envoy_text data);
bool envoy_dynamic_module_callback_http_drain_body(void *host, int body, size_t bytes);
/* The response hooks are not called for it. */
void envoy_dynamic_module_callback_http_send_response(void *host, uint32_t status, envoy_header *headers,
                                                      size_t count, envoy_text body, envoy_text details);
void envoy_dynamic_module_callback_http_clear_route_cache(void *host);
/* What the access log reads as %FILTER_STATE(key:PLAIN)%. */
bool envoy_dynamic_module_callback_http_set_filter_state_bytes(void *host, envoy_text key, envoy_text value);
/* What is committed comes back as ..._scheduled on the same worker, if the stream is still there. */
void *envoy_dynamic_module_callback_http_filter_scheduler_new(void *host);
void envoy_dynamic_module_callback_http_filter_scheduler_commit(void *scheduler, uint64_t event);
void envoy_dynamic_module_callback_http_filter_scheduler_delete(void *scheduler);
/* Run the request through all filters again; with true the stream, and so our own, is gone on return. */
bool envoy_dynamic_module_callback_http_filter_recreate_stream(void *host, envoy_header *headers, size_t count);
/* What came of trying to ask; 0: the answer comes to ..._http_callout_done. Headers must name method, path, host. */
int envoy_dynamic_module_callback_http_filter_http_callout(void *host, uint64_t *id, envoy_text cluster,
                                                           envoy_header *headers, size_t count, envoy_text body,
                                                           uint64_t timeout_ms);
/* Go on with a request that a hook held back. */
void envoy_dynamic_module_callback_http_filter_continue_decoding(void *host);
void envoy_dynamic_module_callback_log(int level, envoy_text message);

#define ENVOY_HOOK __attribute__((visibility("default")))

ENVOY_HOOK const char *envoy_dynamic_module_on_program_init(void);

ENVOY_HOOK const void *envoy_dynamic_module_on_http_filter_config_new(void *config, envoy_text name, envoy_text text);
ENVOY_HOOK void envoy_dynamic_module_on_http_filter_config_destroy(const void *made);
ENVOY_HOOK const void *envoy_dynamic_module_on_http_filter_per_route_config_new(envoy_text name, envoy_text text);
ENVOY_HOOK void envoy_dynamic_module_on_http_filter_per_route_config_destroy(const void *made);

ENVOY_HOOK const void *envoy_dynamic_module_on_http_filter_new(const void *made, void *host);
ENVOY_HOOK int envoy_dynamic_module_on_http_filter_request_headers(void *host, const void *stream, bool end);
ENVOY_HOOK int envoy_dynamic_module_on_http_filter_request_body(void *host, const void *stream, bool end);
ENVOY_HOOK int envoy_dynamic_module_on_http_filter_request_trailers(void *host, const void *stream);
ENVOY_HOOK int envoy_dynamic_module_on_http_filter_response_headers(void *host, const void *stream, bool end);
ENVOY_HOOK int envoy_dynamic_module_on_http_filter_response_body(void *host, const void *stream, bool end);
ENVOY_HOOK int envoy_dynamic_module_on_http_filter_response_trailers(void *host, const void *stream);
/* Envoy replies by itself: before the response hooks see that reply. */
ENVOY_HOOK int envoy_dynamic_module_on_http_filter_local_reply(void *host, const void *stream, uint32_t status,
                                                               envoy_text details, bool reset_imminent);
ENVOY_HOOK void envoy_dynamic_module_on_http_filter_stream_complete(void *host, const void *stream);
ENVOY_HOOK void envoy_dynamic_module_on_http_filter_destroy(const void *stream);

/* result 0: an answer came. */
ENVOY_HOOK void envoy_dynamic_module_on_http_filter_http_callout_done(void *host, const void *stream, uint64_t id,
                                                                      int result, envoy_header *headers, size_t count,
                                                                      envoy_text *body, size_t chunks);

/* Envoy looks these up as well; this module starts nothing that would call them. */
ENVOY_HOOK void envoy_dynamic_module_on_http_filter_scheduled(void *host, const void *stream, uint64_t event);
ENVOY_HOOK void envoy_dynamic_module_on_http_filter_http_stream_headers(void *host, const void *stream, uint64_t id,
                                                                        envoy_header *headers, size_t count, bool end);
ENVOY_HOOK void envoy_dynamic_module_on_http_filter_http_stream_data(void *host, const void *stream, uint64_t id,
                                                                     const envoy_text *data, size_t count, bool end);
ENVOY_HOOK void envoy_dynamic_module_on_http_filter_http_stream_trailers(void *host, const void *stream, uint64_t id,
                                                                         envoy_header *trailers, size_t count);
ENVOY_HOOK void envoy_dynamic_module_on_http_filter_http_stream_complete(void *host, const void *stream, uint64_t id);
ENVOY_HOOK void envoy_dynamic_module_on_http_filter_http_stream_reset(void *host, const void *stream, uint64_t id,
                                                                      int reason);
ENVOY_HOOK void envoy_dynamic_module_on_http_filter_downstream_above_write_buffer_high_watermark(void *host,
                                                                                                 const void *stream);
ENVOY_HOOK void envoy_dynamic_module_on_http_filter_downstream_below_write_buffer_low_watermark(void *host,
                                                                                                const void *stream);
ENVOY_HOOK void envoy_dynamic_module_on_http_filter_config_scheduled(void *config, const void *made, uint64_t event);
ENVOY_HOOK void envoy_dynamic_module_on_http_filter_config_http_callout_done(void *config, const void *made,
                                                                             uint64_t id, int result,
                                                                             envoy_header *headers, size_t count,
                                                                             envoy_text *body, size_t chunks);
ENVOY_HOOK void envoy_dynamic_module_on_http_filter_config_http_stream_headers(void *config, const void *made,
                                                                               uint64_t id, envoy_header *headers,
                                                                               size_t count, bool end);
ENVOY_HOOK void envoy_dynamic_module_on_http_filter_config_http_stream_data(void *config, const void *made, uint64_t id,
                                                                            const envoy_text *data, size_t count,
                                                                            bool end);
ENVOY_HOOK void envoy_dynamic_module_on_http_filter_config_http_stream_trailers(void *config, const void *made,
                                                                                uint64_t id, envoy_header *trailers,
                                                                                size_t count);
ENVOY_HOOK void envoy_dynamic_module_on_http_filter_config_http_stream_complete(void *config, const void *made,
                                                                                uint64_t id);
ENVOY_HOOK void envoy_dynamic_module_on_http_filter_config_http_stream_reset(void *config, const void *made,
                                                                             uint64_t id, int reason);

#endif
