/* page.c: the parser of metrics pages. The first byte says the rank that is asked for. */
#include <string.h>

#include "brixflow.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
extern const char *const fuzz_seeds[];

const char *const fuzz_seeds[] = {
    "\x01# HELP x y\n# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{engine=\"0\",model_name=\"m\"} 2.0\n",
    "\x02vllm:request_queue_time_seconds_sum{engine=\"1\"} 1e3 17\nvllm:request_queue_time_seconds_count 4\n# EOF\n",
    "\x01sglang:token_usage{dp_rank=\"0\",model_name=\"a\\\"b\\\\\\n\"} +Inf\nkv_cache_utilization NaN\n",
    "\x03vllm:time_to_first_token_seconds_bucket{le=\"0.1\"} 3\nvllm:request_success_total{finished_reason=\"stop\"} 8\r\n",
    "\x01trtllm_kv_cache_utilization 0.4 # {trace=\"1\"} 0.5\n  spaced   { a = \"b\" , } -0x1p3\n",
    NULL,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    brix_reading reading;
    if (size == 0)
        return 0;
    brix_scrape scrape = {.page = {(const char *)data + 1, size - 1}, .model = {"m", 1}, .rank = (data[0] & 3) - 1};
    brix_metrics_read(&scrape, &reading);
    scrape.model = (brix_text){"", 0};
    brix_metrics_read(&scrape, &reading);
    return 0;
}
