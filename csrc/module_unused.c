/* Hooks that Envoy looks up by name and this module has no use for. */
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include "module_abi.h"

const void *envoy_dynamic_module_on_http_filter_per_route_config_new(envoy_text name, envoy_text text)
{
    return "";
}

void envoy_dynamic_module_on_http_filter_per_route_config_destroy(const void *made) {}


void envoy_dynamic_module_on_http_filter_http_stream_headers(void *host, const void *stream, uint64_t id,
                                                             envoy_header *headers, size_t count, bool end)
{
}

void envoy_dynamic_module_on_http_filter_http_stream_data(void *host, const void *stream, uint64_t id,
                                                          const envoy_text *data, size_t count, bool end)
{
}

void envoy_dynamic_module_on_http_filter_http_stream_trailers(void *host, const void *stream, uint64_t id,
                                                              envoy_header *trailers, size_t count)
{
}

void envoy_dynamic_module_on_http_filter_http_stream_complete(void *host, const void *stream, uint64_t id) {}

void envoy_dynamic_module_on_http_filter_http_stream_reset(void *host, const void *stream, uint64_t id, int reason) {}

void envoy_dynamic_module_on_http_filter_downstream_above_write_buffer_high_watermark(void *host, const void *stream)
{
}

void envoy_dynamic_module_on_http_filter_downstream_below_write_buffer_low_watermark(void *host, const void *stream)
{
}

void envoy_dynamic_module_on_http_filter_config_scheduled(void *config, const void *made, uint64_t event) {}

void envoy_dynamic_module_on_http_filter_config_http_callout_done(void *config, const void *made, uint64_t id,
                                                                  int result, envoy_header *headers, size_t count,
                                                                  envoy_text *body, size_t chunks)
{
}

void envoy_dynamic_module_on_http_filter_config_http_stream_headers(void *config, const void *made, uint64_t id,
                                                                    envoy_header *headers, size_t count, bool end)
{
}

void envoy_dynamic_module_on_http_filter_config_http_stream_data(void *config, const void *made, uint64_t id,
                                                                 const envoy_text *data, size_t count, bool end)
{
}

void envoy_dynamic_module_on_http_filter_config_http_stream_trailers(void *config, const void *made, uint64_t id,
                                                                     envoy_header *trailers, size_t count)
{
}

void envoy_dynamic_module_on_http_filter_config_http_stream_complete(void *config, const void *made, uint64_t id) {}

void envoy_dynamic_module_on_http_filter_config_http_stream_reset(void *config, const void *made, uint64_t id,
                                                                  int reason)
{
}
